"""The backward pass over recorded steps of a method whose tableau is trained."""

from typing import final

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ._saved_values import StepCotangents
from ._step_record import Step, StepRecord


@final
class StepMaps(eqx.Module):
    """Steps as maps of their start and of `(terms, args, solver)`.

    `parameters` are the leaves whose cotangents are wanted, `others` the rest. Through the maps,
    not through the stage equations, since those of the explicit kind have no inverse of `A`.
    """

    parameters: PyTree
    others: PyTree
    state: PyTree[Array]

    def step(
        self, parameters: PyTree, step: Step, y0: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, "p n"]]:
        """The end of a step, and the polynomial within it."""
        terms, args, solver = eqx.combine(parameters, self.others)
        _, restore = ravel_pytree(self.state)
        y1, _, dense_info, _, _ = solver.step(
            terms, step.t0, step.t1, restore(y0), args, None, False
        )
        flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])
        return ravel_pytree(y1)[0], flat(dense_info["coefficients"])


def sweep_step_maps(
    maps: StepMaps, record: StepRecord, cotangents: StepCotangents, *, chunk_size: int
) -> tuple[Float[Array, " n"], PyTree]:
    """The cotangents of the initial state and of the parameters.

    In a batch over the steps of a chunk: their solution, its derivative for all unit cotangents of
    the end (which make the step an affine map), and at last the sum for the parameters.
    """

    def body(carry: tuple[Array, Array, PyTree]) -> tuple[Array, Array, PyTree]:
        c, y1_bar, parameters_bar = carry
        index = (c - 1) * chunk_size + jnp.arange(chunk_size)
        used, row = index < record.count, jnp.minimum(index, record.t0.size - 1)
        nodes = jnp.where(used[:, None], cotangents.nodes[row], 0)
        start, new = _pull_chunk(
            maps, record.take(index), used, nodes, _rows(cotangents, used, row), y1_bar
        )
        new = jax.tree.map(lambda x: jnp.where(jnp.any(used), x, 0), new)
        return c - 1, start, jax.tree.map(jnp.add, parameters_bar, new)

    chunks = eqxi.unvmap_max(-(-record.count // chunk_size))
    end = cotangents.nodes[record.count]
    zero = jax.tree.map(jnp.zeros_like, maps.parameters)
    _, y0_bar, parameters_bar = lax.while_loop(
        lambda carry: carry[0] > 0, body, (chunks, end, zero)
    )
    return y0_bar, parameters_bar


def _rows(cotangents: StepCotangents, used: Array, row: Array) -> Array | None:
    if cotangents.coefficients is None:
        return None
    return jnp.where(used[:, None, None], cotangents.coefficients[row], 0)


def _pull_chunk(
    maps: StepMaps, steps: Step, used: Array, nodes: Array, p_bar: Array | None, end: Array
) -> tuple[Array, PyTree]:
    """From the cotangent of the end of the last step to that of the start of the first."""
    n = nodes.shape[1]

    def ends(parameters: PyTree, y0: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda step, y: maps.step(parameters, step, y))(steps, y0)

    (y1, p), pull = jax.vjp(ends, maps.parameters, steps.y0)
    p_bar = jnp.zeros_like(p) if p_bar is None else p_bar

    def pull_unit(unit: Array) -> Array:
        return pull((jnp.broadcast_to(unit, y1.shape), jnp.zeros_like(p)))[1]

    identity = jnp.eye(n, dtype=y1.dtype)
    # Rows of P are indexed by the unit cotangents, after the steps.
    P = jnp.where(used[:, None, None], jax.vmap(pull_unit, out_axes=1)(identity), identity)
    q = pull((jnp.zeros_like(y1), p_bar))[1]
    q = jnp.where(used[:, None], q, 0) + nodes

    def before(y1_bar: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        P, q = step
        return y1_bar @ P + q, y1_bar

    start, y1_bars = lax.scan(before, end, (P, q), reverse=True)
    return start, pull((jnp.where(used[:, None], y1_bars, 0), p_bar))[0]
