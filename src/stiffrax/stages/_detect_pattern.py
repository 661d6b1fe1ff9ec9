"""The pattern of a Jacobian, read from the program that computes the vector field."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

from .._arguments import check_state
from .._flat_state import flatten_state

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def detect_pattern(
    vector_field: Callable[..., PyTree], y0: PyTree[ArrayLike], args: Any, t0: Any
) -> "csr_matrix":
    """Which component of the vector field can depend on which state, whatever time and state are.

    **Raises:** `ImportError` that says what to install.
    """
    from scipy.sparse import csr_matrix

    try:
        asdex = importlib.import_module("asdex")
    except ImportError as error:
        raise ImportError(
            "`Sparsity.detect` needs the package asdex, and a JAX from 0.9 on that it loads with: "
            f"{error}. Run `pip install 'stiffrax[sparse]'`, or write the pattern: "
            "`Sparsity(pattern)`."
        ) from error
    check_state(y0)
    flat, unravel = flatten_state(y0)

    def field(t: Array, x: Array) -> Array:
        slope = vector_field(t, unravel(x), args)
        return flatten_state(jax.tree.map(lambda s, y: jnp.asarray(s, y.dtype), slope, unravel(x)))[
            0
        ]

    found = asdex.jacobian_sparsity(field, jnp.asarray(t0, flat.dtype), flat, argnums=1)
    ones = np.ones(len(found.rows), bool)
    return csr_matrix((ones, (found.rows, found.cols)), shape=(flat.size, flat.size))
