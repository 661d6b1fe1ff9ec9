"""Trained Runge-Kutta methods: gradients with respect to the tableau, steps, refusals."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import stiffrax as srx
from stiffrax.solvers._learnable_runge_kutta import _dense_weights

RK4 = (
    np.array([[0, 0, 0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 1, 0]]),
    np.array([1, 2, 2, 1]) / 6,
    np.array([0, 0.5, 0.5, 1]),
)
KEY = jax.random.key(1)


@functools.cache
def solver(name):
    return {
        "explicit": lambda: srx.LearnableRungeKutta.from_tableau(RK4),
        "diagonally_implicit": lambda: srx.LearnableRungeKutta(
            2, "diagonally_implicit", 2, key=KEY
        ),
        "implicit": lambda: srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2)),
        "L-stable": lambda: srx.LearnableRungeKutta(2, "implicit", 2, stability="L", key=KEY),
    }[name]()


KINDS = ("explicit", "diagonally_implicit", "implicit")
every_kind = pytest.mark.parametrize("name", KINDS)


def forced_van_der_pol(t, y, args):
    """Nonlinear and time-dependent, so that every coefficient matters; on a nested state."""
    x, v = y["x"][0], y["v"]
    return {"x": v[None], "v": args * (1 - x**2) * v - x + jnp.sin(3 * t)}


Y0 = {"x": jnp.array([2.0]), "v": jnp.array(0.3)}
ADJOINTS = {
    "checkpoints": diffrax.RecursiveCheckpointAdjoint(),
    "direct": diffrax.DirectAdjoint(),
    "discrete": srx.DiscreteAdjoint(chunk=4),
    "forward": srx.ForwardSensitivity(),
}


def loss(inputs, adjoint=ADJOINTS["checkpoints"], ts=(0.33, 0.7, 1.0)):
    solver, y0, args = inputs
    ys = diffrax.diffeqsolve(
        diffrax.ODETerm(forced_van_der_pol),
        solver,
        0.0,
        1.0,
        0.2,
        y0,
        args,
        saveat=diffrax.SaveAt(ts=jnp.array(ts)),
        adjoint=adjoint,
        max_steps=8,
    ).ys
    return jnp.sum(ys["x"] ** 2) + jnp.sum(ys["v"] * jnp.array(ts))


@functools.cache
def flat(name):
    return ravel_pytree((solver(name), Y0, jnp.array(1.0)))


@functools.cache
def gradient(name, adjoint):
    x, restore = flat(name)
    return jax.jit(jax.grad(lambda x: loss(restore(x), ADJOINTS[adjoint])))(x)


@functools.cache
def differences(name):
    x, restore = flat(name)
    h = 1e-5

    @jax.jit
    def both_sides(x):
        shifts = h * jnp.eye(x.size)
        return jax.lax.map(
            lambda x: loss(restore(x)), jnp.concatenate([x[None] + shifts, x[None] - shifts])
        )

    ahead, behind = jnp.split(both_sides(x), 2)
    return (ahead - behind) / (2 * h)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["explicit", "implicit", "diagonally_implicit"])
def test_gradients_reach_every_coefficient_and_agree_with_central_differences(name):
    found, expected = gradient(name, "discrete"), differences(name)
    scale = jnp.max(jnp.abs(expected))
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "adjoint"),
    [
        ("implicit", "checkpoints"),
        ("explicit", "checkpoints"),
        ("implicit", "direct"),
        ("implicit", "forward"),
    ],
)
def test_every_adjoint_gives_the_same_gradient(name, adjoint):
    expected = gradient(name, "discrete")
    np.testing.assert_allclose(gradient(name, adjoint), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.slow
def test_entries_that_a_kind_does_not_read_change_nothing_and_have_no_gradient():
    upper = jnp.triu(jnp.ones((4, 4)))
    spoiled = eqx.tree_at(
        lambda s: s.tableau.A, solver("explicit"), solver("explicit").tableau.A + upper
    )
    x, _ = flat("explicit")
    _, restore = flat("explicit")
    inputs = (spoiled, Y0, jnp.array(1.0))
    assert loss(inputs) == loss(restore(x))
    (found, _, _) = restore(gradient("explicit", "discrete"))
    assert jnp.all(jnp.where(upper == 1, found.tableau.A, 0) == 0)
    assert jnp.all(jnp.where(upper == 0, found.tableau.A, 1) != 0)


def test_the_steps_of_a_known_method_are_its_own():
    options = {"y0": jnp.array([2.0, 0.3]), "args": (5.0,), "t0": 0.0, "t1": 1.0, "dt0": 0.1}
    term = diffrax.ODETerm(lambda t, y, args: jnp.stack([y[1], jnp.sin(t) - args[0] * y[0] ** 3]))
    ours = srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2))
    learned = diffrax.diffeqsolve(term, ours, **options).ys
    fixed = diffrax.diffeqsolve(term, srx.RadauIIA3(), **options).ys
    np.testing.assert_allclose(learned, fixed, rtol=1e-13)


@pytest.mark.slow
def test_values_within_steps_are_of_order_two_and_meet_the_end():
    def errors(steps):
        grid = jnp.linspace(0.0, 1.0, 5 * steps + 1)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y),
            solver("explicit"),
            0.0,
            1.0,
            1 / steps,
            jnp.array(1.0),
            saveat=diffrax.SaveAt(ts=grid),
        )
        return jnp.abs(solution.ys - jnp.exp(-grid))

    coarse, fine = errors(8), errors(16)
    assert jnp.max(coarse[::5]) < 1e-5
    # An error of order three within a step of a method of order two within it.
    assert 6.5 < jnp.max(coarse) / jnp.max(fine) < 9.5


@pytest.mark.slow
def test_backward_time_undoes_forward_time():
    term = diffrax.ODETerm(lambda t, y, args: y * jnp.cos(t))
    run = functools.partial(diffrax.diffeqsolve, term, solver("implicit"))
    there = run(0.0, 1.0, 0.01, jnp.array(1.0)).ys[-1]
    back = run(1.0, 0.0, -0.01, there).ys[-1]
    assert abs(back - 1) < 1e-6


@pytest.mark.slow
def test_a_stiff_step_has_the_derivative_of_the_implicit_function():
    rates = jnp.array([1.0, 1e6])

    def end(s):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: rates * (jnp.cos(t) - y)),
            s,
            0.0,
            0.5,
            0.1,
            jnp.zeros(2),
        ).ys[-1, 1]

    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(end))(solver("L-stable"))
    assert abs(value - np.cos(0.5)) < 1e-2
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_a_lane_that_fails_fails_alone_and_has_the_gradient_zero():
    def end(s, y0):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: jnp.sqrt(y) + y**2),
            s,
            0.0,
            0.2,
            0.1,
            y0,
            throw=False,
            adjoint=ADJOINTS["discrete"],
            max_steps=4,
        )
        ok = solution.result == diffrax.RESULTS.successful
        return jnp.where(ok, solution.ys[-1, 0], 0.0)

    starts = jnp.array([[1.0], [-1.0], [0.5]])
    healthy = jnp.array([[1.0], [2.0], [0.5]])
    both = jax.jit(jax.vmap(jax.value_and_grad(end), (None, 0)))
    values, gradients = both(solver("L-stable"), starts)
    alone, gradient = both(solver("L-stable"), healthy)
    assert values[1] == 0
    assert alone[1] != 0
    assert all(jnp.all(jnp.asarray(leaf)[1] == 0) for leaf in jax.tree.leaves(gradients))
    for lane in (0, 2):
        assert values[lane] == alone[lane]
        for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_array_equal(a[lane], b[lane])


@pytest.mark.slow
def test_single_precision_stays_single():
    single = jax.tree.map(lambda x: x.astype(jnp.float32), solver("implicit"))
    term = diffrax.ODETerm(lambda t, y, args: -50 * y)
    t0, t1, dt0 = (np.float32(x) for x in (0.0, 0.4, 0.1))
    found = diffrax.diffeqsolve(term, single, t0, t1, dt0, jnp.ones(2, jnp.float32)).ys
    assert found is not None
    assert found.dtype == jnp.float32
    R = srx.tableaus.stability_function(srx.tableaus.radau_iia(2), -5.0) ** 4
    np.testing.assert_allclose(found[-1], R, rtol=1e-5)


def test_continuous_adjoints_refuse_it_by_name():
    with pytest.raises(ValueError, match=r"would not reach the tableau\. Write `adjoint=stiffrax"):
        loss((solver("explicit"), Y0, 5.0), srx.GaussAdjoint())


def test_implicit_kinds_refuse_other_terms():
    term = diffrax.ControlTerm(
        lambda t, y, args: jnp.eye(1), lambda t0, t1: jnp.asarray(t1 - t0)[None]
    )
    with pytest.raises(ValueError, match="ControlTerm was given"):
        diffrax.diffeqsolve(term, solver("implicit"), 0.0, 1.0, 0.1, jnp.ones(1))


def test_a_controller_of_errors_is_refused():
    control = diffrax.PIDController(rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="`PIDController` was given a solver that estimates no er"):
        diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y),
            solver("explicit"),
            0.0,
            1.0,
            0.1,
            jnp.ones(1),
            stepsize_controller=control,
        )


def test_steps_that_are_halved_have_an_error_that_is_controlled():
    half = diffrax.HalfSolver(solver("explicit"))
    control = diffrax.PIDController(rtol=1e-6, atol=1e-8)
    term = diffrax.ODETerm(lambda t, y, args: -y)
    sol = diffrax.diffeqsolve(term, half, 0.0, 1.0, 0.1, jnp.ones(1), stepsize_controller=control)
    np.testing.assert_allclose(sol.ys[-1], np.exp(-1.0), rtol=1e-5)


def test_it_shows_what_it_is():
    assert repr(solver("explicit")) == "LearnableRungeKutta(explicit, order=4, stages=4)"
    assert repr(solver("L-stable")) == "LearnableRungeKutta(L-stable, order=2, stages=2)"


def test_nodes_that_are_equal_but_for_rounding_have_a_straight_line():
    np.testing.assert_array_equal(_dense_weights(jnp.full(6, 0.1)), jnp.zeros(6))
    np.testing.assert_allclose(
        _dense_weights(jnp.array([0.1, 0.1 + 1e-6])) @ jnp.array([0, 1e-6]), -0.5
    )
