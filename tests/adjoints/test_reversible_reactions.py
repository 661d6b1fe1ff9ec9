"""Digits of gradients where a reaction and its reverse are far faster than all else."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

FAST = 1e12


def net_rate(t, y, rates):
    forth, back, out = rates * jnp.array([FAST, FAST, 1.0])
    net, loss = forth * y[0] - back * y[1], out * y[1]
    return jnp.stack([-net, net - loss, loss])


def rates_apart(t, y, rates):
    forth, back, out = rates * jnp.array([FAST, FAST, 1.0])
    return jnp.stack(
        [-forth * y[0] + back * y[1], forth * y[0] - back * y[1] - out * y[1], out * y[1]]
    )


ADJOINTS = {
    "DiscreteAdjoint": srx.DiscreteAdjoint(),
    "DiscreteAdjoint, solving in turn": srx.DiscreteAdjoint(recurrence="solve"),
    "RecursiveCheckpointAdjoint": diffrax.RecursiveCheckpointAdjoint(),
}


@pytest.mark.slow
@pytest.mark.parametrize("field", [net_rate, rates_apart])
@pytest.mark.parametrize("name", ADJOINTS)
def test_gradients_by_fast_rates_keep_nine_digits(name, field):
    # At equilibrium half of what is left flows out: 1 - exp(-t k forth / (forth + back)).
    def product(rates):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            srx.RadauIIA5(),
            0.0,
            1.0,
            0.02,
            jnp.array([1.0, 0.0, 0.0]),
            rates,
            adjoint=ADJOINTS[name],
            max_steps=64,
        )
        return sol.ys[-1, 2]

    gradient = jax.jit(jax.grad(product))(jnp.ones(3))
    expected = np.exp(-0.5) * np.array([0.25, -0.25, 0.5])
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)
