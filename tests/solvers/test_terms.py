import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_solver import EULER

import stiffrax as srx
from stiffrax.solvers._terms import step_times

TERM = diffrax.ODETerm(lambda t, y, args: -y)


@pytest.mark.parametrize("end", [0.0, 1.0, 1e-3, 1e5])
def test_the_last_stage_of_a_step_to_a_jump_lies_before_it(end):
    ends = np.nextafter(end, -np.inf) if end else -np.finfo(float).tiny
    for start in ends - np.random.default_rng(0).uniform(0, 2, 50) * max(end, 1.0):
        t0, dt, _ = step_times(TERM, start, ends)
        assert t0 + dt <= ends
        np.testing.assert_allclose(dt, ends - start, rtol=1e-15)


def test_a_step_moves_with_both_of_its_ends():
    lengths = jax.grad(lambda t0, t1: step_times(TERM, t0, t1)[1], (0, 1))
    assert lengths(-1.0, -np.finfo(float).tiny) == (-1.0, 1.0)


def across(t0, solver, adjoint):
    """1 before the jump at zero, 3 after it."""
    control = diffrax.ClipStepSizeController(
        diffrax.PIDController(1e-6, 1e-8), jump_ts=jnp.array([0.0])
    )
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jnp.where(t < 0, 1.0, 3.0)),
        solver,
        t0,
        1.0,
        0.1,
        jnp.array(0.0),
        stepsize_controller=control,
        adjoint=adjoint,
        max_steps=8,
    ).ys[-1]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [srx.RadauIIA5(), srx.RadauIIA9(), srx.Rodas5P()], ids=repr)
def test_a_jump_at_zero_is_met_exactly_and_its_time_stays(solver):
    value, slope = jax.value_and_grad(across)(-1.0, solver, srx.DiscreteAdjoint())
    np.testing.assert_allclose([value, slope], [4.0, -1.0], rtol=1e-12)


class Squared(diffrax.ODETerm):
    """Runs in the time `t^2`."""

    def contr(self, t0, t1, **kwargs):
        return t1**2 - t0**2


class Masked(diffrax.ODETerm):
    """Stands still."""

    def prod(self, vf, control):
        return jnp.zeros(()) * vf * control


class SecondOrder(diffrax.ODETerm):
    """`x'' = f(t, x)` times what is closed over beside the field."""

    factor: object

    def vf(self, t, y, args):
        return {"x": y["v"], "v": self.factor() * self.vector_field(t, y["x"])}


def short(terms, solver=EULER, adjoint=None, t0=0.0, t1=1.0, dt0=0.5, y0=1.0):
    """Two steps."""
    adjoint = srx.DiscreteAdjoint() if adjoint is None else adjoint
    y0 = jax.tree.map(jnp.asarray, y0)
    return diffrax.diffeqsolve(terms, solver, t0, t1, dt0, y0, adjoint=adjoint, max_steps=4).ys


@pytest.mark.parametrize(
    ("solver", "adjoint"),
    [
        (srx.RadauIIA5(), diffrax.RecursiveCheckpointAdjoint()),
        (srx.Rodas5P(), diffrax.RecursiveCheckpointAdjoint()),
        (EULER, srx.DiscreteAdjoint()),
    ],
    ids=["implicit", "Rosenbrock", "adjoint"],
)
def test_a_term_with_its_own_product_is_refused(solver, adjoint):
    with pytest.raises(ValueError, match="A Masked with its own `prod` was given.*Write a `vf`"):
        short(Masked(TERM.vector_field), solver, adjoint)


def test_a_term_with_its_own_control_is_refused_by_continuous_adjoints():
    with pytest.raises(ValueError, match="given a Squared with its own `contr`.*DiscreteAdjoint"):
        short(Squared(TERM.vector_field), srx.RadauIIA5(), srx.GaussAdjoint())


@pytest.mark.parametrize("length", [0.5, 0.0])
def test_a_term_with_its_own_control_moves_by_it(length):
    def end(t1):
        return short(Squared(TERM.vector_field), t0=0.5, t1=t1)[-1]

    # One step, `1 - (t1^2 - t0^2)`.
    np.testing.assert_allclose(jax.grad(end)(0.5 + length), -2 * (0.5 + length))


def test_a_term_with_its_own_vf_has_gradients_by_all_that_it_closes_over():
    def position(rate, power):
        terms = SecondOrder(lambda t, x: -power * x, lambda: rate)
        return short(terms, y0={"x": 1.0, "v": 0.0})["x"][-1]

    # Two steps of a half: `1 - h^2 rate power`.
    np.testing.assert_allclose(jax.grad(position, (0, 1))(3.0, 2.0), [-0.5, -0.75])
