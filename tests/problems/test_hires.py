"""HIRES: its terms, its conservation law and its training starts."""

import pathlib

import jax
import numpy as np
import pytest

import stiffrax as srx


def test_hires_has_24_terms():
    import sympy

    equations = srx.problems.hires().true_equations().values()
    assert sum(len(sympy.Add.make_args(equation)) for equation in equations) == 24


def test_conserved_sum_has_no_slope():
    field = jax.jit(srx.problems.hires().vector_field)
    for y in srx.problems.hires_initial_states():
        slope = np.asarray(field(0.0, y))
        assert abs(slope[6] + slope[7]) < 1e-15 * np.abs(slope).max()


def test_reference_keeps_the_conserved_sum():
    np.testing.assert_allclose(srx.problems.hires().reference_values[:, 6:].sum(1), 0.0057)


@pytest.mark.parametrize("state", range(8))
def test_initial_states_form_a_latin_hypercube(state):
    low, high = [(0.1, 1.5), *[(0.0, 1.0)] * 6, (0.0005, 0.05)][state]
    values = srx.problems.hires_initial_states()[:, state]
    strata = np.floor(20 * (values - low) / (high - low)).astype(int)
    assert sorted(strata) == list(range(20))


def test_initial_states_can_be_changed_without_harm():
    srx.problems.hires_initial_states()[:] = 0
    assert srx.problems.hires_initial_states().min() > 0


def test_stored_runs_start_at_the_initial_states_and_keep_the_conserved_sum():
    path = pathlib.Path(__file__).parents[2] / "examples" / "data" / "hires.csv"
    data = srx.Trajectories.from_csv(path)
    assert (data.num_runs, data.num_segments) == (20, 6000)
    np.testing.assert_array_equal(data.ys[:, 0], srx.problems.hires_initial_states())
    np.testing.assert_array_equal(data.ts[:, -1], srx.problems.hires().t1)
    total = data.ys[..., 6] + data.ys[..., 7]
    np.testing.assert_allclose(total, np.broadcast_to(total[:, :1], total.shape), rtol=1e-8)
