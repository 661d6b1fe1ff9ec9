"""How a rate constant broadens between its limits of low and high pressure."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._reactions import Reactions

# The logarithm of nothing has no derivative: the least that single precision holds is taken.
LEAST = 1e-37


@final
class Troe(eqx.Module):
    r"""The factor $F$ with $\log_{10} F = \log_{10} F_c / (1 + f^2)$, about a center $F_c(T)$."""

    a: Float[Array, " falloffs"]
    T3: Float[Array, " falloffs"]
    T1: Float[Array, " falloffs"]
    T2: Float[Array, " falloffs"]

    def logarithm(
        self, reactions: Reactions, T: Float[Array, ""], log_Pr: Float[Array, " falloffs"]
    ) -> Float[Array, " falloffs"]:
        """The common logarithm of the factor, from that of the reduced pressure."""
        center = (1 - self.a) * _decay(T, self.T3) + self.a * _decay(T, self.T1)
        center = center + jnp.where(reactions.has_T2, jnp.exp(-self.T2 / T), 0.0)
        log_center = jnp.log10(jnp.maximum(center, LEAST))
        shifted = log_Pr - 0.4 - 0.67 * log_center
        ratio = shifted / (0.75 - 1.27 * log_center - 0.14 * shifted)
        return jnp.where(reactions.is_troe, log_center / (1 + ratio * ratio), 0.0)


def _decay(T: Float[Array, ""], scale: Float[Array, " k"]) -> Float[Array, " k"]:
    """`exp(-T / scale)`; of 1e-30, which stands for nothing, single precision has no derivative."""
    vanishes = (scale > 0) & (scale < 1e-3 * T)
    return jnp.where(vanishes, 0.0, jnp.exp(-T / jnp.where(vanishes, T, scale)))


def read_troe(falloffs: list[Any]) -> Troe:
    """The numbers of all falloffs; those of Lindemann's have some that mean nothing."""
    rows = np.tile([0.0, 1.0, 1.0, 0.0], (len(falloffs), 1))
    for row, rate in zip(rows, falloffs, strict=True):
        row[: len(rate.falloff_coeffs)] = rate.falloff_coeffs
    # As in Cantera: where `T3` or `T1` is zero, its term is as small as one of 1e-3 makes it.
    widths = rows[:, 1:3]
    widths[widths == 0] = 1e-3
    return Troe(*jnp.asarray(rows).T)
