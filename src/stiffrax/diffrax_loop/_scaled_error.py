"""The quotient of an error and its scale: zero where the error is, and infinite."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


def scaled_error(error: Float[ArrayLike, "*n"], scale: Any) -> Float[Array, "*n"]:
    """`error / scale`; zero for an error of zero, also where the scale is zero or not a number, and
    infinite for one that is, also where the scale is."""
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
