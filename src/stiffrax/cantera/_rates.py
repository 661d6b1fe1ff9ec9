"""Rate constants: Arrhenius' law, and how they fall off with pressure."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._reactions import Reactions
from ._thermodynamics import GAS_CONSTANT

# The logarithm of nothing has no derivative: the least that single precision holds is taken.
_LEAST = 1e-37


@final
class Arrhenius(eqx.Module):
    r"""$|k| = A T^b e^{-E / R T}$ by the logarithm of `A`, which single precision holds too."""

    log_A: Float[Array, " k"]
    b: Float[Array, " k"]
    E: Float[Array, " k"]

    def logarithm(self, T: Float[Array, ""]) -> Float[Array, " k"]:
        return self.log_A + self.b * jnp.log(T) - self.E / (GAS_CONSTANT * T)


@final
class Troe(eqx.Module):
    """How a falloff is broadened."""

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
        log_center = jnp.log10(jnp.maximum(center, _LEAST))
        shifted = log_Pr - 0.4 - 0.67 * log_center
        ratio = shifted / (0.75 - 1.27 * log_center - 0.14 * shifted)
        return jnp.where(reactions.is_troe, log_center / (1 + ratio * ratio), 0.0)


def _decay(T: Float[Array, ""], scale: Float[Array, " k"]) -> Float[Array, " k"]:
    """`exp(-T / scale)`; of 1e-30, which stands for nothing, single precision has no derivative."""
    vanishes = (scale > 0) & (scale < 1e-3 * T)
    return jnp.where(vanishes, 0.0, jnp.exp(-T / jnp.where(vanishes, T, scale)))


@final
class Rates(eqx.Module):
    """The numbers of all rate constants, in the order of the reactions; kmol, m, s and J."""

    high: Arrhenius
    low: Arrhenius
    troe: Troe

    def falloff(
        self, reactions: Reactions, T: Float[Array, ""], log_k: Array, M: Float[Array, " falloffs"]
    ) -> Float[Array, " falloffs"]:
        """What the rate constants of falloffs are multiplied with, at third bodies `M`."""
        log_ratio = self.low.logarithm(T) - log_k[reactions.falloffs]
        Pr = jnp.maximum(M * jnp.exp(log_ratio), _LEAST)
        broadening = self.troe.logarithm(reactions, T, jnp.log10(Pr))
        return Pr / (1 + Pr) * jnp.exp(float(np.log(10.0)) * broadening)


def read_rates(gas: Any) -> Rates:
    """The rates of a Cantera solution, times the multipliers set there."""
    reactions = gas.reactions()
    multipliers = np.array([gas.multiplier(i) for i in range(len(reactions))], float)
    falloff = [i for i, r in enumerate(reactions) if r.reaction_type.startswith("falloff")]
    high = [getattr(r.rate, "high_rate", r.rate) for r in reactions]
    low = [reactions[i].rate.low_rate for i in falloff]
    return Rates(
        _arrhenius(high, multipliers),
        _arrhenius(low, multipliers[falloff]),
        _troe([reactions[i].rate.falloff_coeffs for i in falloff]),
    )


def _arrhenius(rates: list[Any], multipliers: np.ndarray) -> Arrhenius:
    table = [(x.pre_exponential_factor, x.temperature_exponent, x.activation_energy) for x in rates]
    A, b, E = np.asarray(table, float).reshape(-1, 3).T
    size = np.abs(A * multipliers)
    log_A = np.log(np.where(size == 0, 1.0, size))
    return Arrhenius(*(jnp.asarray(x) for x in (log_A, b, E)))


def _troe(given: list[Any]) -> Troe:
    # As in Cantera: where `T3` or `T1` is zero, its term is as small as one of 1e-3 makes it.
    rows = [[*x, *np.zeros(4 - len(x))] if len(x) else [0.0, 1.0, 1.0, 0.0] for x in given]
    a, T3, T1, T2 = np.asarray(rows, float).reshape(-1, 4).T
    T3, T1 = (np.where(x == 0, 1e-3, x) for x in (T3, T1))
    return Troe(*(jnp.asarray(x) for x in (a, T3, T1, T2)))
