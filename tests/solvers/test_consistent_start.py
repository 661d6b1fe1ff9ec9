"""A start that violates the constraints is reported, not solved from."""

import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

SUCCESS = diffrax.RESULTS.successful
MASS = np.array([1.0, 0.0])


def square(t, x, args):
    """Decay of y, and z = y^2."""
    y, z = x
    return jnp.stack([-y, z - y**2])


TERM = srx.MassMatrixTerm(square, MASS)
GOOD, BAD = jnp.array([2.0, 4.0]), jnp.array([2.0, 3.0])


def solve(y0, term=TERM, solver=None, throw=True):
    return diffrax.diffeqsolve(
        term, solver or srx.RadauIIA5(), 0.0, 1.0, None, y0, throw=throw,
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-8),
    )  # fmt: skip


def test_an_inconsistent_start_raises_the_name_of_the_cure():
    with pytest.raises(eqx.EquinoxRuntimeError, match="consistent_initial_values"):
        solve(BAD)


@pytest.mark.slow
def test_without_raising_it_ends_at_once_and_other_lanes_are_what_they_were():
    batch = jax.jit(jax.vmap(lambda y0: solve(y0, throw=False)))
    sol, good = batch(jnp.stack([GOOD, BAD])), batch(jnp.stack([GOOD, GOOD]))
    np.testing.assert_array_equal(sol.result == SUCCESS, [True, False])
    assert (sol.result == diffrax.RESULTS.nonlinear_divergence)[1]
    assert sol.stats["num_steps"][1] == 1
    np.testing.assert_array_equal(sol.ys[0], good.ys[0])
    np.testing.assert_allclose(sol.ys[0, -1], [2 * np.exp(-1), 4 * np.exp(-2)], rtol=1e-5)


def jumping(t, x, jumps):
    """At 1/2 the slope of y jumps, and the place of the constraint."""
    y, z = x
    of_slope, of_constraint = jnp.where(t < 0.5, 0.0, jumps)
    return jnp.stack([of_slope - y, z - y**2 - of_constraint])


@eqx.filter_jit
def solve_over_a_jump(solver, jumps, throw=True):
    controller = diffrax.PIDController(rtol=1e-6, atol=1e-8)
    return diffrax.diffeqsolve(
        srx.MassMatrixTerm(jumping, MASS), solver, 0.0, 1.0, None, GOOD, jumps,
        saveat=diffrax.SaveAt(ts=jnp.array([0.5, 0.51, 0.9])), throw=throw,
        stepsize_controller=diffrax.ClipStepSizeController(controller, jump_ts=jnp.array([0.5])),
    )  # fmt: skip


def test_a_rosenbrock_method_goes_on_behind_a_jump_only_where_the_constraints_hold():
    y = 1 + (2 * np.exp(-0.5) - 1) * np.exp(-0.4)
    sol = solve_over_a_jump(srx.Rodas5P(), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(sol.ys[2], [y, y**2], rtol=1e-5)
    with pytest.raises(eqx.EquinoxRuntimeError, match="a jump at one of the times in `jump_ts`"):
        solve_over_a_jump(srx.Rodas5P(), jnp.array([0.0, 1.0]))


def test_values_behind_a_jump_of_the_constraints_are_right_by_a_short_step():
    sol = solve_over_a_jump(srx.RadauIIA5(), jnp.array([0.0, 1.0]))
    y = 2 * np.exp(-0.51)
    np.testing.assert_allclose(sol.ys[1], [y, y**2 + 1], rtol=1e-5)
    assert sol.stats["num_steps"] < 40


@pytest.mark.slow
def test_values_behind_a_jump_of_the_constraints_are_right_or_none_at_all():
    jumps = jnp.array([0.0, 1.0])
    y = 2 * np.exp(-np.array([0.51, 0.9]))
    for solver in (srx.RadauIIA3(), srx.RadauIIA5(), srx.RadauIIA9()):
        sol = solve_over_a_jump(solver, jumps)
        np.testing.assert_allclose(sol.ys[1:], np.stack([y, y**2 + 1], axis=1), rtol=1e-5)
    for solver in (srx.Rodas3P(), srx.Rodas4P()):
        sol = solve_over_a_jump(solver, jumps, throw=False)
        assert sol.result == diffrax.RESULTS.nonlinear_divergence
        assert not np.any(np.isfinite(sol.ys[1:]))


def test_a_start_within_the_tolerance_passes():
    assert solve(GOOD + jnp.array([0.0, 1e-6])).result == SUCCESS


@pytest.mark.slow
def test_fixed_steps_let_the_rounding_of_another_precision_pass():
    y = np.float32(1.1)
    y0 = jnp.array([y, np.float32(y * y)], float)
    for start, expected in ((y0, True), (y0 + 0.1, False)):
        sol = diffrax.diffeqsolve(TERM, srx.RadauIIA5(), 0.0, 0.1, 0.1, start, throw=False)
        assert (sol.result == SUCCESS) == expected


@pytest.mark.slow
def test_a_general_singular_mass_knows_its_constraint():
    # Twice the same derivative: the difference of the rows is a constraint.
    def field(t, x, args):
        y, z = x
        return jnp.stack([-y, -y + z - y**2])

    term = srx.MassMatrixTerm(field, np.array([[1.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(
        solve(GOOD, term).ys[-1], [2 * np.exp(-1), 4 * np.exp(-2)], rtol=1e-5
    )
    with pytest.raises(eqx.EquinoxRuntimeError, match="consistent_initial_values"):
        solve(BAD, term)


def test_a_mass_that_turns_out_singular_is_refused_when_it_runs():
    @jax.jit
    def run(mass):
        return solve(GOOD, srx.MassMatrixTerm(square, mass), srx.GaussLegendre4()).ys

    assert jnp.all(jnp.isfinite(run(jnp.array([1.0, -1.0]))))
    with pytest.raises(Exception, match="stiffrax.RadauIIA5"):
        jax.block_until_ready(run(jnp.array(MASS)))


@pytest.mark.slow
def test_a_mass_outside_of_the_structure_is_refused():
    term = srx.MassMatrixTerm(lambda t, y, args: -y, jnp.eye(4).at[0, 3].set(1.0))
    for structure, mixed in ((srx.Banded(1, 1), True), (srx.BlockDiagonal(2), False)):
        solver = srx.RadauIIA5(structure=structure, mixed_precision=mixed)
        message = re.escape(f"`structure={structure.written}`")
        with pytest.raises(eqx.EquinoxRuntimeError, match=message):
            solve(jnp.ones(4), term, solver)


@pytest.mark.slow
def test_an_infinite_slope_is_no_violation_of_the_constraints():
    field = lambda t, y, args: jnp.stack([1 / y[0], y[0] - y[1]])
    solution = diffrax.diffeqsolve(
        srx.MassMatrixTerm(field, jnp.array([1.0, 0.0])),
        srx.RadauIIA5(),
        0.0,
        1.0,
        None,
        jnp.zeros(2),
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
        throw=False,
    )
    assert solution.result == diffrax.RESULTS.nonfinite


@pytest.mark.slow
def test_fixed_steps_in_single_precision_refuse_what_double_precision_refuses():
    def result(x):
        y0 = jnp.array([1.1, x], jnp.float32)
        h = jnp.float32(0.1)
        return diffrax.diffeqsolve(
            TERM, srx.BackwardEuler(), 0 * h, h, h, y0, throw=False, adjoint=diffrax.DirectAdjoint()
        ).result

    assert result(1.21) == SUCCESS
    # By a hundredth of itself.
    assert result(1.222) != SUCCESS


@pytest.mark.parametrize("solver", [srx.BackwardEuler(), srx.Rodas3P()], ids=["euler", "rodas"])
def test_a_first_step_of_no_length_is_judged_as_any_other(solver):
    @eqx.filter_jit
    def passes(x):
        zero = jnp.zeros(())
        return solver.init(TERM, zero, zero, x, None).consistent

    rounded = jnp.nextafter(GOOD[1], 0.0)
    assert passes(GOOD.at[1].set(rounded))
    with pytest.raises(eqx.EquinoxRuntimeError, match="consistent_initial_values"):
        passes(BAD)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_large_terms_that_cancel_excuse_their_rounding_and_no_more(dtype):
    eps = jnp.finfo(dtype).eps
    large = float(eps) ** -0.5

    def difference(t, x, args):
        return jnp.stack([-x[0], x[1] ** 3 + x[1] - large * (x[0] - 1)])

    @eqx.filter_jit
    def consistent(x):
        zero = jnp.zeros((), dtype)
        term = srx.MassMatrixTerm(difference, MASS)
        return srx.BackwardEuler().init(term, zero, zero, x, None).consistent

    assert consistent(jnp.array([1 + 4 * eps, 0.0], dtype))
    with pytest.raises(eqx.EquinoxRuntimeError, match="consistent_initial_values"):
        consistent(jnp.array([1.0, 0.3], dtype))


def solve_chain(rows, structure):
    """Nine times `x' = u - x` with `u = cos t` and `v = sin t - x`, the constraints in these rows."""

    @jax.jit
    def from_time(at):
        def chain(t, y, args):
            x, u, v = y.reshape(-1, 3).T
            constraints = (u - jnp.cos(t), v + x - jnp.sin(t))
            return jnp.stack([u - x, *(constraints[i] for i in rows)], 1).reshape(-1)

        x = jnp.linspace(0.1, 1.0, 9)
        y0 = jnp.stack([x, jnp.cos(at) + 0 * x, jnp.sin(at) - x], 1).reshape(-1)
        term = srx.MassMatrixTerm(chain, np.tile([1.0, 0.0, 0.0], 9))
        solver = srx.BackwardEuler(structure=structure)
        return diffrax.diffeqsolve(term, solver, at, at + 1, 0.5, y0).ys[-1].reshape(-1, 3)

    return from_time


def test_a_band_without_pivots_is_told_from_a_start_off_the_constraints():
    # Each constraint is in the row of a component that it does not contain.
    run = solve_chain((1, 0), srx.Banded(1, 1))
    message = r"in `structure=Banded\(1, 1\)`.*in the row of a component.*Dense"
    # At zero the constraints hold exactly.
    for at in (0.3, 0.0):
        with pytest.raises(Exception, match=message):
            jax.block_until_ready(run(at))


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "structure"), [((0, 1), srx.Banded(2, 1)), ((1, 0), srx.Dense())])
def test_what_is_advised_for_a_band_without_pivots_solves(rows, structure):
    x, u, v = solve_chain(rows, structure)(0.3).T
    np.testing.assert_allclose(u, np.cos(1.3))
    np.testing.assert_allclose(v, np.sin(1.3) - x)
