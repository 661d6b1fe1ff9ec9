"""To how many digits numbers are known that were brought to double precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def unit_of_rounding(x: Any, present: Any = True, axis: Any = None) -> Any:
    """That of single precision where all numbers have it, and else that of their type. Traceable.

    Samples of a solve in single precision are no better known for being stored in double.
    `present` says which numbers count, `axis` over which they are taken together.
    """
    xp: Any = jnp if isinstance(x, jax.Array) else np
    own, single = (float(jnp.finfo(dtype).eps) for dtype in (x.dtype, jnp.float32))
    if own >= single:
        return own
    with np.errstate(over="ignore"):
        same = x.astype(np.float32).astype(x.dtype) == x
    return xp.where(xp.all(same | ~xp.asarray(present), axis=axis), single, own).astype(x.dtype)
