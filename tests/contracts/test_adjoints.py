"""Every option of an adjoint on one small problem, against differentiation through the same steps."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import stiffrax as srx

THROUGH = diffrax.RecursiveCheckpointAdjoint()
STEPS = diffrax.StepTo(ts=jnp.array([0.0, 0.1, 0.15, 0.4, 0.8, 1.0]))
ADAPTIVE = diffrax.PIDController(rtol=1e-6, atol=1e-8)


class Reaction(eqx.Module):
    """Nonlinear, time-dependent, stiff, on a pytree; its parameters are closed over."""

    rates: jax.Array
    name: str = "reaction"

    def __call__(self, t, y, args):
        exchange = self.rates[1] * y["b"] - self.rates[0] * y["a"] ** 2
        drive = jnp.sin(t).astype(exchange.dtype)
        return {"a": exchange, "b": -exchange - args["decay"] * y["b"] + drive}


INPUTS = {
    "y0": {"a": jnp.array([1.0]), "b": jnp.array([0.5])},
    "parameters": Reaction(jnp.array([2.0, 30.0])),
    "args": {"decay": jnp.array(0.7), "label": "not an array", "count": 3},
    "weight": jnp.array(1.3),
}


def of_time(t, y, args):
    return t.astype(y["a"].dtype) * y["a"]


def everything(weight):
    """All that a solve can save, at once; `weight` is closed over by the saving function.

    Its times have the precision of `weight`: diffrax promotes the state to that of times.
    """
    return diffrax.SaveAt(
        subs=[
            diffrax.SubSaveAt(t0=True, t1=True),
            {"steps": diffrax.SubSaveAt(steps=True, fn=of_time)},
            diffrax.SubSaveAt(
                ts=jnp.array([0.1, 0.3, 0.31, 0.9], weight.dtype),
                fn=lambda t, y, args: weight * y["b"] ** 2 * args["decay"],
            ),
        ]
    )


def loss(inputs, adjoint=THROUGH, solver=None, controller=STEPS, saveat=everything, **options):
    options = {"t0": 0.0, "t1": 1.0, "dt0": None, "max_steps": 8, "throw": False} | options
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(inputs["parameters"]),
        srx.RadauIIA5() if solver is None else solver,
        y0=inputs["y0"],
        args=inputs["args"],
        saveat=saveat(inputs["weight"]),
        stepsize_controller=controller,
        adjoint=adjoint,
        **options,
    )
    saved = [jnp.where(jnp.isfinite(x), x, 0) for x in jax.tree.leaves(solution.ys)]
    return sum(jnp.sum(jnp.sin(3 * x + i)) for i, x in enumerate(saved))


def at_end(weight):
    return diffrax.SaveAt(t1=True)


def gradient(inputs=INPUTS, **options):
    pull = eqx.filter_jit(eqx.filter_grad(lambda inputs: loss(inputs, **options)))
    return ravel_pytree(eqx.filter(pull(inputs), eqx.is_inexact_array))[0]


@functools.cache
def through_the_steps(solver_name):
    return gradient(solver=getattr(srx, solver_name)())


# The default is compared in tests/adjoints/test_every_mode.py.
OPTIONS = {
    "starts of steps, associative": srx.DiscreteAdjoint("steps", "associative", chunk=2),
    "one solve a step": srx.DiscreteAdjoint(recurrence="solve", chunk=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_gives_the_gradient_of_everything_that_can_be_saved(name):
    found = gradient(adjoint=OPTIONS[name])
    np.testing.assert_allclose(found, through_the_steps("RadauIIA5"), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["Trapezoid", "GaussLegendre4"])
def test_methods_with_an_explicit_stage_or_not_stiffly_accurate_have_their_gradient(solver):
    found = gradient(adjoint=srx.DiscreteAdjoint(), solver=getattr(srx, solver)())
    np.testing.assert_allclose(found, through_the_steps(solver), rtol=1e-10)


@pytest.mark.slow
def test_time_may_run_backward():
    mild = INPUTS | {"parameters": Reaction(jnp.array([0.2, 0.3]))}
    options = {"controller": diffrax.ConstantStepSize(), "t0": 1.0, "t1": 0.0, "dt0": -0.25}

    def saved(weight):
        return diffrax.SaveAt(t0=True, ts=jnp.array([0.9, 0.2]))

    found, through = (
        gradient(mild, adjoint=adjoint, saveat=saved, **options)
        for adjoint in (srx.DiscreteAdjoint(), THROUGH)
    )
    np.testing.assert_allclose(found, through, rtol=1e-10)


@pytest.mark.slow
def test_a_solve_of_no_length_has_the_gradient_of_what_it_starts_from():
    options = {"adjoint": srx.DiscreteAdjoint(), "saveat": at_end, "t1": 0.0, "dt0": 0.1}
    found = gradient(controller=diffrax.ConstantStepSize(), **options)
    y0, _ = ravel_pytree(INPUTS["y0"])
    slopes = 3 * jnp.cos(3 * y0 + jnp.arange(2.0))
    np.testing.assert_allclose(found, [0.0, 0.0, 0.0, 0.0, *slopes], rtol=1e-12)


CONTINUOUS = (
    srx.GaussAdjoint,
    srx.InterpolatingAdjoint,
    srx.QuadratureAdjoint,
    srx.ImexAdjoint,
)
STRICT = diffrax.PIDController(rtol=1e-8, atol=1e-10)


@functools.cache
def strict_gradient():
    return gradient(adjoint=srx.DiscreteAdjoint(), controller=STRICT, max_steps=256)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONTINUOUS)
def test_continuous_adjoints_give_the_gradient_of_everything_that_can_be_saved(kind):
    # The steps are the solver's own, and the same ones: where they end depends on no adjoint.
    adjoint = kind(rtol=1e-8, atol=1e-10)
    found = gradient(adjoint=adjoint, controller=STRICT, max_steps=256)
    np.testing.assert_allclose(found, strict_gradient(), rtol=1e-5)


@pytest.mark.slow
def test_single_precision_gives_single_precision_gradients():
    single = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, INPUTS)
    steps = diffrax.StepTo(ts=jnp.asarray(STEPS.ts, jnp.float32))
    found = gradient(single, adjoint=srx.DiscreteAdjoint(), controller=steps)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, through_the_steps("RadauIIA5"), rtol=1e-4)


# Lanes that take different numbers of steps.
RATES = jnp.array([[2.0, 300.0], [0.1, 1.0], [3.0, 9000.0]])
DECAY = jnp.array(0.7)


@functools.cache
def batch_gradient(adjoint):
    """A function of rates, with a row for every lane, decay and the weights of the lanes."""

    def total(rates, decay, weights):
        def one(rates):
            changed = {"parameters": Reaction(rates), "args": {"decay": decay}}
            options = {"controller": ADAPTIVE, "saveat": at_end, "dt0": 1e-3, "max_steps": 256}
            return loss(INPUTS | changed, adjoint, **options)

        return jnp.sum(weights * jax.vmap(one)(rates))

    return jax.jit(jax.grad(total, (0, 1)))


def healthy_batch(adjoint):
    """The gradient of three lanes and of a fourth of weight zero, which others let fail."""
    rates = jnp.concatenate([RATES, jnp.ones((1, 2))])
    return batch_gradient(adjoint)(rates, DECAY, jnp.array([1.0, 1, 1, 0]))


def failed_batch(adjoint):
    rates = jnp.concatenate([RATES, jnp.array([[jnp.nan, 1.0]])])
    return batch_gradient(adjoint)(rates, DECAY, jnp.ones(4))


@pytest.mark.slow
def test_lanes_of_a_batch_have_the_gradients_they_have_alone():
    gradient = batch_gradient(srx.DiscreteAdjoint(chunk=8))
    alone = [gradient(rates[None], DECAY, jnp.ones(1)) for rates in RATES]
    rates, decay = gradient(RATES, DECAY, jnp.ones(3))
    np.testing.assert_allclose(rates, jnp.concatenate([r for r, _ in alone]), rtol=1e-9)
    np.testing.assert_allclose(decay, sum(d for _, d in alone), rtol=1e-9)


@pytest.mark.slow
def test_a_failed_lane_of_a_continuous_adjoint_has_no_gradient_and_changes_no_other():
    rates, decay = failed_batch(srx.GaussAdjoint())
    healthy_rates, healthy_decay = healthy_batch(srx.DiscreteAdjoint(chunk=8))
    np.testing.assert_array_equal(rates[3], 0)
    np.testing.assert_allclose(rates[:3], healthy_rates[:3], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(decay, healthy_decay, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["full", "steps"])
def test_a_failed_lane_has_no_gradient_and_changes_no_other(memory):
    adjoint = srx.DiscreteAdjoint(memory=memory, chunk=8)
    rates, decay = failed_batch(adjoint)
    healthy_rates, healthy_decay = healthy_batch(adjoint)
    np.testing.assert_array_equal(rates[3], 0)
    np.testing.assert_array_equal(rates[:3], healthy_rates[:3])
    np.testing.assert_array_equal(decay, healthy_decay)


@pytest.mark.slow
def test_a_failed_lane_has_the_gradient_nan_by_option():
    adjoint = srx.DiscreteAdjoint(failed="nan", chunk=8)
    rates, decay = failed_batch(adjoint)
    assert np.all(np.isnan(rates[3]))
    assert np.isnan(decay)
    np.testing.assert_array_equal(rates[:3], healthy_batch(adjoint)[0][:3])


@pytest.mark.slow
def test_hessian_vector_products_are_differences_of_gradients():
    flat, unravel = ravel_pytree(INPUTS["parameters"].rates)

    def slope(rates):
        inner = lambda r: loss(INPUTS | {"parameters": Reaction(unravel(r))}, srx.DiscreteAdjoint())
        return jax.grad(inner)(rates)

    direction, h = jnp.array([1.0, -40.0]), 1e-4
    _, product = jax.jit(lambda r: jax.jvp(slope, (r,), (direction,)))(flat)
    slope = jax.jit(slope)
    differences = (slope(flat + h * direction) - slope(flat - h * direction)) / (2 * h)
    np.testing.assert_allclose(product, differences, rtol=1e-6)


@pytest.mark.slow
def test_reverse_over_reverse_is_refused_with_what_works():
    def squared(y0):
        def inner(y0):
            return loss(INPUTS | {"y0": y0}, srx.DiscreteAdjoint(), saveat=at_end)

        return sum(jnp.sum(x**2) for x in jax.tree.leaves(jax.grad(inner)(y0)))

    with pytest.raises(RuntimeError, match=r"jax\.hessian"):
        jax.eval_shape(jax.grad(squared), INPUTS["y0"])


def stop(t, y, args, **kwargs):
    return y["a"][0] - 0.5


@pytest.mark.parametrize(
    ("adjoint", "options", "message"),
    [
        (
            srx.GaussAdjoint(),
            {"event": diffrax.Event(stop)},
            "event.*stiffrax.DiscreteAdjoint",
        ),
        (
            srx.GaussAdjoint(),
            {"saveat": lambda _: diffrax.SaveAt(dense=True)},
            r"dense=True.*SaveAt\(ts=\.\.\.\).*stiffrax.DiscreteAdjoint",
        ),
        (srx.DiscreteAdjoint(), {"max_steps": None}, "max_steps=None.*max_steps=4096"),
    ],
)
def test_what_has_no_gradient_here_is_refused_only_under_a_gradient(adjoint, options, message):
    jax.eval_shape(lambda: loss(INPUTS, adjoint, **({"saveat": at_end} | options)))
    with pytest.raises(ValueError, match=message):
        gradient(adjoint=adjoint, **({"saveat": at_end} | options))


@pytest.mark.parametrize("adjoint", [srx.GaussAdjoint(), srx.ForwardSensitivity()])
def test_gradients_of_times_are_refused_by_name_where_there_are_none(adjoint):
    with pytest.raises(ValueError, match="with respect to `t1`.*stiffrax.DiscreteAdjoint"):
        jax.grad(lambda t1: loss(INPUTS, adjoint, t1=t1))(1.0)


def test_forward_mode_is_refused_by_continuous_adjoints():
    with pytest.raises(ValueError, match="in forward mode.*stiffrax.DiscreteAdjoint"):
        jax.jvp(lambda y0: end_of_decay(y0, srx.GaussAdjoint()), (jnp.array(1.0),), (1.0,))


def end_of_decay(y0, adjoint):
    decay = diffrax.ODETerm(lambda t, y, args: -y)
    solver = srx.BackwardEuler()
    return diffrax.diffeqsolve(decay, solver, 0.0, 1.0, 0.5, y0, adjoint=adjoint, max_steps=4).ys[
        -1
    ]


def test_solvers_of_other_equations_are_refused_by_name():
    path = diffrax.UnsafeBrownianPath((), jax.random.key(0))
    noise = diffrax.ControlTerm(lambda t, y, args: y, path)
    terms = diffrax.MultiTerm(diffrax.ODETerm(lambda t, y, args: -y), noise)
    with pytest.raises(ValueError, match="the solver EulerHeun.*RecursiveCheckpointAdjoint"):
        diffrax.diffeqsolve(
            terms,
            diffrax.EulerHeun(),
            0.0,
            1.0,
            0.1,
            jnp.array(1.0),
            adjoint=srx.DiscreteAdjoint(),
        )
