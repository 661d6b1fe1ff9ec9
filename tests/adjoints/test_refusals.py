"""What is refused names something else to write: here it is written, and must give the gradient."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import stiffrax as srx
from stiffrax.adjoints._refusals import refuse_derivative, refuse_singular_mass

CHECKPOINTS = diffrax.RecursiveCheckpointAdjoint()
OURS = [srx.DiscreteAdjoint(), srx.GaussAdjoint(), srx.ForwardSensitivity()]


def solve(y0=1.0, t1=1.0, rate=2.0, adjoint=CHECKPOINTS, **changes):
    options = {"solver": srx.RadauIIA5(), "max_steps": 8, "saveat": diffrax.SaveAt(t1=True)}
    terms = diffrax.ODETerm(lambda t, y, args: -rate * y)
    options = {"terms": terms, "t0": 0.0, "t1": t1, "dt0": 0.25, "y0": y0} | options | changes
    return diffrax.diffeqsolve(adjoint=adjoint, **options)


def end(*args, **options):
    return solve(*args, **options).ys[-1]


def middle(y0, **options):
    return solve(y0, **options).evaluate(0.5)


def below_half(t, y, args, **kwargs):
    return y - 0.5


EVENT = {"event": diffrax.Event(below_half), "max_steps": 16}
DENSE = {"saveat": diffrax.SaveAt(dense=True)}
UNBOUNDED = {"max_steps": None}
EULER = {"solver": srx.BackwardEuler(), "t1": 0.8}
BY_SIZE = (2 / 1.3 - 2 / 1.5) / (1.5 * 1.3 * 1.4**2)
# d/dy0 of y0 exp(-2), and of the value at 0.5; d/dt1 of exp(-2 t1).
AT_END, AT_MIDDLE, BY_TIME = jnp.exp(-2.0), jnp.exp(-1.0), -2 * jnp.exp(-2.0)


def by_y0(function, **options):
    return lambda: jax.grad(lambda y0: function(y0, **options))(1.0)


def by_time(**options):
    return lambda: jax.grad(lambda t1: end(t1=t1, **options))(1.0)


def still(**options):
    return lambda: jax.grad(lambda y0: end(y0, t1=jax.lax.stop_gradient(y0), **options))(1.0)


def switched_on(time, adjoint, jump_ts):
    """What a constant rate has made by 1 that sets in at a time."""
    controller = diffrax.ClipStepSizeController(diffrax.PIDController(1e-6, 1e-8), jump_ts=jump_ts)
    field = diffrax.ODETerm(lambda t, y, args: jnp.where(t < time, 0.0, 1.0))
    options = {"dt0": None, "stepsize_controller": controller, "max_steps": 32}
    return end(0.0, terms=field, adjoint=adjoint, **options)


def in_two_solves(time):
    before, after = (diffrax.ODETerm(lambda t, y, args, rate=x: rate) for x in (0.0, 1.0))
    start = end(0.0, t1=time, terms=before, adjoint=OURS[0])
    return end(start, t0=time, terms=after, adjoint=OURS[0])


REFUSED = {
    "event": (
        by_y0(end, adjoint=OURS[1], **EVENT),
        "an event.*DiscreteAdjoint",
        # At the step end where the state is below a half for the first time.
        [(by_y0(end, adjoint=OURS[0], **EVENT), AT_MIDDLE)],
    ),
    "dense": (
        by_y0(middle, adjoint=OURS[1], **DENSE),
        r"dense=True.*SaveAt\(ts=\.\.\.\).*DiscreteAdjoint",
        [
            (by_y0(middle, adjoint=OURS[0], **DENSE), AT_MIDDLE),
            (by_y0(end, adjoint=OURS[1], saveat=diffrax.SaveAt(ts=[0.5])), AT_MIDDLE),
        ],
    ),
    "max_steps": (
        by_y0(end, adjoint=OURS[0], **UNBOUNDED),
        r"max_steps=None.*max_steps=4096.*checkpoints=\.\.\.",
        [
            (by_y0(end, adjoint=OURS[0], max_steps=4096), AT_END),
            (
                by_y0(end, adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints=8), **UNBOUNDED),
                AT_END,
            ),
        ],
    ),
    "time": (
        by_time(adjoint=OURS[1]),
        "with respect to `t1`.*DiscreteAdjoint.*stop_gradient",
        [(by_time(adjoint=OURS[0]), BY_TIME), (still(adjoint=OURS[1]), AT_END)],
    ),
    "jump": (
        lambda: jax.grad(lambda t: switched_on(t, OURS[0], t[None]))(jnp.array(0.5)),
        "with respect to `stepsize_controller`.*start another.*RecursiveCheckpointAdjoint",
        [
            (lambda: jax.grad(lambda t: switched_on(t, CHECKPOINTS, t[None]))(jnp.array(0.5)), -1),
            (lambda: jax.grad(in_two_solves)(0.5), -1),
        ],
    ),
    "dt0": (
        lambda: jax.grad(lambda dt0: end(dt0=dt0, adjoint=OURS[0], **EULER))(0.25),
        "with respect to `dt0`.*of fixed steps.*RecursiveCheckpointAdjoint",
        # diffrax ends four steps at h, 0.4, 0.6, 0.8: of `(1 + 2 h) (1 + 2 (0.4 - h)) 1.4^2` inverted.
        [(lambda: jax.grad(lambda dt0: end(dt0=dt0, **EULER))(0.25), BY_SIZE)],
    ),
    "solver": (
        by_y0(end, adjoint=OURS[0], solver=diffrax.Tsit5()),
        "the solver Tsit5.*RecursiveCheckpointAdjoint",
        [(by_y0(end, solver=diffrax.Tsit5()), AT_END)],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_advised_in_place_of_what_is_refused_gives_the_gradient(name):
    refused, message, advised = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        refused()
    for gradient, expected in advised:
        assert gradient() == pytest.approx(float(expected), rel=1e-3)


def by_rate(adjoint):
    return lambda rate: end(rate=rate, adjoint=adjoint)


# d^2/drate^2 of exp(-rate).
CURVATURE = pytest.approx(float(AT_END), rel=1e-3)


def reverse_twice(adjoint):
    return jax.grad(jax.grad(by_rate(adjoint)))(2.0)


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", OURS)
def test_reverse_over_reverse_is_refused_and_forward_over_reverse_works(adjoint):
    with pytest.raises(RuntimeError, match=r"jax\.hessian.*DirectAdjoint"):
        reverse_twice(adjoint)
    assert jax.hessian(by_rate(adjoint))(2.0) == CURVATURE


@pytest.mark.slow
def test_the_adjoint_advised_for_reverse_over_reverse_has_it():
    assert reverse_twice(diffrax.DirectAdjoint()) == CURVATURE


@pytest.mark.slow
def test_a_singular_mass_matrix_is_refused_by_continuous_adjoints_for_one_that_takes_it():
    def state(rate, adjoint):
        # y' = -rate z with 0 = y - z.
        field = lambda t, y, args: jnp.stack([-rate * y[1], y[0] - y[1]])
        terms = srx.MassMatrixTerm(field, jnp.diag(jnp.array([1.0, 0.0])))
        return end(jnp.ones(2), adjoint=adjoint, terms=terms)[0]

    with pytest.raises(ValueError, match="singular mass matrix.*DiscreteAdjoint"):
        jax.grad(state)(2.0, srx.GaussAdjoint())
    assert jax.grad(state)(2.0, srx.DiscreteAdjoint()) == pytest.approx(float(-AT_END), rel=1e-3)


def test_a_mass_that_is_traced_is_refused_when_run_if_it_is_singular():
    @eqx.filter_jit
    def handed_on(entry):
        mass = jnp.stack([1.0, entry])
        terms = srx.MassMatrixTerm(lambda t, y, args: -y, mass)
        return refuse_singular_mass("GaussAdjoint", terms, jnp.ones(2), jnp.ones(1))

    assert handed_on(jnp.array(2.0)) == 1
    with pytest.raises(RuntimeError, match="singular mass matrix.*DiscreteAdjoint"):
        handed_on(jnp.array(0.0))


@pytest.mark.slow
def test_a_traced_singular_mass_is_refused_by_a_gradient():
    def state(entry):
        field = lambda t, y, args: jnp.stack([-y[1], y[0] - y[1]])
        terms = srx.MassMatrixTerm(field, jnp.stack([1.0, entry]))
        return end(jnp.ones(2), adjoint=srx.GaussAdjoint(), terms=terms)[0]

    assert jnp.isfinite(jax.grad(state)(0.5))
    with pytest.raises(RuntimeError, match="singular mass matrix.*DiscreteAdjoint"):
        jax.grad(state)(0.0)


@pytest.mark.parametrize("kind", ["MultiTerm", "ControlTerm"])
def test_other_terms_are_refused_to_an_explicit_method_for_an_adjoint_that_takes_them(kind):
    decay = diffrax.ODETerm(lambda t, y, args: -y)
    control = diffrax.ControlTerm(lambda t, y, args: -y, lambda t0, t1: t1 - t0)
    terms = diffrax.MultiTerm(decay, decay) if kind == "MultiTerm" else control
    solver = srx.LearnableRungeKutta(1, key=jax.random.key(0))
    with pytest.raises(ValueError, match=f"given a {kind}; .*RecursiveCheckpointAdjoint"):
        end(jnp.array(1.0), adjoint=srx.DiscreteAdjoint(), terms=terms, solver=solver)


@pytest.mark.slow
def test_the_adjoint_advised_for_other_terms_has_their_gradient():
    decay = diffrax.ODETerm(lambda t, y, args: -y)
    options = {"terms": diffrax.MultiTerm(decay, decay), "dt0": 0.05, "max_steps": 32}
    solver = srx.LearnableRungeKutta(2, order=2, key=jax.random.key(0))
    assert by_y0(end, solver=solver, **options)() == pytest.approx(float(AT_END), rel=1e-2)


@pytest.mark.slow
def test_a_trained_tableau_is_refused_by_continuous_adjoints_for_one_that_reaches_it():
    solver = srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2))
    with pytest.raises(ValueError, match="LearnableRungeKutta.*DiscreteAdjoint"):
        jax.grad(lambda y0: end(y0, solver=solver, adjoint=srx.GaussAdjoint()))(1.0)
    found = jax.grad(lambda y0: end(y0, solver=solver, adjoint=srx.DiscreteAdjoint()))(1.0)
    # Of four steps, each of which multiplies by the stability function of the method.
    z = -0.5
    assert found == pytest.approx(((1 + z / 3) / (1 - 2 * z / 3 + z**2 / 6)) ** 4, rel=1e-12)


@pytest.mark.slow
def test_solving_back_is_refused_for_adjoints_that_do_not():
    with pytest.raises(ValueError, match="BacksolveAdjoint.*GaussAdjoint.*DiscreteAdjoint"):
        jax.grad(lambda y0: end(y0, adjoint=diffrax.BacksolveAdjoint()))(1.0)
    for adjoint in (srx.GaussAdjoint(), srx.DiscreteAdjoint()):
        assert jax.grad(lambda y0: end(y0, adjoint=adjoint))(1.0) == pytest.approx(  # noqa: B023
            float(AT_END), rel=1e-3
        )


@pytest.mark.parametrize("moves_times", [False, True])
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("dt0", r"stop_gradient`; of fixed steps `adjoint=diffrax\.RecursiveCheckpointAdjoint"),
        ("solver", r"stop_gradient`\.$"),
        ("stepsize_controller", "stop_gradient`; for a time at which the field jumps, end a solve"),
    ],
)
def test_no_adjoint_is_advised_for_what_none_differentiates(name, advice, moves_times):
    at = "DiscreteAdjoint", diffrax.SaveAt(t1=True), 8, None, {name: True}
    with pytest.raises(ValueError, match=f"close over. Write `jax.lax.{advice}"):
        refuse_derivative(*at, moves_times=moves_times)
