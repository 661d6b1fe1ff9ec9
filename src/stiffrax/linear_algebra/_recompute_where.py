"""A second computation for the few lanes in which the first one failed."""

from collections.abc import Callable

import equinox.internal as eqxi
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .._trees import along_rows


def recompute_where(wrong: Array, again: Callable[[], Array], found: Array) -> Array:
    """`again()` in the rows that are `wrong`, and `found` in the others.

    Under `vmap` a `lax.cond` computes both branches for every lane. Its condition here is one for
    all lanes of a batch, which keeps it a branch: `again` costs nothing where no lane is wrong.
    """

    def repaired(found: Array) -> Array:
        return jnp.where(along_rows(wrong, found), again(), found)

    return lax.cond(eqxi.unvmap_any(wrong), repaired, lambda found: found, found)
