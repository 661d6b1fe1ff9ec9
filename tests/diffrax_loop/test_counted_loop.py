import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx

CONTROLLERS = {
    "fixed": diffrax.ConstantStepSize(),
    "stock": diffrax.PIDController(rtol=1e-6, atol=1e-8),
    "predictive": srx.PredictiveController(rtol=1e-6, atol=1e-8),
}


@functools.cache
def program(name, solver="RadauIIA5"):
    def solve(rate):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -rate * y**2),
            getattr(srx, solver)(),
            0.0,
            2.0,
            # A first step of 0.5 has no root near the solution: adaptive ones are rejected.
            0.1 if name == "fixed" else 0.5,
            jnp.array([1.0, 0.5]),
            stepsize_controller=CONTROLLERS[name],
            adjoint=srx.DiscreteAdjoint(),
            max_steps=256,
            throw=False,
        )

    return solve


@functools.cache
def solution(name, solver="RadauIIA5"):
    return jax.jit(program(name, solver))(30.0)


@pytest.mark.parametrize("name", CONTROLLERS)
class TestCounts:
    @pytest.mark.slow_cases("fixed", "predictive")
    def test_rejections_add_up(self, name):
        stats = solution(name).stats
        rejected = stats["num_rejected_by_error"] + stats["num_rejected_by_newton"]
        assert rejected == stats["num_rejected_steps"]
        assert rejected > 0 or name != "stock"

    @pytest.mark.slow_cases("fixed", "predictive")
    def test_all_but_two_are_numbers_as_the_page_for_users_of_diffrax_says(self, name):
        stats = solution(name).stats
        nested = {key for key, value in stats.items() if isinstance(value, dict)}
        assert nested == {"last_step", "setup"}
        counts = {key: int(x) for key, x in stats.items() if key.startswith("num_")}
        assert set(stats) == {*counts, *nested, "max_steps"}

    @pytest.mark.slow_cases("fixed", "predictive")
    def test_every_step_of_a_small_system_takes_a_jacobian_and_a_factorization(self, name):
        sol = solution(name)
        stats = sol.stats
        assert sol.result == diffrax.RESULTS.successful
        assert stats["num_jacobians"] == stats["num_factorizations"] == stats["num_steps"]

    @pytest.mark.slow_cases("predictive")
    def test_evaluations_are_those_of_the_stages_and_of_the_error_estimate(self, name):
        stats = solution(name).stats
        stages = 3 * stats["num_newton_iterations"]
        estimates = stats["num_f_evaluations"] - stages
        if name == "fixed":
            assert estimates == 0
        else:
            assert stats["num_steps"] <= estimates <= 2 * stats["num_steps"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "stages", "name"), [("Trapezoid", 1, "fixed"), ("GaussLegendre4", 2, "stock")]
)
def test_a_slope_is_counted_where_a_step_reads_it_and_not_elsewhere(solver, stages, name):
    """That at the start of an explicit first stage; for Gauss methods that at the end."""
    stats = solution(name, solver).stats
    others = stats["num_f_evaluations"] - stages * stats["num_newton_iterations"]
    assert others == stats["num_steps"]


@pytest.mark.slow
def test_the_solution_is_that_without_counting():
    controller = CONTROLLERS["predictive"]
    plain = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -30.0 * y**2),
        srx.RadauIIA5(),
        0.0,
        2.0,
        0.5,
        jnp.array([1.0, 0.5]),
        stepsize_controller=controller,
        max_steps=256,
    )
    counted = solution("predictive")
    np.testing.assert_allclose(counted.ys, plain.ys, rtol=1e-14)
    assert counted.stats["num_steps"] == plain.stats["num_steps"]


def test_counts_of_a_lane_are_those_that_it_has_alone():
    rates = jnp.array([0.1, 30.0, 300.0])
    batch = jax.jit(jax.vmap(lambda rate: program("stock")(rate).stats))(rates)
    for key in ("num_newton_iterations", "num_f_evaluations", "num_rejected_by_error"):
        assert batch[key][1] == solution("stock").stats[key]
    assert len(set(batch["num_newton_iterations"].tolist())) == 3


@pytest.mark.slow
def test_the_last_attempt_tells_where_it_was():
    def field(t, y, args):
        return jnp.stack([-y[0], y[1] ** 2])

    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        2.0,
        0.1,
        jnp.ones(2),
        stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-8, dtmin=1e-9),
        adjoint=srx.DiscreteAdjoint(),
        throw=False,
    )
    last = sol.stats["last_step"]
    assert sol.result == diffrax.RESULTS.dt_min_reached
    assert abs(last["t"] - 1) < 1e-6
    assert last["h"] < 2e-9
    assert last["component"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("finder", [optx.Newton, optx.Chord])
def test_any_root_finder_is_counted(finder):
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -(y**3)),
        srx.BackwardEuler(root_finder=finder(1e-8, 1e-8)),
        0.0,
        1.0,
        0.5,
        jnp.ones(2),
        adjoint=srx.DiscreteAdjoint(),
    )
    iterations = sol.stats["num_newton_iterations"]
    assert iterations > 2
    # Beside that of each step for its error: one in each iteration, or one for all of a step.
    assert sol.stats["num_jacobians"] == 2 + (iterations if finder is optx.Newton else 2)
    assert sol.stats["num_factorizations"] == sol.stats["num_jacobians"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["robertson", "van_der_pol", "hires"])
def test_a_lane_of_a_stiff_ensemble_takes_the_steps_it_takes_alone(name):
    problem = getattr(srx.problems, name)()

    def num_steps(y0):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(problem.vector_field),
            srx.RadauIIA5(),
            problem.t0,
            problem.t1,
            1e-6,
            y0,
            stepsize_controller=diffrax.PIDController(rtol=1e-7, atol=1e-10),
            max_steps=100_000,
        ).stats["num_steps"]

    y0 = jnp.asarray(problem.y0)
    starts = y0[None] * (1 + 0.01 * jax.random.normal(jax.random.key(0), (8, len(y0))))
    together, alone = jax.jit(jax.vmap(num_steps))(starts), jax.jit(num_steps)
    assert len(set(together.tolist())) > 1
    assert together.tolist() == [int(alone(start)) for start in starts]


@pytest.mark.slow
def test_a_solve_without_a_step_returns_no_nan():
    solve = lambda t1: diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y),
        srx.BackwardEuler(),
        0.0,
        t1,
        0.5,
        jnp.array(1.0),
        adjoint=srx.DiscreteAdjoint(),
    )
    stats = jax.jit(solve)(0.0).stats
    assert not any(jnp.isnan(x) for x in jax.tree.leaves(stats))
