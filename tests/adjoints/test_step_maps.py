"""Derivatives of explicit Euler steps, quick to compile, by closed forms."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from every_solver import EULER

import stiffrax as srx
from stiffrax.adjoints import _differentiable_solve


def solve(field, args, adjoint=None, solver=EULER, **changes):
    options = {"t0": 0.0, "t1": 1.0, "dt0": 0.5, "y0": jnp.array(1.0), "max_steps": 4}
    adjoint = srx.DiscreteAdjoint(chunk=2) if adjoint is None else adjoint
    terms = diffrax.ODETerm(field)
    return diffrax.diffeqsolve(terms, solver, args=args, adjoint=adjoint, **(options | changes))


def decay(t, y, args):
    return -args * y


def fall(t, y, args):
    return -args + 0 * y


def test_forward_sensitivities_of_two_steps():
    end = lambda rate: solve(decay, rate, srx.ForwardSensitivity()).ys[-1]
    # y1 = (1 - rate / 2)^2.
    assert jax.jit(jax.grad(end))(0.5) == pytest.approx(-0.75, rel=1e-12)


def test_the_hessian_of_two_steps():
    end = lambda rate: solve(decay, rate).ys[-1]
    assert jax.jit(jax.hessian(end))(0.5) == pytest.approx(0.5, rel=1e-12)


def test_steps_backward_in_time():
    end = lambda rate: solve(decay, rate, t0=1.0, t1=0.0, dt0=-0.5).ys[-1]
    # y1 = (1 + rate / 2)^2.
    assert jax.jit(jax.grad(end))(0.5) == pytest.approx(1.25, rel=1e-12)


def test_dense_output_within_a_step():
    def within(rate, t):
        return solve(fall, rate, saveat=diffrax.SaveAt(dense=True)).evaluate(t)

    found = jax.jit(jax.grad(within, (0, 1)))(0.5, 0.3)
    np.testing.assert_allclose(found, [-0.3, -0.5], rtol=1e-12)


def test_the_time_of_an_event():
    def time(rate, threshold):
        condition = lambda t, y, args, **_: y - threshold
        event = diffrax.Event(condition, optx.Newton(1e-12, 1e-12))
        return solve(fall, rate, event=event).ts[-1]

    # It is (1 - threshold) / rate.
    found = jax.jit(jax.grad(time, (0, 1)))(0.5, 0.7)
    np.testing.assert_allclose(found, [-0.3 / 0.25, -2.0], rtol=1e-10)


@pytest.mark.parametrize(
    ("solver", "kept"), [(EULER, False), (srx.Rodas3P(), False), (srx.BackwardEuler(), True)]
)
def test_stages_are_kept_of_methods_whose_steps_are_equations(monkeypatch, solver, kept):
    asked = []

    def spy(*, keep_stages, **options):
        asked.append(keep_stages)
        return recorded_loop(keep_stages=keep_stages, **options)

    recorded_loop = _differentiable_solve.recorded_loop
    monkeypatch.setattr(_differentiable_solve, "recorded_loop", spy)
    # As no other test has it: what was traced is not traced again.
    end = lambda rate: solve(decay, rate, solver=solver, max_steps=3)
    jax.eval_shape(jax.grad(lambda rate: end(rate).ys[-1]), 0.5)
    assert asked == [kept]
