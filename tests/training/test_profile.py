"""Sides of a profile of a cost that has a closed form, without any solve."""

import numpy as np
import pytest

from stiffrax.training._box_trust_region import Box, Found
from stiffrax.training._lockstep import Evaluation, run_together
from stiffrax.training._profile import _side

# The rise at the ends of a 95 % interval.
RISE = 1.920729
BOX = Box(np.full(2, -100.0), np.full(2, 100.0), np.ones(2))


def evaluation(x):
    """Half of sinh(10 x0)^2 + (x1 - x0)^2, with its Gauss-Newton model."""
    c = np.array([np.sinh(10 * x[0]), x[1] - x[0]])
    J = np.array([[10 * np.cosh(10 * x[0]), 0.0], [-1.0, 1.0]])
    rows = np.concatenate([np.column_stack([J, c]), np.zeros((1, 3))])
    return Evaluation(0.5 * float(c @ c), np.linalg.qr(rows, "r"), 0)


@pytest.mark.parametrize("wrong", [1.0, 0.1, 50.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_end_of_an_interval_does_not_depend_on_the_first_stride(wrong, sign):
    best = Found(np.zeros(2), evaluation(np.zeros(2)), 0, 0, "converged")
    search = _side(best, BOX, 0, sign, RISE, 0.1 * wrong, 50)
    (side,) = run_together([search], lambda points: [evaluation(x) for x in points])
    assert side is not None
    assert side.left
    np.testing.assert_allclose(side.end, sign * 0.1 * np.arcsinh(np.sqrt(2 * RISE)), rtol=0.02)
