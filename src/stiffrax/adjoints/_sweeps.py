"""The two passes over the accepted steps, chunk by chunk."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast, final

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, Shaped

from .._flat_state import flatten_state
from ..diffrax_loop import StepRecord
from ._recorded_steps import AbstractRecordedSteps, Chunk, StepTangents
from ._saved_values import SavedPlaces


@final
class SolveTangents(eqx.Module):
    """Tangents (or cotangents) of what the steps of a solve depend on.

    `times`: of the starts and the ends of all steps, `None` where they stand still.
    """

    y0: Float[Array, " n"]
    parameters: PyTree
    times: tuple[Shaped[Array, " max_steps"], Shaped[Array, " max_steps"]] | None


@final
class SavedTangents(eqx.Module):
    """Tangents (or cotangents) of what a solve keeps.

    `rows`: of the states in the slots of each buffer, at fixed fractions of their steps.
    `nodes`, `polynomials`: of the starts and of the coefficients of all steps, where all are kept.
    """

    rows: list[Float[Array, "_ n"]]
    nodes: Float[Array, "max_steps n"] | None = None
    polynomials: Float[Array, "max_steps s n"] | None = None


@final
class Sweep(eqx.Module):
    """The accepted steps of a solve in chunks, and where saved values lie in them.

    Where there are as many slots as steps, they are read from buffers of all steps, others from each
    chunk: their cost does not depend on the bound on the number of steps.

    The loops run over as many chunks as hold accepted steps.
    """

    steps: AbstractRecordedSteps
    record: StepRecord
    places: list[SavedPlaces]
    dense: bool = eqx.field(static=True)
    chunk_size: int = eqx.field(static=True)
    recurrence: str = eqx.field(static=True)

    @property
    def _interior(self) -> bool:
        return self.dense or any(place.interior for place in self.places)

    @property
    def _chunks(self) -> Int[Array, ""]:
        return eqxi.unvmap_max(-(-self.record.count // self.chunk_size))

    def _buffers(self, dtype: Any, size: int) -> tuple[Array | None, Array | None]:
        """Nodes and polynomials of all steps, where slots are read from them."""
        by_step = [place for place in self.places if place.by_step]
        if not (self.dense or by_step):
            return None, None
        rows = -(-self.record.t0.size // self.chunk_size) * self.chunk_size
        nodes = jnp.zeros((rows + 1, size), dtype)
        if not (self.dense or any(place.interior for place in by_step)):
            return nodes, None
        return nodes, jnp.zeros((rows, self.steps.num_powers, size), dtype)

    def _take(self, c: Array) -> tuple[Int[Array, " k"], Chunk]:
        index = c * self.chunk_size + jnp.arange(self.chunk_size)
        used = index < self.record.count
        return index, Chunk(self.record.take(index), used, self.recurrence)

    def _read(self, nodes: Array, polynomials: Array | None, base: Array) -> list[Array]:
        """Reads the slots in one chunk of each buffer that has fewer slots than steps."""
        few = [place for place in self.places if not place.by_step]
        return [place.read(nodes, polynomials, base) for place in few]

    def _read_all(self, nodes: Any, polynomials: Any) -> SavedTangents:
        by_step = [place for place in self.places if place.by_step]
        rows = [place.read(nodes, polynomials, 0) for place in by_step]
        if not self.dense:
            return SavedTangents(rows)
        size = self.record.t0.size
        return SavedTangents(rows, nodes[:size], polynomials[:size])

    def _join(self, few: list[Array], by_step: list[Array]) -> list[Array]:
        one, other = iter(few), iter(by_step)
        return [next(other if place.by_step else one) for place in self.places]

    def _split(self, rows: list[Array]) -> tuple[list[Array], list[Array]]:
        pairs = list(zip(rows, self.places, strict=True))
        return [x for x, p in pairs if not p.by_step], [x for x, p in pairs if p.by_step]

    def ahead(self, tangents: SolveTangents) -> SavedTangents:
        """From the start of the solve to all that is kept."""
        y0 = tangents.y0
        buffers = self._buffers(y0.dtype, y0.size)

        def body(carry: tuple) -> tuple:
            c, start, few, buffers = carry
            index, chunk = self._take(c)
            times = jax.tree.map(
                lambda x: jnp.where(chunk.used, x[jnp.minimum(index, x.size - 1)], 0),
                tangents.times,
            )
            along = StepTangents(tangents.parameters, times)
            nodes, polynomials = self.steps.pushed(chunk, start, along, interior=self._interior)
            base = c * self.chunk_size
            few = jax.tree.map(jnp.add, few, self._read(nodes, polynomials, base))
            buffers = tuple(
                x if x is None else lax.dynamic_update_slice_in_dim(x, cast(Array, new), base, 0)
                for x, new in zip(buffers, (nodes, polynomials), strict=True)
            )
            return c + 1, nodes[-1], few, buffers

        # A solve of no length takes no step: all that it saves is its start.
        no_steps = [jnp.where((self.record.count == 0) & place.filled[:, None], y0[None], 0)
                    for place in self.places]  # fmt: skip
        few, by_step = self._split(no_steps)
        chunks = self._chunks
        _, _, few, buffers = lax.while_loop(
            lambda carry: carry[0] < chunks, body, (jnp.zeros_like(chunks), y0, few, buffers)
        )
        kept = self._read_all(*buffers)
        by_step = [x if y is None else x + y for x, y in zip(by_step, kept.rows, strict=True)]
        return replace(kept, rows=self._join(few, by_step))

    def back(self, cotangents: SavedTangents, *, times: bool) -> SolveTangents:
        """The transpose of `ahead`."""
        few, by_step = self._split(cotangents.rows)
        y0, _ = flatten_state(self.steps.state)
        size, dtype = y0.size, y0.dtype
        buffers = self._buffers(dtype, size)
        buffers = _transposed(self._read_all, buffers, replace(cotangents, rows=by_step))
        powers = self.steps.num_powers
        nothing = (
            jnp.zeros((self.chunk_size + 1, size), dtype),
            jnp.zeros((self.chunk_size, powers, size), dtype) if self._interior else None,
        )
        chunks = self._chunks

        def body(carry: tuple) -> tuple:
            c, end, bar = carry
            index, chunk = self._take(c)
            used = chunk.used
            base = c * self.chunk_size
            nodes, polynomials = _transposed(lambda x, p: self._read(x, p, base), nothing, few)
            if buffers[0] is not None:
                rows = lax.dynamic_slice_in_dim(buffers[0], base, self.chunk_size)
                nodes = nodes.at[:-1].add(rows)
            if buffers[1] is not None:
                rows = lax.dynamic_slice_in_dim(buffers[1], base, self.chunk_size)
                polynomials = rows if polynomials is None else polynomials + rows
            if polynomials is not None:
                polynomials = jnp.where(used[:, None, None], polynomials, 0)
            nodes = nodes.at[-1].add(end)
            start, new = self.steps.pulled(chunk, nodes, polynomials, times=times)
            # Steps not used repeat the last one, where all is well; but there may be no step at all.
            new = jax.tree.map(lambda x: jnp.where(jnp.any(used), x, 0), new)
            parameters = jax.tree.map(jnp.add, bar.parameters, new.parameters)
            added = None
            if bar.times is not None:
                added = tuple(
                    x.at[index].add(jnp.where(used, dx, 0), mode="drop")
                    for x, dx in zip(bar.times, new.times, strict=True)
                )
            return c - 1, start, StepTangents(parameters, added)

        row = jnp.zeros_like(self.record.t0)
        zero = StepTangents(
            jax.tree.map(jnp.zeros_like, self.steps.parameters), (row, row) if times else None
        )
        end = jnp.zeros(size, dtype)
        if buffers[0] is not None:
            end = buffers[0][chunks * self.chunk_size]
        _, y0, bar = lax.while_loop(lambda carry: carry[0] >= 0, body, (chunks - 1, end, zero))
        for place, rows in zip(self.places, cotangents.rows, strict=True):
            direct = (self.record.count == 0) & place.filled[:, None]
            y0 = y0 + jnp.sum(jnp.where(direct, rows, 0), axis=0)
        return SolveTangents(y0, bar.parameters, bar.times)


def _transposed(read: Callable, like: tuple, cotangents: Any) -> Any:
    """Pulls cotangents of what a linear function reads back to what it reads from."""
    _, pull = jax.vjp(read, *like)
    return pull(cotangents)
