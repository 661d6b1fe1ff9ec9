"""Newton matrices in single precision under a solution in double precision."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.stages import SingleFactors

PROBLEMS = {"HIRES": srx.problems.hires(), "VDPOL": srx.problems.van_der_pol()}


@functools.cache
def solved(name, mixed, rtol=1e-10):
    problem = PROBLEMS[name]
    sol = jax.jit(
        lambda y0: diffrax.diffeqsolve(
            diffrax.ODETerm(problem.vector_field),
            srx.RadauIIA9(mixed_precision=mixed),
            problem.t0,
            problem.t1,
            1e-4,
            y0,
            args=problem.args,
            stepsize_controller=srx.PredictiveController(rtol=rtol, atol=1e-3 * rtol),
            adjoint=srx.DiscreteAdjoint(),
            max_steps=4096,
        )
    )(jnp.asarray(problem.y0))
    return sol


def test_what_overflows_in_single_precision_does_not_pass_for_convergence():
    # Divided by an infinite entry the residual is zero.
    factors = SingleFactors(srx.Dense()).factor(np.ones(1), jnp.array([[-1e40]]))
    assert jnp.isnan(SingleFactors(srx.Dense()).solve(factors, jnp.ones((1, 1))))


def test_messages_name_the_structure_that_was_given():
    assert SingleFactors(srx.Banded(1, 2)).written == "Banded(1, 2)"


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_solution_has_the_accuracy_of_double_precision(name):
    true = PROBLEMS[name].reference_values[-1]
    errors = [np.max(np.abs(solved(name, mixed).ys[-1] / true - 1)) for mixed in (True, False)]
    assert errors[0] < max(2 * errors[1], 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_it_takes_about_as_many_iterations(name):
    mixed, double = (solved(name, m).stats["num_newton_iterations"] for m in (True, False))
    assert int(mixed) < 1.25 * int(double)


@pytest.mark.slow
def test_fixed_steps_converge_to_rounding_of_double_precision():
    problem = PROBLEMS["HIRES"]

    def end(mixed):
        solver = srx.RadauIIA5(mixed_precision=mixed)
        term = diffrax.ODETerm(problem.vector_field)
        return diffrax.diffeqsolve(term, solver, 0.0, 1.0, 0.1, problem.y0, problem.args).ys[-1]

    mixed, double = end(True), end(False)
    np.testing.assert_allclose(mixed, double, rtol=1e-12)
    assert not np.array_equal(mixed, double)


def test_the_factors_are_in_single_precision():
    structure = SingleFactors(srx.Dense())
    factors = structure.factor(np.array([3.0]), jnp.eye(8))
    assert factors.dtype == jnp.float32
    x = structure.solve(factors, 1e-60 * jnp.ones((1, 8)))
    assert x.dtype == jnp.float64
    np.testing.assert_allclose(x, 0.5e-60 * jnp.ones((1, 8)), rtol=1e-6)


@pytest.mark.slow
def test_a_banded_matrix_is_factored_in_single_precision_as_well():
    structure = SingleFactors(srx.Banded(1, 1))
    heat = lambda t, y, args: jnp.diff(jnp.pad(y, 1), 2)
    solver = srx.RadauIIA5(structure=srx.Banded(1, 1), mixed_precision=True)
    y0 = jnp.sin(jnp.pi * jnp.arange(1.0, 20.0) / 20)
    found, double = (
        diffrax.diffeqsolve(diffrax.ODETerm(heat), s, 0.0, 1.0, 0.25, y0).ys[-1]
        for s in (solver, srx.RadauIIA5())
    )
    assert isinstance(solver._jacobian_structure, type(structure))
    np.testing.assert_allclose(found, double, rtol=1e-12)


def test_a_structure_without_factors_is_refused():
    with pytest.raises(ValueError, match="no factors to keep in single precision"):
        srx.RadauIIA5(structure=srx.MatrixFree(), mixed_precision=True)
