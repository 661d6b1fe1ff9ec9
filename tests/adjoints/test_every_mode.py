"""`DiscreteAdjoint` in every mode of differentiation, with respect to everything that a solve has."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import stiffrax as srx

DISCRETE = srx.DiscreteAdjoint(chunk=8)
STEPS = diffrax.ConstantStepSize()


class Reaction(eqx.Module):
    """Stiff, nonlinear and time-dependent, on a pytree."""

    rates: jax.Array

    def __call__(self, t, y, args):
        exchange = self.rates[1] * y["b"] - self.rates[0] * y["a"] ** 2
        return {"a": exchange, "b": -exchange - args * y["b"] + jnp.sin(t)}


INPUTS = {
    "y0": {"a": jnp.array([1.0]), "b": jnp.array([0.5])},
    "rates": jnp.array([2.0, 30.0]),
    "args": jnp.array(0.7),
    "weight": jnp.array(1.3),
    "t0": jnp.array(0.1),
    "t1": jnp.array(0.9),
    # The third is where a step ends: of values there, to the left and to the right are one.
    "ts": jnp.array([0.2, 0.31, 0.55, 0.8]),
}


def everything(inputs):
    """All that a solve can save, at once."""
    weight, ts = inputs["weight"], inputs["ts"]
    return diffrax.SaveAt(
        subs=[
            diffrax.SubSaveAt(t0=True, ts=ts, t1=True),
            {"steps": diffrax.SubSaveAt(steps=True, ts=ts, fn=lambda t, y, args: t * y["a"])},
            diffrax.SubSaveAt(ts=ts, fn=lambda t, y, args: weight * t * y["b"] ** 2 * args),
        ]
    )


def values(inputs, adjoint=DISCRETE, saveat=everything, solver=None, **changes):
    """Everything saved, of fixed steps, so that differences are those of the same steps."""
    options = {"stepsize_controller": STEPS, "max_steps": 6, "throw": False} | changes
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(Reaction(inputs["rates"])),
        srx.RadauIIA3() if solver is None else solver,
        inputs["t0"],
        inputs["t1"],
        None if "max_steps" in changes else 0.15,
        inputs["y0"],
        inputs["args"],
        adjoint=adjoint,
        saveat=saveat(inputs),
        **options,
    )
    leaves = jax.tree.leaves((sol.ts, sol.ys))
    return jnp.concatenate([jnp.where(jnp.isfinite(x), x, 0).ravel() for x in leaves])


@pytest.mark.slow_cases("grad")
@pytest.mark.parametrize("mode", [jax.jacfwd, jax.grad], ids=["jacfwd", "grad"])
def test_a_decay_by_backward_euler_has_its_closed_form_in_both_modes(mode):
    def end(rate, t1):
        # Closed over, beside what has no derivative.
        field = lambda t, y, args: -rate * args["count"] * y
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            srx.BackwardEuler(),
            0.0,
            t1,
            0.5,
            1.0,
            {"count": 2, "none": None, "label": "decay"},
            adjoint=srx.DiscreteAdjoint(chunk=2),
            max_steps=4,
        ).ys[-1]

    rate, t1 = jnp.array(1.5), jnp.array(1.0)
    # Two steps of 0.5 have the factors 1 / (1 + 2 rate h); the second one follows the end.
    expected = [-2 * 0.4**3, -3 * 0.4**3]
    np.testing.assert_allclose(jax.jit(mode(end, (0, 1)))(rate, t1), expected, rtol=1e-12)


FLAT, RESTORE = ravel_pytree(INPUTS)


def of_flat(x, **options):
    return values(RESTORE(x), **options)


@functools.cache
def jacobian(mode):
    options = {"adjoint": diffrax.DirectAdjoint()} if mode == "direct" else {}
    take = jax.jacrev if mode == "reverse" else jax.jacfwd
    return np.asarray(jax.jit(take(functools.partial(of_flat, **options)))(FLAT))


@pytest.mark.slow
def test_forward_and_reverse_mode_agree_on_everything_that_can_be_saved():
    np.testing.assert_allclose(jacobian("forward"), jacobian("reverse"), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_both_are_the_slopes_of_the_steps_taken():
    value = jax.jit(of_flat)
    h = 1e-4
    # To the side where no time passes the end of a step.
    slopes = [(value(FLAT + h * e) - value(FLAT - h * e)) / (2 * h) for e in jnp.eye(FLAT.size)]
    difference = np.stack(slopes, axis=1)
    np.testing.assert_allclose(jacobian("forward"), difference, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_both_are_the_derivative_through_the_steps():
    np.testing.assert_allclose(jacobian("forward"), jacobian("direct"), rtol=1e-9, atol=1e-11)


def loss(x, **options):
    rows = of_flat(x, **options)
    return jnp.sum(jnp.sin(3 * rows + jnp.arange(rows.size, dtype=rows.dtype)))


@pytest.mark.slow
def test_forward_over_reverse_gives_slopes_of_the_gradient():
    # Along everything at once, and of everything.
    gradient, h = jax.jit(jax.grad(loss)), 1e-4
    direction = jnp.cos(jnp.arange(FLAT.size, dtype=FLAT.dtype))
    _, found = jax.jit(lambda x: jax.jvp(jax.grad(loss), (x,), (direction,)))(FLAT)
    slope = (gradient(FLAT + h * direction) - gradient(FLAT - h * direction)) / (2 * h)
    np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-5)


def decay_end(y0, rate, t0, t1, ts, adjoint=DISCRETE):
    term = diffrax.ODETerm(lambda t, y, args: -rate * (y - jnp.cos(t)))
    control = diffrax.PIDController(rtol=1e-9, atol=1e-9)
    saveat = diffrax.SaveAt(ts=ts, t1=True)
    return diffrax.diffeqsolve(
        term,
        srx.RadauIIA5(control_interior=True),
        t0,
        t1,
        None,
        y0,
        saveat=saveat,
        stepsize_controller=control,
        adjoint=adjoint,
        max_steps=512,
    ).ys


@pytest.mark.slow
def test_derivatives_by_times_are_those_of_the_solution():
    y0, rate, t0, t1 = (jnp.array(x) for x in (0.2, 50.0, 0.1, 1.7))
    ts = jnp.array([t0, t0, 0.4, 1.2, t1, t1])
    jac = jax.jit(jax.jacrev(decay_end, argnums=(2, 3, 4)))
    ys = decay_end(y0, rate, t0, t1, ts)
    at = jnp.append(ts, t1)
    slopes = -rate * (ys - jnp.cos(at))
    by_t0, by_t1, by_ts = jac(y0, rate, t0, t1, ts)
    # dy(t1)/dt1 = f(t1, y(t1)), dy(t)/dt0 = -Phi(t, t0) f(t0, y0), dy(t)/dt = f(t, y(t)).
    np.testing.assert_allclose(by_t1, jnp.zeros(7).at[-1].set(slopes[-1]), atol=1e-6)
    expected = -jnp.exp(-rate * (at - t0)) * slopes[0]
    # Where a value is saved at `t0` itself, `t0` moves it the other way.
    np.testing.assert_allclose(by_t0, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(by_ts[:6], jnp.diag(slopes[:6]), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_closed_over_values_and_integers_pass_through_linearize():
    scale = jnp.array(2.0)

    def value(rate):
        args = {"rate": rate, "count": 3, "none": None, "label": "decay"}
        field = lambda t, y, args: -args["rate"] * args["count"] * scale * y
        return diffrax.diffeqsolve(
            diffrax.ODETerm(field), srx.RadauIIA5(), 0.0, 0.1, 0.05, 1.0, args, adjoint=DISCRETE
        ).ys[-1]

    found, push = jax.linearize(value, jnp.array(1.5))
    np.testing.assert_allclose(push(jnp.array(1.0)), -0.6 * found, rtol=1e-4)


@pytest.mark.slow
def test_a_failed_solve_has_the_tangent_zero_or_nan_and_changes_no_other():
    def end(rate, failed):
        term = diffrax.ODETerm(lambda t, y, args: -rate * y)
        adjoint = srx.DiscreteAdjoint(failed=failed, chunk=8)
        return diffrax.diffeqsolve(
            term, srx.RadauIIA5(), 0.0, 1.0, 0.5, 1.0, adjoint=adjoint, max_steps=4, throw=False
        ).ys[-1]

    rates = jnp.array([1.0, jnp.nan, 2.0])
    for failed, expected in (("zero", 0.0), ("nan", jnp.nan)):
        push = jax.vmap(lambda r: jax.jvp(lambda r: end(r, failed), (r,), (1.0,))[1])  # noqa: B023
        tangents = jax.jit(push)(rates)
        np.testing.assert_allclose(tangents[1], expected)
        np.testing.assert_allclose(tangents[::2], -jnp.exp(-rates[::2]), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1.3, 1.999])
def test_dense_output_has_the_derivative_of_the_steps_taken(at):
    def field(t, y, args):
        return jnp.stack([jnp.sin(t) * y[1] - args * y[0], jnp.cos(3 * t) - 2 * y[1]])

    def value(t0, t1, rate, adjoint):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            srx.RadauIIA5(),
            t0,
            t1,
            0.1,
            jnp.array([1.0, 0.5]),
            rate,
            saveat=diffrax.SaveAt(dense=True),
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
            adjoint=adjoint,
            max_steps=100,
        )
        return solution.evaluate(at)[0]

    found, expected = (
        jax.jit(jax.grad(lambda *x, adjoint=adjoint: value(*x, adjoint), argnums=(0, 1, 2)))(
            0.0, 2.0, 5.0
        )
        for adjoint in (srx.DiscreteAdjoint(), diffrax.RecursiveCheckpointAdjoint())
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14)
