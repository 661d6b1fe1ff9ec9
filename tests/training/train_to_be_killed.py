"""A training that a test kills and starts again; prints a line when it starts, and the end."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import stiffrax as srx
import stiffrax.training._session as session

jax.config.update("jax_enable_x64", True)
advance = session.advance


def told(*args):
    """Says that the training goes on, so that the test knows when to kill it."""
    result = advance(*args)
    sys.stdout.write("on it\n")
    sys.stdout.flush()
    return result


class Decay(eqx.Module):
    rate: jax.Array

    def __call__(self, t, y, args=None):
        return -self.rate * y


def loss(model, data):
    error = data.ys[:, :1] * jnp.exp(-model.rate * data.ts)[..., None] - data.ys
    return jnp.mean(error**2)


TS = np.linspace(0.0, 1.0, 4)
DATA = srx.Trajectories.from_arrays(
    TS, np.array([[1.0], [2.0], [0.5], [1.5]])[:, None] * np.exp(-2 * TS)[None, :, None]
)


if __name__ == "__main__":
    session.MOST_STEPS = 40  # many calls, many checkpoints
    session.advance = told
    result = srx.fit(
        Decay(jnp.array(0.5)),
        DATA,
        loss,
        optimizer=optax.adam(0.01),
        steps=int(sys.argv[2]),
        batch_size=2,
        transforms=[srx.Steer(0.1)],
        checkpoint=sys.argv[1],
        checkpoint_every=0.0,
        progress=False,
    )
    sys.stdout.write(f"{float(result.last_model.rate).hex()} {np.sum(result.history.loss).hex()}\n")
