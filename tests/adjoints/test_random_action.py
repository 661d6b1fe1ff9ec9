"""Random spikes, steps, delays and quiet stretches: no adjoint is wrong without saying so."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

KINDS = (srx.InterpolatingAdjoint, srx.QuadratureAdjoint, srx.GaussAdjoint, srx.ImexAdjoint)
# What the gradient is taken by: changes of these, in units in which all of them matter.
PARAMETERS = ("spike", "step", "delay", "rate", "start")


def cases(count):
    """Times, widths and sizes of what happens, and where values are read, one row a case."""
    draw = np.random.default_rng(0).uniform
    width = lambda low, high: 10.0 ** draw(low, high, count)
    return {
        "spike": draw(0.05, 0.95, count),
        "width": width(-3, -1),
        "size": draw(-2, 2, count),
        "step": draw(0.05, 0.95, count),
        "steepness": width(-3, -1),
        "rate": width(0, 4),
        "quiet": draw(0.2, 1.0, count),
        "threshold": draw(-0.5, 1.5, count),
        "sharpness": width(-2, 0),
        "ts": np.sort(draw(0.0, 1.0, (count, 3)), axis=1),
        "weights": draw(-1, 1, (count, 4)) * (draw(0, 1, (count, 4)) < 0.6),
    }


def field(t, y, args):
    """Slow, fast and counting: a spike and a step drive the first, the third integrates a step."""
    case, p = args
    spike = jnp.exp(-(((t - case["spike"]) / case["width"] - p[2]) ** 2)) / case["width"]
    step = jax.nn.sigmoid((t - case["step"]) / case["steepness"] - p[2])
    awake = jax.nn.sigmoid((case["quiet"] - t) / 0.01)
    slow = awake * (p[0] * case["size"] * spike * y[0] + p[1] * step)
    fast = case["rate"] * p[3] * (y[0] ** 2 - y[1])
    return jnp.stack([slow, fast, jax.nn.sigmoid((y[1] - case["threshold"]) / case["sharpness"])])


def loss(p, case, adjoint):
    """A sum of values within and at the end of the solve, and whether it succeeded."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        1.0,
        None,
        # Off the slow manifold: steps must see the transient that the sensitivities have.
        p[4] * jnp.array([1.0, 0.5, 0.0]),
        (case, p),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-9, dtmax=0.003),
        adjoint=adjoint,
        saveat=diffrax.SaveAt(ts=jnp.append(case["ts"], 1.0)),
        max_steps=2048,
        throw=False,
    )
    values = jnp.where(jnp.isfinite(solution.ys), solution.ys, 0)
    total = jnp.sum(case["weights"] * (values[:, 0] + values[:, 1])) + values[-1, 2]
    return total, solution.result == diffrax.RESULTS.successful


def gradients(adjoint, count):
    gradient = jax.grad(loss, has_aux=True)
    one = lambda case: gradient(jnp.ones(len(PARAMETERS)), case, adjoint)
    return jax.jit(jax.vmap(one))(cases(count))


@functools.cache
def discrete(count):
    """The gradients by the discrete adjoint, and in which cases the solve succeeded."""
    found, ok = gradients(srx.DiscreteAdjoint(), count)
    # Outside of these a gradient is zero by contract.
    assert jnp.mean(ok) > 0.9
    return np.asarray(found)[ok], np.asarray(ok)


def worst(found, expected):
    """The largest error of each gradient, relative to its largest entry."""
    return np.max(np.abs(found - expected), axis=1) / np.max(np.abs(expected), axis=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_no_continuous_adjoint_is_wrong_without_saying_so(kind):
    expected, ok = discrete(200)
    found = np.asarray(gradients(kind(rtol=1e-6, atol=1e-9), 200)[0])[ok]
    finite = np.all(np.isfinite(found), axis=1)
    assert np.mean(finite) > 0.95
    assert np.max(worst(found[finite], expected[finite])) < 1e-3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_discrete_adjoint_is_not_wrong_without_saying_so():
    expected, ok = discrete(200)
    h = 1e-4

    def difference(case):
        def along(direction):
            p = jnp.ones(len(PARAMETERS))
            ends = (p + h * direction, p - h * direction)
            up, down = (loss(end, case, diffrax.DirectAdjoint())[0] for end in ends)
            return (up - down) / (2 * h)

        return jax.lax.map(along, jnp.eye(len(PARAMETERS)))

    differences = np.asarray(jax.jit(jax.vmap(difference))(cases(200)))[ok]
    assert np.max(worst(differences, expected)) < 1e-2
