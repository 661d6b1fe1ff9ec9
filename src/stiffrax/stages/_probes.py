"""Jacobians by as many forward-mode sweeps as their structure needs, and a sweep that checks it."""

from typing import NamedTuple, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ._stage_system import FlatField

# Columns of the same group are so many times as far from each other as a declared part asks for: what
# is beside the part is then seen by itself. Chosen, not measured.
_SPACING = 3

_Jacobian = TypeVar("_Jacobian")


@final
class Probes(NamedTuple):
    """Products of a Jacobian with the sum of each group of unit vectors, and with a direction."""

    columns: Float[Array, "groups n"]
    direction: Float[Array, " n"]
    product: Float[Array, " n"]


def probe(
    field: FlatField, t: Array, y: Float[Array, " n"], groups: np.ndarray, num_groups: int
) -> Probes:
    """One forward-mode sweep a group of columns, and one along a fixed direction of no pattern."""
    rng = np.random.default_rng(0)
    direction = rng.uniform(0.5, 1.5, y.size) * rng.choice([-1.0, 1.0], y.size)
    seeds = np.concatenate([groups[None] == np.arange(num_groups)[:, None], direction[None]])
    seeds = jnp.asarray(seeds, y.dtype)
    products = jax.vmap(lambda seed: jax.jvp(lambda x: field(t, x), (y,), (seed,))[1])(seeds)
    return Probes(products[:-1], seeds[-1], products[-1])


def probe_part(
    field: FlatField, t: Array, y: Float[Array, " n"], width: int
) -> Float[Array, "groups n"]:
    """Products with the sum of every so many unit vectors, for a part of that width.

    Of an entry outside of the part only what is a multiple of the spacing away is taken for one in it.
    """
    count = _SPACING * width
    return probe(field, t, y, np.arange(y.size) % count, count).columns


def spread_groups(groups: np.ndarray) -> np.ndarray:
    """Groups of columns of a part, cut into as many as the spacing says."""
    return _SPACING * groups + np.arange(groups.size) % _SPACING


def refuse_entries_outside(
    written: str,
    jacobian: _Jacobian,
    product: Float[Array, " n"],
    expected: Float[Array, " n"],
    size: Float[Array, " n"],
) -> _Jacobian:
    """The Jacobian, unless its product with a direction shows that entries are missing from it.

    Such an entry would be added to another one of its row. `expected` is the product by what was
    found, `size` the sum of the absolute values of its terms. Rounding in a field whose terms cancel
    is far below what is refused, the fourth root of a unit of rounding. A smaller entry may slow the
    iteration, and what is solved by such a Jacobian alone asks `refuse_missing`.
    """
    missing = jnp.abs(product - expected) > jnp.finfo(size.dtype).eps ** 0.25 * size
    return refuse_missing(written, jacobian, missing)


def refuse_missing(written: str, tree: _Jacobian, missing: Bool[Array, " n"]) -> _Jacobian:
    """What was made of a structure, unless entries are missing from some row of it."""
    return eqx.error_if(
        tree,
        jnp.any(missing),
        f"The Jacobian has an entry outside of `structure={written}`: some component of the vector "
        "field depends on a state that the structure leaves out. Give a structure that has it; "
        "`Sparsity.detect(field, y0, args)` finds one.",
    )
