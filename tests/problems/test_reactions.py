"""HIRES and POLLU: their terms, what they conserve, how stiff they are."""

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


def test_sulfur_is_conserved():
    problem = srx.problems.pollution()
    y = np.random.default_rng(0).uniform(size=20)
    slope = dict(zip(problem.names, jax.jit(problem.vector_field)(0.0, y), strict=True))
    assert slope["SO2"] + slope["SO4"] == 0


def test_nitrogen_is_conserved():
    problem = srx.problems.pollution()
    atoms = {"NO2": 1, "NO": 1, "PAN": 1, "HNO3": 1, "NO3": 1, "N2O5": 2}
    y = np.random.default_rng(0).uniform(size=20)
    slope = dict(zip(problem.names, jax.jit(problem.vector_field)(0.0, y), strict=True))
    flow = [count * float(slope[name]) for name, count in atoms.items()]
    assert abs(sum(flow)) < 1e-14 * max(map(abs, flow))


def test_fastest_rate_at_the_start():
    problem = srx.problems.pollution()
    jacobian = jax.jit(jax.jacfwd(problem.vector_field, argnums=1))(0.0, problem.y0)
    np.testing.assert_allclose(np.linalg.eigvals(jacobian).real.min(), -4.441e11, rtol=1e-4)
