"""Copies of whatever is public, as multiprocessing and checkpoints make them, are the same thing."""

import copy
import functools
import pickle

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx


def decay(t, y, args):
    return -y


def total(t, y, args):
    return jnp.sum(y) - 1


def growth(y):
    return y[0]


def polynomial():
    return srx.Polynomial(1, degree=1, coefficients=[[0.0, -1.0]])


def trajectories():
    ts = np.linspace(0.0, 1.0, 9)
    return srx.Trajectories.from_arrays(ts, np.exp(-ts)[None, :, None] * [[[1.0]], [[2.0]]])


def spline():
    return srx.SmoothingSpline(np.linspace(0.0, 1.0, 6), np.ones((6, 1)))


PREDICTIVE = srx.PredictiveController(rtol=1e-4, atol=1e-6)


def solve(solver, controller):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(decay),
        solver,
        0.0,
        1.0,
        0.1,
        jnp.array([1.0]),
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t1=True, dense=True),
        max_steps=64,
    )


OBJECTS = {
    "BackwardEuler": srx.BackwardEuler,
    "Trapezoid": srx.Trapezoid,
    "RadauIIA5": srx.RadauIIA5,
    "RadauIIA of variable order": lambda: srx.RadauIIA("auto"),
    "GaussLegendre4": lambda: srx.GaussLegendre4(root_finder=srx.SimplifiedNewton(1e-6, 1e-6)),
    "LearnableRungeKutta": lambda: srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2)),
    "Kvaerno5": diffrax.Kvaerno5,
    "Banded": lambda: srx.RadauIIA5(structure=srx.Banded(1, 1)),
    "BlockDiagonal": lambda: srx.BlockDiagonal(2),
    "Dense": lambda: srx.Dense(srx.SmallInverse()),
    "MatrixFree": srx.MatrixFree,
    "Sparsity": lambda: srx.Sparsity(np.eye(3)),
    "PredictiveController": lambda: PREDICTIVE,
    "RecordingController": lambda: srx.RecordingController(PREDICTIVE),
    "DiscreteAdjoint": srx.DiscreteAdjoint,
    "ForwardSensitivity": srx.ForwardSensitivity,
    "GaussAdjoint": srx.GaussAdjoint,
    "ImexAdjoint": srx.ImexAdjoint,
    "InterpolatingAdjoint": srx.InterpolatingAdjoint,
    "QuadratureAdjoint": srx.QuadratureAdjoint,
    "MassMatrixTerm": lambda: srx.MassMatrixTerm(decay, jnp.array([1.0, 0.0])),
    "TrajectoryLoss": lambda: srx.TrajectoryLoss(srx.RadauIIA5(), srx.ScaledMAE(scale=[2.0])),
    "HomotopyLoss": lambda: srx.HomotopyLoss(srx.TrajectoryLoss(), coupling=9.0, strength=0.5),
    "InvariantLoss": lambda: srx.InvariantLoss([-2.0], time=0.4, interval=0.1, starts=2),
    "JacobianLoss": lambda: srx.JacobianLoss(np.full((1, 5, 1, 1), -1.0)),
    "NeighborhoodLoss": lambda: srx.NeighborhoodLoss(num_neighbors=3, steps=2, theiler=0),
    "SegmentLoss": lambda: srx.SegmentLoss(srx.RadauIIA5()),
    "Polynomial": polynomial,
    "PiNet": lambda: srx.PiNet(num_states=2, width=3, degree=2, key=jax.random.key(0)),
    "Library": lambda: srx.Library({"growth": growth}, num_states=1, coefficients=[[0.1]]),
    "PartiallyKnown": lambda: srx.PartiallyKnown(
        decay, polynomial(), inputs=(0,), outputs=(1,), num_states=2
    ),
    "ScaledField": lambda: srx.ScaledField(polynomial(), y_scale=[2.0], t_scale=3.0),
    "CoupledField": lambda: srx.CoupledField(decay, spline(), coupling=2.0),
    "ConstrainedField": lambda: srx.ConstrainedField(decay, total, num_states=2),
    "equations of a model": lambda: srx.from_text("dx/dt = -2*x"),
    "Trajectories": trajectories,
    "Scaling": lambda: srx.Scaling.from_data(trajectories()),
    "SmoothingSpline": spline,
    "GrowingHorizon": lambda: srx.GrowingHorizon(first=0.2, steps=2),
    "HomotopySchedule": lambda: srx.HomotopySchedule(values=6),
    "Steer": lambda: srx.Steer(0.1),
    "tableau": lambda: srx.tableaus.radau_iia(3),
    "problem": srx.problems.robertson,
    "solution": lambda: solve(srx.RadauIIA5(), PREDICTIVE),
    "history": lambda: solve(srx.RadauIIA5(), srx.RecordingController(PREDICTIVE)),
    "fit": lambda: srx.fit_least_squares(polynomial(), trajectories(), max_steps=2),
}
COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}
every_way = pytest.mark.parametrize("way", COPIES)


@pytest.mark.slow_cases(
    "fit-*",
    "LearnableRungeKutta-deepcopy",
    "solution-deepcopy",
    "history-deepcopy",
    "solution-pickle",
    "history-pickle",
)
@every_way
@pytest.mark.parametrize("name", OBJECTS)
def test_a_copy_is_equal(name, way):
    original = OBJECTS[name]()
    assert eqx.tree_equal(COPIES[way](original), original)


@functools.cache
def _end(controller):
    return solve(srx.RadauIIA3(), controller).ys


@pytest.mark.slow_cases("fixed-*")
@every_way
@pytest.mark.parametrize(
    "controller", [diffrax.ConstantStepSize(), PREDICTIVE], ids=["fixed", "adaptive"]
)
def test_a_copy_of_a_solver_solves(controller, way):
    copied = COPIES[way](srx.RadauIIA3())
    np.testing.assert_array_equal(solve(copied, controller).ys, _end(controller))


def test_a_copy_of_a_solver_needs_no_new_compilation():
    traced = []

    @eqx.filter_jit
    def size(solver):
        traced.append(solver)
        return jnp.ones(len(solver.tableau.c))

    size(srx.RadauIIA5())
    size(copy.deepcopy(srx.RadauIIA5()))
    assert len(traced) == 1


def test_another_method_is_no_copy():
    assert srx.tableaus.radau_iia(2) != srx.tableaus.radau_iia(3)
    assert not eqx.tree_equal(srx.RadauIIA5(), srx.RadauIIA9())
