"""Derivatives of whole solves, with respect to everything that a solve depends on."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_solver import SOLVERS
from jax.flatten_util import ravel_pytree

import stiffrax as srx


class Reaction(eqx.Module):
    """Nonlinear, time-dependent, stiff; its parameters are reached through the closure of a term."""

    rates: jax.Array

    def __call__(self, t, y, args):
        forward = self.rates[0] * y["a"] ** 2
        backward = self.rates[1] * y["b"]
        return {"a": backward - forward, "b": forward - backward - args * y["b"] + jnp.sin(t)}


INPUTS = {
    "y0": {"a": jnp.array([1.0]), "b": jnp.array([0.5])},
    "parameters": Reaction(jnp.array([2.0, 30.0])),
    "args": jnp.array(0.7),
    "t0": jnp.array(0.1),
    "t1": jnp.array(0.85),
}


def end(solver, inputs, adjoint=None, step_to=False):
    """A scalar of the end of the solve, after three steps."""
    t0, t1 = inputs["t0"], inputs["t1"]
    controller = diffrax.ConstantStepSize()
    if step_to:
        controller = diffrax.StepTo(ts=t0 + (t1 - t0) * jnp.linspace(0, 1, 4))
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(inputs["parameters"]),
        solver,
        t0,
        t1,
        None if step_to else 0.3,
        inputs["y0"],
        inputs["args"],
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        stepsize_controller=controller,
        max_steps=4,
    )
    return jnp.sum(jnp.sin(3 * sol.ys["a"]) + sol.ys["b"] ** 2)


def gradient(f):
    return jax.jit(jax.grad(f))(INPUTS)


def gradient_and_differences(f):
    """By one program; the differences are of fourth order."""
    x, unravel = ravel_pytree(INPUTS)
    both, h = jax.jit(jax.value_and_grad(lambda x: f(unravel(x)))), 1e-3

    def value(x):
        return both(x)[0]

    slopes = [
        (value(x - 2 * e) - 8 * value(x - e) + 8 * value(x + e) - value(x + 2 * e)) / (12 * h)
        for e in h * jnp.eye(x.size)
    ]
    return unravel(both(x)[1]), unravel(jnp.stack(slopes))


def assert_equal(found, expected, rtol):
    for name in INPUTS:
        a, b = ravel_pytree(found[name])[0], ravel_pytree(expected[name])[0]
        np.testing.assert_allclose(a, b, rtol=rtol, err_msg=name)


@pytest.mark.slow_cases(
    "Backward*", "Trap*", "RadauIIA5", "RadauIIA9", "RadauIIA13", "Gauss*", "Ro*"
)
@pytest.mark.parametrize("name", SOLVERS)
def test_gradients_are_those_of_central_differences(name):
    f = functools.partial(end, SOLVERS[name])
    assert_equal(*gradient_and_differences(f), 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RadauIIA5", "Trapezoid", "Rodas5P"])
def test_gradients_with_given_step_times_are_those_of_central_differences(name):
    f = functools.partial(end, SOLVERS[name], step_to=True)
    assert_equal(*gradient_and_differences(f), 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RadauIIA5", "Rodas5P"])
def test_every_way_to_differentiate_gives_the_same_gradient(name):
    solver = SOLVERS[name]
    checkpointed = gradient(functools.partial(end, solver))
    direct = functools.partial(end, solver, adjoint=diffrax.DirectAdjoint())
    assert_equal(gradient(direct), checkpointed, 1e-11)
    forward = functools.partial(end, solver, adjoint=diffrax.ForwardMode())
    assert_equal(jax.jit(jax.jacfwd(forward))(INPUTS), checkpointed, 1e-11)


@pytest.mark.slow
def test_the_gradient_of_a_steady_state_is_found_without_the_way_to_it():
    def rest(p):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: args - y**3),
            srx.BackwardEuler(),
            0.0,
            jnp.inf,
            1.0,
            jnp.array([1.5]),
            p,
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
            adjoint=diffrax.ImplicitAdjoint(),
            event=diffrax.Event(diffrax.steady_state_event()),
            max_steps=None,
        )
        return sol.ys[0, 0]

    with jax.numpy_dtype_promotion("standard"):  # diffrax multiplies the time by an integer
        gradient = jax.grad(rest)(8.0)
    np.testing.assert_allclose(gradient, 1 / (3 * 8 ** (2 / 3)), rtol=1e-4)


@pytest.mark.slow
def test_the_gradient_of_saved_values_is_that_of_the_collocation_polynomial():
    # The trapezoid rule: its polynomial also holds the slope at the start of the step.
    @functools.partial(jax.jit, static_argnums=0)
    def saved(solver, p):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -args * y**2),
            solver,
            0.0,
            0.5,
            0.25,
            jnp.array(1.0),
            p,
            saveat=diffrax.SaveAt(ts=jnp.array([0.1, 0.3, 0.5])),
            adjoint=diffrax.ForwardMode(),
            max_steps=2,
        )
        return sol.ys

    for solver in (srx.Trapezoid(), srx.GaussLegendre4()):
        slope = jax.jacfwd(functools.partial(saved, solver))(2.0)
        differences = (saved(solver, 2 + 1e-5) - saved(solver, 2 - 1e-5)) / 2e-5
        np.testing.assert_allclose(slope, differences, rtol=1e-8)


def segment_loss(p, solver, args):
    ts, ys = jnp.array([[0.0, 0.1, 0.4]]), jnp.array([[[1.0, 0.2], [0.9, 0.1], [0.7, 0.1]]])
    found = srx.segment_predictions(
        lambda t, y, args: jnp.stack([-p[0] * y[0] * y[1], p[1] * y[0] - args * y[1] ** 3]),
        ts,
        ys,
        solver,
        substeps=2,
        args=args,
    )
    return jnp.sum((found - ys[:, 1:]) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["RadauIIA5", "Trapezoid", "Rodas5P"])
def test_first_and_second_derivatives_of_segments_are_those_of_central_differences(name):
    f = functools.partial(segment_loss, solver=SOLVERS[name], args=20.0)
    p, h = jnp.array([1.0, 5.0]), 1e-4
    slope, hessian = jax.jit(jax.grad(f)), jax.jit(jax.hessian(f))
    # Two substeps are a scan, whose linearization forgets custom derivative rules.
    twice_reverse = jax.jit(jax.jacrev(jax.grad(f)))(p)
    np.testing.assert_allclose(twice_reverse, hessian(p), rtol=1e-10)
    for k, e in enumerate(jnp.eye(2)):
        difference = (f(p + h * e) - f(p - h * e)) / (2 * h)
        np.testing.assert_allclose(slope(p)[k], difference, rtol=1e-6)
        differences = (slope(p + h * e) - slope(p - h * e)) / (2 * h)
        np.testing.assert_allclose(hessian(p)[k], differences, rtol=1e-6)


@pytest.mark.slow
def test_second_derivatives_of_a_solve_are_those_of_central_differences():
    f = functools.partial(end, SOLVERS["RadauIIA3"], adjoint=diffrax.DirectAdjoint())

    def of_parameters(rates):
        return f({**INPUTS, "parameters": Reaction(rates)})

    slope, hessian = jax.jit(jax.grad(of_parameters)), jax.jit(jax.hessian(of_parameters))
    rates, h = INPUTS["parameters"].rates, 1e-4
    for k, e in enumerate(jnp.eye(2)):
        differences = (slope(rates + h * e) - slope(rates - h * e)) / (2 * h)
        np.testing.assert_allclose(hessian(rates)[k], differences, rtol=1e-6)


@pytest.mark.slow
def test_stiffness_costs_gradients_no_digits():
    # Robertson's rates differ by nine orders of magnitude, and so do the entries of the matrix.
    problem = srx.problems.robertson()
    ts, ys = problem.reference_times[:2], problem.reference_values[:2]

    @jax.jit
    def end(log_rates):
        found = srx.segment_predictions(
            problem.vector_field,
            ts[None],
            ys[None],
            srx.RadauIIA5(),
            args=tuple(jnp.exp(log_rates)),
        )
        return found[0, 0] / ys[1]

    at, h = jnp.log(jnp.array(problem.args)), 1e-4
    differences = [(end(at + h * e) - end(at - h * e)) / (2 * h) for e in jnp.eye(3)]
    jacobian = jax.jit(jax.jacrev(end))(at)
    np.testing.assert_allclose(jacobian, jnp.stack(differences, axis=1), rtol=1e-6, atol=1e-9)
