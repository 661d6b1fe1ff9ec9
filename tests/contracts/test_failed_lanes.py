"""A failed lane fails alone.

In a batch one lane fails, the others are healthy. Values and derivatives of the others, and of all
that they share, must be bit for bit what they are with a healthy lane in the place of the failed one.
"""

import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx

SUCCESS = diffrax.RESULTS.successful
H = 0.25
PARAMETERS = jnp.array([1.0, 0.5, 1.0, 50.0, 1.2])

# A lane: the start, and growth, square, shift and gate in the vector field below.
HEALTHY = [
    ([0.5, 1.0], 0.0, 0.0, 10.0, 1.0),
    ([1.5, -0.3], 0.1, 0.0, 9.0, 1.0),
    ([0.7, 0.2], -1.0, 0.01, 11.0, 1.0),
]
# Of methods with a real system, which is singular for a growth of this over the step.
POLES = {
    "Radau IIA 5": 3.637834252744496,
    "Rodas5P": 1 / 0.21193756319429014,
    "Rodas3P": 3.0,
    "backward Euler": 1.0,
}
FAILED = {
    "NaN state": ([jnp.nan, 1.0], 0.0, 0.0, 10.0, 1.0),
    "NaN parameter of its own": ([0.5, 1.0], jnp.nan, 0.0, 10.0, 1.0),
    "no value at the start": ([0.5, 1.0], 0.0, 0.0, -10.0, 1.0),
    "no value on the way": ([0.5, 1.0], -200.0, 0.0, -0.4, 1.0),
    "no derivative at the start": ([0.0, 1.0], 0.0, 50.0, 0.0, 1.0),
    "no real root": ([0.5, 1.0], 0.0, 50.0, 10.0, 1.0),
    "overflow": ([1e200, 1.0], 0.0, 1e200, 10.0, 1.0),
} | {
    f"singular matrix of {name}": ([0.5, 0.5], pole / H, 0.0, 0.0, 0.0)
    for name, pole in POLES.items()
}


def field(t, y, args):
    p, (growth, square, shift, gate) = args
    smooth = jnp.stack(
        [
            -p[0] * y[0] + p[1] * y[1] ** 2 + jnp.sqrt(p[2] * y[0] + shift),
            -p[3] * y[1] + jnp.cos(p[4] * t),
        ]
    )
    return gate * smooth + growth * y + square * jnp.stack([y[0] ** 2 + p[0], 0 * y[1]])


def solve(solver, adjoint, p, y0, own):
    """States at three times, and whether all went well."""
    sol = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver,
        0.0,
        3 * H,
        H,
        y0,
        (p, own),
        saveat=diffrax.SaveAt(ts=jnp.array([0.1, 0.5, 0.75])),
        adjoint=adjoint,
        max_steps=4,
        throw=False,
    )
    return sol.ys, sol.result == SUCCESS


def predict(solver, p, y0, own):
    """One segment; that the next sample is the same is no matter."""
    ts, ys = jnp.array([[0.0, H]]), jnp.stack([y0, y0])[None]
    found = srx.segment_predictions(lambda t, y, args: field(t, y, (p, own)), ts, ys, solver)[0]
    return found, jnp.all(jnp.isfinite(found))


def loss_of_first_three(run, p, y0, own):
    ys, ok = jax.vmap(run, (None, 0, 0))(p, y0, own)
    counts = ok & (jnp.arange(4) < 3)
    return jnp.sum(jnp.where(counts[:, None, None], jnp.sin(ys), 0.0)), (ys, ok)


def reverse(run):
    def all_of_it(p, y0, own):
        loss = functools.partial(loss_of_first_three, run)
        (_, (ys, ok)), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(p, y0, own)
        return ok, (ys, *gradients[1:]), gradients[0]

    return jax.jit(all_of_it)


def forward(run):
    def all_of_it(p, y0, own):
        loss = functools.partial(loss_of_first_three, run)
        primals = p, y0, own
        tangents = jax.tree.map(jnp.ones_like, primals)
        (_, (ys, ok)), (slope, (ys_dot, _)) = jax.jvp(loss, primals, tangents)
        return ok, (ys, ys_dot), slope

    return jax.jit(all_of_it)


CHECKPOINTED, DIRECT = diffrax.RecursiveCheckpointAdjoint(), diffrax.DirectAdjoint()
ROUTES = {
    "segments, Radau IIA 5": (reverse, predict, srx.RadauIIA5()),
    "segments, backward Euler": (reverse, predict, srx.BackwardEuler()),
    "segments, trapezoid rule": (reverse, predict, srx.Trapezoid()),
    "checkpointed, Radau IIA 5": (reverse, solve, srx.RadauIIA5(), CHECKPOINTED),
    "checkpointed, trapezoid rule": (reverse, solve, srx.Trapezoid(), CHECKPOINTED),
    "direct, Radau IIA 5": (reverse, solve, srx.RadauIIA5(), DIRECT),
    "forward mode, Radau IIA 5": (forward, solve, srx.RadauIIA5(), diffrax.ForwardMode()),
    "segments, Rodas3P": (reverse, predict, srx.Rodas3P()),
    "segments, Rodas5P": (reverse, predict, srx.Rodas5P()),
    "checkpointed, Rodas5P": (reverse, solve, srx.Rodas5P(), CHECKPOINTED),
    "discrete, Rodas5P": (reverse, solve, srx.Rodas5P(), srx.DiscreteAdjoint()),
    "segments, any root finder": (
        reverse,
        predict,
        srx.BackwardEuler(root_finder=optx.Newton(1e-10, 1e-10)),
    ),
}


# Each compiles for ten seconds; what these do, others do with another solver or adjoint.
SLOW = (
    "segments, Radau IIA 5",
    "segments, Rodas5P",
    "segments, trapezoid rule",
    "checkpointed, Radau IIA 5",
    "checkpointed, trapezoid rule",
    "direct, Radau IIA 5",
    "forward mode, Radau IIA 5",
    "checkpointed, Rodas5P",
    "discrete, Rodas5P",
)
every_route = pytest.mark.parametrize(
    "route",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in ROUTES],
)


@functools.cache
def program(route):
    derivative, run, *options = ROUTES[route]
    compiled = derivative(functools.partial(run, *options))
    return lambda lanes: compiled(PARAMETERS, jnp.array([y for y, *_ in lanes]), own_of(lanes))


def own_of(lanes):
    return tuple(jnp.array(values) for values in zip(*(own for _, *own in lanes), strict=True))


@functools.cache
def all_healthy(route):
    return program(route)([*HEALTHY, HEALTHY[0]])


def skip_if_regular(route, failure):
    method = failure.removeprefix("singular matrix of ")
    if method in POLES and method not in route:
        pytest.skip(f"this matrix is singular for {method}")


@pytest.mark.parametrize("failure", FAILED)
@every_route
class TestFailedLane:
    @pytest.mark.slow_cases(
        "segments, backward Euler-NaN state",
        "segments, backward Euler-singular matrix of R*",
        "segments, [at]*",
        "segments, Rodas*",
    )
    def test_the_failed_lane_says_so(self, route, failure):
        skip_if_regular(route, failure)
        ok, _, _ = program(route)([*HEALTHY, FAILED[failure]])
        assert ok.tolist() == [True, True, True, False]

    @pytest.mark.slow_cases(
        "segments, any root finder-NaN state", "segments, any root finder-NaN parameter of its own"
    )
    def test_no_bit_of_the_others_changes(self, route, failure):
        _, theirs, shared = program(route)([*HEALTHY, FAILED[failure]])
        _, expected, expected_shared = all_healthy(route)
        for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a[:3], b[:3])
        np.testing.assert_array_equal(shared, expected_shared)


@every_route
def test_healthy_lanes_have_finite_results_to_begin_with(route):
    ok, theirs, shared = all_healthy(route)
    assert jnp.all(ok)
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((theirs, shared)))


@pytest.mark.slow
def test_runs_of_one_data_set_are_lanes_as_well():
    ts = jnp.array([[0.0, 0.1, 0.2]] * 3)
    ys = jnp.array([[[1.0], [0.9], [0.8]], [[2.0], [1.7], [1.4]], [[0.5], [0.45], [0.4]]])

    @jax.jit
    def loss_and_gradient(p, ys):
        def loss(p):
            found = srx.segment_predictions(
                lambda t, y, args: -p * jnp.sqrt(y), ts, ys, srx.RadauIIA5()
            )
            return jnp.sum(found[::2] ** 2), found

        return jax.value_and_grad(loss, has_aux=True)(p)

    (_, expected), gradient = loss_and_gradient(1.5, ys)
    for broken in (jnp.nan, jnp.inf, -1.0):
        (_, found), same = loss_and_gradient(1.5, ys.at[1, 1].set(broken))
        assert jnp.all(jnp.isnan(found[1, 1]))
        np.testing.assert_array_equal(found[::2], expected[::2])
        assert same == gradient


@every_route
def test_a_batch_that_fails_as_a_whole_gives_derivatives_of_zero(route):
    ok, (_, *derivatives), shared = program(route)([FAILED["no real root"]] * 4)
    assert not jnp.any(ok)
    assert not jnp.any(shared)
    if route == "checkpointed, Rodas5P":
        # Newton's iterates stay finite where there is no root; what these stages leave is NaN, and
        # so is the derivative of it that checkpointing passes on.
        derivatives = [jnp.nan_to_num(x) for x in jax.tree.leaves(derivatives)]
    if ROUTES[route][0] is reverse:
        assert not any(jnp.any(x) for x in jax.tree.leaves(derivatives))
