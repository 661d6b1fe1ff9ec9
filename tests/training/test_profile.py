"""Sides of a profile of a cost that has a closed form, without any solve."""

import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._box_trust_region import Box, Found
from stiffrax.training._likelihood_model import LikelihoodModel
from stiffrax.training._lockstep import Evaluation, run_together
from stiffrax.training._parameter_vector import ParameterVector
from stiffrax.training._profile import _side, profile_searches

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
    assert side.why == "level"
    np.testing.assert_allclose(side.end, sign * 0.1 * np.arcsinh(np.sqrt(2 * RISE)), rtol=0.02)


class Costs(LikelihoodModel):  # type: ignore
    """A model whose evaluations are given, of a system with two parameters."""

    def __init__(self, evaluate):
        system = srx.System(lambda t, y, args: -y, srx.bounded([0.0, 0.0], -100.0, 100.0))
        self.vector, self._evaluate = ParameterVector(system), evaluate

    def __call__(self, points):
        return [self._evaluate(x) for x in points]


def profile_of(evaluate, box=BOX, max_steps=50):
    best = Found(np.zeros(2), evaluation(np.zeros(2)), 0, 0, "converged")
    options = {
        "rises": [RISE],
        "errors": np.full(2, 0.1),
        "max_steps": max_steps,
        "progress": False,
    }
    (profile,) = profile_searches(Costs(evaluate), box, best, [0], **options).values()
    return profile


def test_the_width_of_the_bounds_does_not_end_a_profile_at_a_failed_solve():
    wide = BOX._replace(upper=np.array([1e9, 100.0]), scale=np.array([1e8, 1.0]))

    def fails_beyond(x):
        return evaluation(x) if x[0] < 0.12 else Evaluation(np.inf, np.full((3, 3), np.nan), 1)

    best = Found(np.zeros(2), evaluation(np.zeros(2)), 0, 0, "converged")
    search = _side(best, wide, 0, 1.0, RISE, 1.0, 50)
    (side,) = run_together([search], lambda points: [fails_beyond(x) for x in points])
    assert side is not None
    assert side.why == "solves fail before the end"
    assert side.xs[-1] > 0.119


def flat(x):
    return Evaluation(0.0, np.zeros((3, 3)), 0)


def interrupted(x):
    raise KeyboardInterrupt


def failing(x):
    """Nothing can be solved but near the best point."""
    return evaluation(x)._replace(num_failed=int(abs(x[0]) > 0.03))


@pytest.mark.parametrize(
    ("evaluate", "box", "verdict", "ends"),
    [
        (evaluation, BOX, "identifiable", 0.1 * np.arcsinh(np.sqrt(2 * RISE)) * np.r_[-1, 1]),
        (interrupted, BOX, "interrupted", [np.nan, np.nan]),
        (failing, BOX, "solves fail before the end", [np.nan, np.nan]),
        (flat, BOX, "not followed to the end", [np.nan, np.nan]),
        (
            flat,
            Box(np.full(2, -3.0), np.full(2, 3.0), np.ones(2)),
            "structurally not identifiable",
            [-3, 3],
        ),
        (
            evaluation,
            BOX._replace(lower=np.full(2, -0.01)),
            "practically not identifiable",
            [-0.01, 0.1 * np.arcsinh(np.sqrt(2 * RISE))],
        ),
    ],
)
def test_a_verdict_says_what_was_seen(evaluate, box, verdict, ends):
    found = profile_of(evaluate, box)
    assert found.verdict == verdict
    np.testing.assert_allclose([found.lower, found.upper], ends, rtol=0.02)


def test_a_fit_on_the_way_that_was_cut_off_ends_no_interval():
    # The other parameter is followed too slowly: in one step a tenth of the way.
    def slow(x):
        c = np.array([0.1 * x[0], 10 * (x[1] - x[0])])
        J = np.array([[0.1, 0.0], [-100.0, 100.0]])
        rows = np.concatenate([np.column_stack([J, c]), np.zeros((1, 3))])
        return Evaluation(0.5 * float(c @ c), np.linalg.qr(rows, "r"), 0)

    found = profile_of(slow, max_steps=1)
    assert found.verdict == "not followed to the end"
    assert np.isnan([found.lower, found.upper]).all()
