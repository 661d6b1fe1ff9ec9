"""The smallest step that still moves time by about what it says."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

# In units of the spacing of floating-point numbers, as in SciPy: nine tenths of five spacings are
# rounded to five again, so that a rejected step would be tried again as it was, for ever.
_SPACINGS = 10


def smallest_step(t: Any) -> Shaped[Array, ""]:
    """Below this a rejected step is not worth a smaller one: `t` and `t + h` are all but the same."""
    t = jnp.abs(lax.stop_gradient(jnp.asarray(t)))
    limits = jnp.finfo(t.dtype)
    return _SPACINGS * jnp.maximum(limits.eps * t, limits.tiny)
