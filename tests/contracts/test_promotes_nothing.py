"""Nothing promotes ranks or dtypes in float32; `conftest.py` forbids it to all tests, in float64."""

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

import stiffrax as srx

PREDICTIVE = srx.PredictiveController(rtol=1e-4, atol=1e-6)
PID = diffrax.PIDController(rtol=1e-3, atol=1e-5)
F32 = jnp.float32
FIXED = diffrax.ConstantStepSize()


def chain(t, y, args):
    return args * (jnp.roll(y, 1).at[0].set(0) - y) - jnp.square(y)


def trace_gradient(solver, controller, *, term=None, lanes=False, ts=None, **options):
    """Traces a solve and its derivative: strict modes complain while tracing."""

    def loss(rate):
        ys = diffrax.diffeqsolve(
            diffrax.ODETerm(chain) if term is None else term,
            solver,
            jnp.zeros((), F32),
            jnp.ones((), F32),
            jnp.full((), 0.1, F32),
            jnp.ones(6, F32),
            rate,
            stepsize_controller=controller,
            saveat=diffrax.SaveAt(t1=True) if ts is None else diffrax.SaveAt(ts=ts),
            max_steps=64,
            **options,
        ).ys
        return jnp.sum(ys)

    gradient, rate = jax.value_and_grad(loss), jnp.full((), 2.0, F32)
    if lanes:
        program = jax.make_jaxpr(jax.vmap(gradient))(jnp.stack([rate, rate]))
    else:
        program = jax.make_jaxpr(gradient)(rate)
    # A conversion that is written out is no promotion, and no less wrong.
    assert {x.dtype for x in program.out_avals} == {jnp.dtype(F32)}
    assert not any(map(is_widening, equations(program.jaxpr)))


def equations(jaxpr):
    """All of a program, in loops and branches too."""
    for equation in jaxpr.eqns:
        yield equation
        for x in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(x):
                yield from equations(getattr(x, "jaxpr", x))


def is_program(x):
    return isinstance(x, Jaxpr | ClosedJaxpr)


def is_widening(equation):
    if equation.primitive.name != "convert_element_type":
        return False
    (before,), (after,) = equation.invars, equation.outvars
    return (before.aval.dtype, after.aval.dtype) == (jnp.dtype(F32), jnp.dtype(float))


@pytest.mark.slow_cases("Trapezoid()", "GaussLegendre4()", "RadauIIA5()")
@pytest.mark.parametrize(
    "solver", [srx.RadauIIA5(), srx.Trapezoid(), srx.GaussLegendre4(), srx.Rodas5P()], ids=repr
)
def test_solvers_promote_nothing(solver):
    trace_gradient(solver, FIXED)


@pytest.mark.slow
def test_batches_under_controllers_of_diffrax_promote_nothing():
    trace_gradient(srx.RadauIIA5(), PID, lanes=True)


@pytest.mark.slow
def test_a_variable_order_promotes_nothing():
    trace_gradient(srx.RadauIIA("auto"), PREDICTIVE)


@pytest.mark.slow
def test_interior_control_and_mixed_precision_promote_nothing():
    solver = srx.RadauIIA5(control_interior=True, mixed_precision=True)
    trace_gradient(solver, srx.RecordingController(PREDICTIVE))


@pytest.mark.slow
def test_learnable_methods_promote_nothing():
    solver = srx.LearnableRungeKutta(3, "implicit", key=jax.random.key(0))
    solver = jax.tree.map(lambda x: x.astype(F32), solver)
    trace_gradient(solver, FIXED)


STRUCTURES = {
    "banded": srx.Banded(1, 0),
    "blocks": srx.BlockDiagonal(3),
    "sparsity": srx.Sparsity(np.eye(6) + np.eye(6, k=-1)),
    "matrix free": srx.MatrixFree(),
    "lineax": srx.Dense(lx.LU()),
}


@pytest.mark.slow
@pytest.mark.parametrize("with_mass", [False, True], ids=["no mass", "mass"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_promote_nothing(name, with_mass):
    term = srx.MassMatrixTerm(chain, jnp.arange(6, dtype=F32)) if with_mass else None
    trace_gradient(srx.RadauIIA5(structure=STRUCTURES[name]), PREDICTIVE, term=term)


ADJOINTS = {
    "discrete": srx.DiscreteAdjoint(),
    "forward": srx.ForwardSensitivity(),
    "interpolating": srx.InterpolatingAdjoint(),
    "quadrature": srx.QuadratureAdjoint(),
    "gauss": srx.GaussAdjoint(),
    "imex": srx.ImexAdjoint(),
}


@pytest.mark.slow_cases("interpolating", "quadrature", "imex", "forward")
@pytest.mark.parametrize("name", ADJOINTS)
def test_adjoints_promote_nothing(name):
    ts = jnp.linspace(0, 1, 5, dtype=F32)
    trace_gradient(srx.RadauIIA5(), PREDICTIVE, ts=ts, adjoint=ADJOINTS[name])


FIT_DATA = srx.Trajectories.from_arrays(
    np.linspace(0.0, 1.0, 9), np.exp(-3 * np.linspace(0.0, 1.0, 9))[:, None] * np.ones((2, 1, 1))
)


@pytest.mark.slow
def test_training_by_optimizers_that_promote_promotes_nothing():
    fit = srx.fit(
        srx.Polynomial(1, degree=1),
        FIT_DATA,
        srx.SegmentLoss(srx.BackwardEuler()),
        steps=2,
        batch_size=1,
        optimizer=optax.chain(optax.normalize_by_update_norm(1.0), optax.adamw(0.1)),
        transforms=[srx.GrowingHorizon(0.2, 2), srx.Steer(0.1)],
        held_out=0.5,
    )
    assert np.all(np.isfinite(fit.history.loss))
