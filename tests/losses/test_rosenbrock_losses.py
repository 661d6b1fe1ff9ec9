"""Losses whose solver is a Rosenbrock method."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = jnp.linspace(0.0, 2.0, 5)
# y = 1 / (1 + t) solves y' = -y^2; the second component follows y with a lag.
YS = np.stack([1 / (1 + TS), 1 / (1 + TS)], axis=1)
LOSSES = {
    "segments": srx.SegmentLoss(solver=srx.Rodas5P()),
    "trajectories": srx.TrajectoryLoss(solver=srx.Rodas5P(), rtol=1e-8, atol=1e-10),
}


def model(rates):
    return lambda t, y, args: jnp.stack([-rates[0] * y[0] ** 2, rates[1] * (y[0] - y[1])])


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses_are_those_of_central_differences(name):
    samples, loss = srx.Trajectories.from_arrays(TS, YS[None]), LOSSES[name]
    rates, h = jnp.array([1.2, 20.0]), 1e-4
    value = jax.jit(lambda rates: loss(model(rates), samples))
    slope = jax.jit(jax.grad(lambda rates: loss(model(rates), samples)))(rates)
    differences = [(value(rates + h * e) - value(rates - h * e)) / (2 * h) for e in jnp.eye(2)]
    np.testing.assert_allclose(slope, differences, rtol=1e-5)


def test_losses_take_the_exact_gradient_of_its_steps():
    assert isinstance(LOSSES["trajectories"].adjoint, srx.DiscreteAdjoint)
    kvaerno = srx.TrajectoryLoss(solver=diffrax.Kvaerno5())
    assert isinstance(kvaerno.adjoint, diffrax.RecursiveCheckpointAdjoint)
