"""What error control needs."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

# In units of the spacing of floating-point numbers, as in SciPy: nine tenths of five spacings are
# rounded to five again, so that a rejected step would be tried again as it was, for ever.
_SPACINGS = 10


def scaled_error(error: Any, scale: Any) -> Float[Array, "*n"]:
    """`error / scale`; zero for an error of zero, also where the scale is zero or not a number, and
    infinite for one that is, also where the scale is."""
    error = error.value if isinstance(error, ErrorLeaf) else error
    none, failed = jnp.asarray(error) == 0, jnp.isinf(error)
    return jnp.where(none, 0.0, error / jnp.where(none | failed, 1.0, scale))


@final
class ErrorLeaf(eqx.Module):
    """An array of errors that is divided by a scale as `scaled_error` does.

    diffrax's controller divides by `atol + rtol |y|`. With a plain array 0 / NaN rejects
    the step by which a solver ends a solve, 0 / 0 every step of a state at rest without `atol`, and
    inf / inf a step that failed at an infinite state: all turn the size of the step into NaN, for ever.
    """

    value: Float[Array, "*n"]

    def __truediv__(self, scale: Any) -> Float[Array, "*n"]:
        return scaled_error(self.value, scale)


def smallest_step(t: Any) -> Shaped[Array, ""]:
    """Below this a rejected step is not worth a smaller one: `t` and `t + h` are all but the same."""
    t = jnp.abs(lax.stop_gradient(jnp.asarray(t)))
    limits = jnp.finfo(t.dtype)
    return _SPACINGS * jnp.maximum(limits.eps * t, limits.tiny)
