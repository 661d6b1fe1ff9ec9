"""When a search between bounds has converged."""

import numpy as np
import pytest

from stiffrax.training._box_trust_region import Box, minimize
from stiffrax.training._lockstep import Evaluation, run_together

FLAT = Evaluation(0.5, np.array([[1e-6, 1e-3], [0.0, 1.0]]), 0)


@pytest.mark.parametrize(("failed", "stopped"), [(0, "converged"), (1, "stalled")])
def test_on_a_flat_cost_a_step_whose_solve_failed_is_none_that_was_tried(failed, stopped):
    box = Box(np.full(1, -9.0), np.full(1, 9.0), np.ones(1))

    def evaluate(xs):
        return [FLAT._replace(num_failed=failed * int(x[0] != 0)) for x in xs]

    (found,) = run_together([minimize(np.zeros(1), box, 100)], evaluate)
    assert found is not None
    assert found.stopped == stopped
