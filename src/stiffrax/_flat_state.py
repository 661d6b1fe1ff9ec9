"""States as one real vector, in which a complex entry is two: its real and its imaginary part.

All below a solver sees real vectors only. A vector field that is not holomorphic, such as one of
`|y|^2 y`, then has the right Jacobian, and the transposes of both functions here are JAX's
convention for complex gradients.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, PyTree, Shaped


def has_complex(y: PyTree[ArrayLike]) -> bool:
    """Whether a leaf of the state is complex."""
    return any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(y))


def flatten_state(
    y: PyTree[ArrayLike],
) -> tuple[Shaped[Array, " n"], Callable[[Array], PyTree[Array]]]:
    """The flat state, and the function that restores structure and types.

    Both parts of an entry are neighbors, which keeps a band of the Jacobian a band.
    """
    # Leaves of several precisions are one vector under strict promotion too.
    with jax.numpy_dtype_promotion("standard"):
        if not has_complex(y):
            return ravel_pytree(y)
        flat, unravel = ravel_pytree(jax.tree.map(_parts, y))
    whole = jax.tree.map(jnp.iscomplexobj, y)

    def restore(x: Array) -> PyTree[Array]:
        return jax.tree.map(_whole, unravel(x), whole)

    return flat, restore


def _parts(y: ArrayLike) -> Array:
    y = jnp.asarray(y)
    return jnp.stack([y.real, y.imag], axis=-1) if jnp.iscomplexobj(y) else y


def _whole(x: Array, is_complex: bool) -> Array:
    return lax.complex(x[..., 0], x[..., 1]) if is_complex else x


def real_dtype(y: PyTree[ArrayLike]) -> Any:
    """The type of the flat state."""
    return jnp.result_type(*(jnp.finfo(jnp.result_type(x)).dtype for x in jax.tree.leaves(y)))


def magnitudes(y: PyTree[Any]) -> PyTree[Any]:
    """Complex entries as their absolute values: an infinite error divided by a scale must stay so,
    which `inf + inf i` does not."""
    return jax.tree.map(lambda x: jnp.abs(x) if jnp.iscomplexobj(x) else x, y)


def entry_at(y: PyTree[ArrayLike], component: Array) -> Array:
    """The entry of the state that a component of the flat one is a part of."""
    return jnp.asarray(parts_of_state(y)[0])[component] if has_complex(y) else component


def parts_of_state(y: PyTree[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """Of which entry of the state a component of the flat one is a part, and of the two which."""
    leaves = [(jnp.size(leaf), jnp.iscomplexobj(leaf)) for leaf in jax.tree.leaves(y)]
    counts = np.concatenate([np.full(size, 1 + is_complex) for size, is_complex in leaves])
    entry = np.repeat(np.arange(counts.size), counts)
    return entry, np.arange(entry.size) - (np.cumsum(counts) - counts)[entry]


def inexact(y: Any) -> Array:
    """`y` as an array, whole numbers as floating ones: in their type scales would be whole too."""
    y = jnp.asarray(y)
    return y if jnp.issubdtype(y.dtype, jnp.inexact) else y.astype(float)
