"""Sums of weighted entries, many short and a few long ones, by gathers alone."""

from typing import final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@final
class GatheredSums:
    """`out[place] = sum of weight * x[source]`; the arrays are known when it is made.

    Sums are taken together with those of about their length, in rows filled up to a power of two. A
    scatter is one loop over all terms on the CPU.
    """

    def __init__(self, place: np.ndarray, source: np.ndarray, weight: np.ndarray, size: int):
        places, which, counts = np.unique(place, return_inverse=True, return_counts=True)
        order = np.argsort(which, kind="stable")
        position = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        widths = 2 ** np.ceil(np.log2(counts)).astype(int)
        self.rows: list[tuple[np.ndarray, np.ndarray]] = []
        # Places without a term read a zero at the end.
        self.place = np.full(size, len(places))
        done = 0
        for width in np.unique(widths):
            of_width = np.flatnonzero(widths == width)
            row = np.full(len(places), -1)
            row[of_width] = np.arange(len(of_width))
            mine = row[which[order]] >= 0
            at = row[which[order]][mine], position[mine]
            sources, weights = (np.zeros((len(of_width), width), d) for d in (int, float))
            sources[at], weights[at] = source[order][mine], weight[order][mine]
            self.rows.append((sources, weights))
            self.place[places[of_width]] = done + np.arange(len(of_width))
            done += len(of_width)

    def __call__(self, x: Float[Array, " terms"]) -> Float[Array, " size"]:
        sums = [jnp.sum(jnp.asarray(w, x.dtype) * x[s], axis=1) for s, w in self.rows]
        return jnp.concatenate([*sums, jnp.zeros(1, x.dtype)])[self.place]
