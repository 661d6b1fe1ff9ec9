"""Parts of a wrong kind are named where they are given, with what to write instead."""

import pathlib

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import stiffrax as srx

DATA = srx.Trajectories.from_arrays(np.linspace(0, 1, 6), np.ones((6, 2)))
MODEL = srx.Polynomial(2, 1)


def fit(**options):
    return srx.fit(MODEL, DATA, srx.SegmentLoss(), progress=False, **options)


def spectrum(**options):
    return srx.diagnostics.lyapunov_spectrum(MODEL, jnp.ones(2), time=50.0, burn_in=20.0, **options)


def solve_with_tolerances(atol):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: y),
        srx.BackwardEuler(),
        0.0,
        1.0,
        0.1,
        {"a": jnp.ones(1)},
        stepsize_controller=diffrax.PIDController(1e-3, atol),
    )


WRONG = {
    "`measure` is `3`; it needs a measure of errors": lambda: srx.TrajectoryLoss(measure=3),
    "`measure` is `'l2'`": lambda: srx.SegmentLoss(measure="l2"),
    "`measure` is a list": lambda: srx.NeighborhoodLoss(5, measure=[1]),
    "`solver` is `'radau'`; it needs a solver": lambda: srx.NeighborhoodLoss(5, solver="radau"),
    "`solver` is `'euler'`; it needs a solver": lambda: srx.LikelihoodLoss("euler"),
    "`adjoint` is `'discrete'`; it needs an adjoint": lambda: srx.TrajectoryLoss(
        adjoint="discrete"
    ),
    "`controller` is `1e-06`; it needs a step size": lambda: srx.TrajectoryLoss(controller=1e-6),
    "`atol` of shape \\(3,\\) was given": lambda: srx.TrajectoryLoss(atol=[1e-6] * 3)(MODEL, DATA),
    "`rtol=\\[1e-06\\]` was given; it needs a positive number": lambda: srx.TrajectoryLoss(
        rtol=[1e-6]
    ),
    "`rtol=array\\(.*\\)` was given": lambda: srx.LikelihoodLoss(rtol=np.array([1e-6, 1e-9])),
    "PredictiveController\\(atol=\\[1e-06, 1e-09\\]\\)` was given; it needs one number, or an array": (
        lambda: srx.PredictiveController(1e-6, [1e-6, 1e-9])
    ),
    "SimplifiedNewton\\(rtol=\\(1e-06,\\)\\)` was given": lambda: srx.SimplifiedNewton(
        (1e-6,), 1e-9
    ),
    "PIDController\\(atol=\\{'a': 1e-06\\}\\)` was given": lambda: solve_with_tolerances(
        {"a": 1e-6}
    ),
    "`optimizer` is `'adam'`; it needs an `optax.GradientTransformation`": lambda: fit(
        optimizer="adam"
    ),
    "`seed=1.5` was given": lambda: fit(seed=1.5),
    "`optimizer` is `'sgd'`": lambda: srx.fit_homotopy(
        MODEL, DATA, srx.HomotopyLoss(srx.TrajectoryLoss(), 1.0), optimizer="sgd"
    ),
    "`width='0.1'` was given; it needs a number above 0 and below 0.5. Write `Steer": (
        lambda: srx.Steer("0.1")
    ),
    "`first='1'` was given; it needs a positive number": lambda: srx.GrowingHorizon("1", 2),
    "`df=inf` was given; it needs a positive number": lambda: srx.StudentNoise(np.inf),
    "`df='4'` was given": lambda: srx.StudentNoise("4"),
    "`weight=inf` was given": lambda: srx.RoughnessPenalty(np.inf),
    "`size=array\\(.*\\)` was given": lambda: srx.RoughnessPenalty(size=np.ones(2)),
    "`annulus=0.5` was given": lambda: srx.NeighborhoodLoss(5, annulus=0.5),
    "`step=inf` was given; it needs a positive number": lambda: spectrum(step=np.inf),
    "`step='0.1'` was given": lambda: spectrum(step="0.1"),
    "`interval=inf` was given": lambda: spectrum(interval=np.inf),
    "`checkpoint_every=None` was given": lambda: fit(checkpoint="x", checkpoint_every=None),
    "`checkpoint_every=nan` was given": lambda: fit(checkpoint="x", checkpoint_every=np.nan),
    "`transforms` is `None`; it needs functions": lambda: fit(transforms=None),
    "`transforms` is a int, which cannot be called": lambda: fit(transforms=[1]),
    "`checkpoint='.*tests'` was given, which is a folder": lambda: fit(
        checkpoint=pathlib.Path(__file__).parent
    ),
    "`values='6'` was given; it needs an integer of at least 2": lambda: srx.HomotopySchedule("6"),
    "`values=6.5` was given": lambda: srx.HomotopySchedule(6.5),
    "`positive` is traced, and its numbers are checked": lambda: jax.vmap(srx.positive)(np.ones(2)),
    "`weight` is traced, and its numbers are checked": lambda: jax.grad(
        lambda s: srx.SegmentLoss(measure=srx.ScaledMSE(weight=[1.0, s]))(MODEL, DATA)
    )(0.1),
    "`steps=True` was given; it needs a positive integer": lambda: srx.HomotopySchedule(steps=True),
    "`chunk=True` was given; it needs a positive integer": lambda: srx.DiscreteAdjoint(chunk=True),
    "`optimizer` is a MultiSteps; it needs an `optax.GradientTransformation`": lambda: fit(
        optimizer=optax.MultiSteps(optax.adam(1e-3), 2)
    ),
    "`loss` is a list, which cannot be called": lambda: srx.fit(MODEL, DATA, [srx.SegmentLoss()]),
    "`method` is `None`; it needs a tableau": lambda: srx.LearnableRungeKutta.from_tableau(None),
    "`order=9` was given; it needs an integer from 1 to 8": lambda: srx.LearnableRungeKutta(
        2, key=jax.random.key(0)
    ).projected(9),
    "`tableau` is a RosenbrockTableau; it needs a tableau of a Runge-Kutta": lambda: (
        srx.diagnostics.method_report(srx.tableaus.rodas5p())
    ),
    "`tableau` is `'RadauIIA5'`": lambda: srx.diagnostics.method_report("RadauIIA5"),
    "`solution` is `None`; it needs the solution": lambda: srx.diagnostics.explain(None),
    "`data` is a Measurements; it needs `stiffrax.Trajectories`": lambda: srx.plots.trajectories(
        srx.Measurements.from_trajectories(DATA)  # type: ignore
    ),
    "`predictions` is a tuple; it needs pairs of times and values": lambda: srx.plots.trajectories(
        DATA, DATA[0]
    ),
    "`history` is a tuple; it needs a `History`": lambda: srx.plots.history(DATA[0]),
    "`losses` is a list; it needs losses by": lambda: srx.plots.loss_landscape([0], [0]),
    "`comparison` is `'x'`; it needs a `Comparison`": lambda: srx.plots.coefficients("x"),
    "`solution` is `None`; it needs the solution of a solve. Write `diffrax": lambda: (
        srx.plots.steps(None)
    ),
    "`solution` is `'x'`; it needs the": lambda: srx.plots.newton_iterations("x"),
    "`spectrum` is a ndarray; it": lambda: srx.plots.lyapunov_convergence(np.ones(2)),
    "`curves` is a tuple; it needs pairs of errors": lambda: srx.plots.work_precision(DATA[0]),
    "`fit` is a Trajectories; it needs the fit of a system": lambda: srx.plots.measured_fit(DATA),
    "`fit` is a tuple; it needs the fit": lambda: srx.plots.normal_quantiles(DATA[0]),
    "`fit` is `None`; it needs the fit of a system": lambda: srx.plots.waterfall(None),
    "`found` is a list; it needs profiles by their names": lambda: srx.plots.profiles([1]),
    "`text` is `None`; it needs the equations": lambda: srx.from_text(None),
}

# A network of `y` alone, in each place where a model is called as `model(t, y, args)`.
NET = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))
CALLED = [
    ("known", srx.PartiallyKnown(NET, MODEL)),
    ("learned", srx.PartiallyKnown(MODEL, NET, num_states=2)),
    ("learned", srx.ConstrainedField(NET, MODEL, num_states=2)),
    ("constraint", srx.ConstrainedField(lambda t, y, args: y[:1], NET, num_states=2)),
    ("field", srx.System(NET)),
]


@pytest.fixture(autouse=True)
def _without_annotations():
    # They are checked in tests only, and would come first.
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("message", WRONG)
def test_a_part_of_a_wrong_kind_is_named(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


@pytest.mark.parametrize(("name", "model"), CALLED)
def test_a_part_that_takes_other_arguments_is_named(name, model):
    called = r"fails, called as `model\(t, y, args\)` with `y` of shape \(2,\): MLP.* takes 2"
    with pytest.raises(ValueError, match=f"`{name}` {called}"):
        model(0.0, jnp.ones(2), None)


def test_parts_of_the_right_kind_are_taken():
    controller = diffrax.PIDController(rtol=1e-3, atol=1e-6)
    loss = srx.TrajectoryLoss(diffrax.Kvaerno5(), atol=np.ones(2), controller=controller)
    assert loss.controller is controller
    assert loss.for_data(DATA).atol.shape == (2,)


@pytest.mark.usefixtures("unchecked_types")
def test_counts_may_be_integers_of_numpy():
    one = np.int64(1)
    assert srx.Banded(one, one) == srx.Banded(1, 1)
    assert srx.DiscreteAdjoint(chunk=one).chunk == 1
    assert srx.ForwardSensitivity(chunk=one).chunk == 1
    assert srx.GaussAdjoint(nodes=one).nodes == 1
    assert len(srx.tableaus.order_conditions(srx.tableaus.gauss(1), np.int64(2))) == 1
