"""JAX's strict modes: no implicit promotion of ranks and dtypes anywhere, in both precisions."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
import pytest

import stiffrax as srx

PREDICTIVE = srx.PredictiveController(rtol=1e-4, atol=1e-6)
PID = diffrax.PIDController(rtol=1e-3, atol=1e-5)
FIXED = diffrax.ConstantStepSize()


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(params=[jnp.float64, jnp.float32], ids=["float64", "float32"])
def dtype(request):
    return request.param


def chain(t, y, args):
    return args * (jnp.roll(y, 1).at[0].set(0) - y) - jnp.square(y)


def trace_gradient(solver, controller, dtype, *, term=None, lanes=False, ts=None, **options):
    """Traces a solve and its derivative: strict modes complain while tracing."""

    def loss(rate):
        ys = diffrax.diffeqsolve(
            diffrax.ODETerm(chain) if term is None else term,
            solver,
            jnp.zeros((), dtype),
            jnp.ones((), dtype),
            jnp.full((), 0.1, dtype),
            jnp.ones(6, dtype),
            rate,
            stepsize_controller=controller,
            saveat=diffrax.SaveAt(t1=True) if ts is None else diffrax.SaveAt(ts=ts),
            max_steps=64,
            **options,
        ).ys
        return jnp.sum(ys)

    gradient, rate = jax.grad(loss), jnp.full((), 2.0, dtype)
    if lanes:
        return jax.make_jaxpr(jax.vmap(gradient))(jnp.stack([rate, rate]))
    return jax.make_jaxpr(gradient)(rate)


@pytest.mark.slow_cases("float32-*", "*-Trapezoid()", "*-GaussLegendre4()")
@pytest.mark.parametrize(
    "solver", [srx.RadauIIA5(), srx.Trapezoid(), srx.GaussLegendre4()], ids=repr
)
def test_solvers(solver, dtype):
    trace_gradient(solver, FIXED, dtype)


@pytest.mark.slow_cases("float32")
def test_batches_under_error_control(dtype):
    trace_gradient(srx.RadauIIA5(), PREDICTIVE, dtype, lanes=True)


@pytest.mark.slow_cases("float32")
def test_controllers_of_diffrax(dtype):
    trace_gradient(srx.RadauIIA5(), PID, dtype)


@pytest.mark.slow
def test_variable_order(dtype):
    trace_gradient(srx.RadauIIA("auto"), PREDICTIVE, dtype)


@pytest.mark.slow_cases("float64")
def test_interior_control_and_mixed_precision(dtype):
    solver = srx.RadauIIA5(control_interior=True, mixed_precision=True)
    trace_gradient(solver, srx.RecordingController(PREDICTIVE), dtype)


@pytest.mark.slow
def test_learnable_methods(dtype):
    solver = srx.LearnableRungeKutta(3, "implicit", key=jax.random.key(0))
    solver = jax.tree.map(lambda x: x.astype(dtype), solver)
    trace_gradient(solver, FIXED, dtype)


STRUCTURES = {
    "banded": srx.Banded(1, 0),
    "blocks": srx.BlockDiagonal(3),
    "sparsity": srx.Sparsity(np.eye(6) + np.eye(6, k=-1)),
    "matrix free": srx.MatrixFree(),
    "lineax": srx.Dense(lx.LU()),
}


@pytest.mark.slow_cases("float32-*", "*-no mass", "*-sparsity-*", "*-matrix free-*", "*-lineax-*")
@pytest.mark.parametrize("with_mass", [False, True], ids=["no mass", "mass"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name, with_mass, dtype):
    term = srx.MassMatrixTerm(chain, jnp.arange(6, dtype=dtype)) if with_mass else None
    trace_gradient(srx.RadauIIA5(structure=STRUCTURES[name]), PREDICTIVE, dtype, term=term)


ADJOINTS = {
    "discrete": srx.DiscreteAdjoint(),
    "forward": srx.ForwardSensitivity(),
    "interpolating": srx.InterpolatingAdjoint(),
    "quadrature": srx.QuadratureAdjoint(),
    "gauss": srx.GaussAdjoint(),
    "imex": srx.ImexAdjoint(),
}


@pytest.mark.slow_cases("float32-*", "*-interpolating", "*-quadrature", "*-imex")
@pytest.mark.parametrize("name", ADJOINTS)
def test_adjoints(name, dtype):
    ts = jnp.linspace(0, 1, 5, dtype=dtype)
    trace_gradient(srx.RadauIIA5(), PREDICTIVE, dtype, ts=ts, adjoint=ADJOINTS[name])


def pairs():
    ts = np.linspace(0.0, 1.0, 9)
    starts = np.array([[[1.0, 2.0]], [[2.0, 1.0]], [[1.5, 1.0]]])
    return srx.Trajectories.from_arrays(ts, np.exp(-ts)[None, :, None] * starts)


LOSSES = {
    "trajectory": lambda: srx.TrajectoryLoss(srx.RadauIIA5()),
    "scaled": lambda: srx.TrajectoryLoss(measure=srx.ScaledMAE(scale=[1.0, 2.0])),
    "homotopy": lambda: srx.HomotopyLoss(srx.TrajectoryLoss(), coupling=9.0, strength=0.5),
    "segments": lambda: srx.SegmentLoss(srx.RadauIIA5()),
    "Jacobians": lambda: srx.JacobianLoss(np.zeros((3, 9, 2, 2))),
    "neighbors": lambda: srx.NeighborhoodLoss(num_neighbors=2, steps=2, theiler=0),
    "invariants": lambda: srx.InvariantLoss([-2.0], time=0.4, interval=0.1, starts=2),
}


@functools.cache
def models():
    polynomial = srx.Polynomial(2, degree=2)
    return {
        "polynomial": polynomial,
        "pi-net": srx.PiNet(num_states=2, width=3, degree=2, key=jax.random.key(0)),
        "scaled": srx.ScaledField(polynomial, y_scale=[1.0, 2.0], t_scale=3.0),
        "partially known": srx.PartiallyKnown(lambda t, y, args: -y, polynomial),
    }


@pytest.mark.slow_cases("trajectory", "homotopy")
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    data, loss = pairs(), LOSSES[name]()
    jax.make_jaxpr(jax.grad(lambda model: loss(model, data), allow_int=True))(
        models()["polynomial"]
    )


@pytest.mark.parametrize("name", ["polynomial", "pi-net", "scaled", "partially known"])
def test_models(name):
    model = models()[name]
    jax.make_jaxpr(jax.jacfwd(lambda y: model(0.0, y)))(jnp.ones(2))


FIT_DATA = srx.Trajectories.from_arrays(
    np.linspace(0.0, 1.0, 9), np.exp(-3 * np.linspace(0.0, 1.0, 9))[:, None] * np.ones((2, 1, 1))
)


@pytest.mark.slow
def test_least_squares():
    fit = srx.fit_least_squares(
        srx.Polynomial(1, degree=1), FIT_DATA, solver=srx.BackwardEuler(), max_steps=1
    )
    assert fit.num_failed == 0


@pytest.mark.slow
def test_training_by_optimizers_that_promote():
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
