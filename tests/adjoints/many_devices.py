"""Gradients of solves on two devices, by `pmap` and `shard_map`, beside those of one device.

Started by a test in a process of its own: the number of devices is fixed when JAX starts.
"""

import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
# Not made under the map: such values have another type than those that are.
START, FACTORS = jnp.array([1.0, 0.5]), jnp.array([1.0, 20.0])
RATES = jnp.array([1.0, 2.0])


def end(rate, adjoint):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -rate * args * y),
        srx.RadauIIA5(),
        0.0,
        1.0,
        0.1,
        START,
        FACTORS,
        adjoint=adjoint,
        saveat=diffrax.SaveAt(ts=jnp.array([0.5, 1.0]), fn=lambda t, y, args: rate * y * args),
        max_steps=16,
    )
    return jnp.sum(solution.ys)


def mapped(function, *, check):
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("lanes",))
    spec = jax.sharding.PartitionSpec("lanes")
    options = {"mesh": mesh, "in_specs": spec, "out_specs": spec, "check_vma": check}
    return jax.jit(jax.shard_map(jax.vmap(function), **options))


for name in sys.argv[1].split(","):
    gradient = jax.grad(lambda rate, adjoint=getattr(srx, name)(): end(rate, adjoint))
    alone = jax.jit(jax.vmap(gradient))(RATES)
    np.testing.assert_allclose(jax.pmap(gradient)(RATES), alone, rtol=1e-12)
    if hasattr(jax, "shard_map"):
        np.testing.assert_allclose(mapped(gradient, check=False)(RATES), alone, rtol=1e-12)
        try:
            mapped(gradient, check=True)(RATES)
        except ValueError as error:
            sys.stdout.write(f"{name} refused: {error}\n")
    sys.stdout.write(f"{name} same on {len(jax.devices())} devices\n")
