"""Rate constants: by the temperature, by tables and polynomials of the pressure, and with falloff."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._reactions import (
    Reactions,
    arrhenius_numbers,
    depends_on_pressure,
    is_falloff,
    pressure_tables,
)
from ._thermodynamics import GAS_CONSTANT

# The logarithm of nothing has no derivative: the least that single precision holds is taken.
_LEAST = 1e-37


@final
class Arrhenius(eqx.Module):
    r"""$|k| = A T^b e^{-E / R T}$ by the logarithm of `A`, which single precision holds too."""

    log_A: Float[Array, "*k"]
    b: Float[Array, "*k"]
    E: Float[Array, "*k"]

    def logarithm(self, T: Float[Array, ""]) -> Float[Array, "*k"]:
        return self.log_A + self.b * jnp.log(T) - self.E / (GAS_CONSTANT * T)


def arrhenius(numbers: np.ndarray) -> Arrhenius:
    """From `A`, `b` and `E` along the last axis; where `A` is zero, its logarithm is."""
    size = np.abs(numbers[..., 0])
    log_A = np.log(np.where(size == 0, 1.0, size))
    return Arrhenius(*(jnp.asarray(x) for x in (log_A, numbers[..., 1], numbers[..., 2])))


@final
class PressureRates(eqx.Module):
    r"""$\log k$ between the pressures of a table, linear in $\log P$, and $\log_{10} k$ as
    $\sum_{ij} a_{ij} \phi_i(\tilde T) \phi_j(\tilde P)$."""

    tables: Arrhenius
    chebyshev: Float[Array, "polynomials i j"]

    def logarithm(
        self, reactions: Reactions, T: Float[Array, ""], P: Float[Array, ""]
    ) -> Float[Array, " k"]:
        """Natural logarithms, of tables first."""
        log_P = jnp.log(jnp.maximum(P, float(jnp.finfo(P.dtype).tiny)))
        return jnp.concatenate(
            [self._tables(reactions, T, log_P), self._polynomials(reactions, T, log_P)]
        )

    def _tables(self, reactions: Reactions, T: Array, log_P: Array) -> Float[Array, " tables"]:
        known = jnp.asarray(reactions.table_log_P, T.dtype)
        which = np.arange(len(known))
        left = jnp.sum(known[:, 1:-1] <= log_P, axis=1)
        ends = jnp.minimum(jnp.stack([left, left + 1], axis=1), reactions.table_last[:, None])
        rates = jax.tree.map(lambda x: x[which[:, None], ends], self.tables)
        signs = jnp.asarray(reactions.table_signs, T.dtype)[which[:, None], ends]
        log_k = jax.nn.logsumexp(rates.logarithm(T), axis=2, b=signs)
        low, high = known[which, left], known[which, left + 1]
        # Beyond its first and last pressures a table says no more than at these.
        part = jnp.clip((log_P - low) / (high - low), 0.0, 1.0)
        return log_k[:, 0] + part * (log_k[:, 1] - log_k[:, 0])

    def _polynomials(self, reactions: Reactions, T: Array, log_P: Array) -> Float[Array, " k"]:
        low, high, low_P, high_P = jnp.asarray(reactions.chebyshev_ranges, T.dtype).T
        by_T = _chebyshev((2 / T - low - high) / (high - low), self.chebyshev.shape[1])
        by_P = _chebyshev((2 * log_P - low_P - high_P) / (high_P - low_P), self.chebyshev.shape[2])
        return float(np.log(10.0)) * jnp.sum(
            self.chebyshev * by_T[:, :, None] * by_P[:, None], axis=(1, 2)
        )


def _chebyshev(x: Float[Array, " k"], degrees: int) -> Float[Array, "k degrees"]:
    values = [jnp.ones_like(x), x]
    for _ in range(degrees - 2):
        values.append(2 * x * values[-1] - values[-2])
    return jnp.stack(values[:degrees], axis=1)


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
    """The numbers of all rate constants, in the order of the reactions; kmol, m, s and J.

    Where a rate depends on the pressure, `high` has what it is multiplied with.
    """

    high: Arrhenius
    low: Arrhenius
    troe: Troe
    by_pressure: PressureRates

    def logarithm(
        self, reactions: Reactions, T: Float[Array, ""], P: Float[Array, ""]
    ) -> Float[Array, " reactions"]:
        """Logarithms of all rate constants, of falloffs where the pressure is high."""
        log_k = self.high.logarithm(T)
        if not reactions.depends_on_pressure:
            return log_k
        by_pressure = self.by_pressure.logarithm(reactions, T, P)
        return log_k + jnp.append(by_pressure, jnp.zeros(1, T.dtype))[reactions.pressure_slots]

    def falloff(
        self, reactions: Reactions, T: Float[Array, ""], log_k: Array, M: Float[Array, " falloffs"]
    ) -> Float[Array, " falloffs"]:
        """What the rate constants of falloffs are multiplied with, at third bodies `M`."""
        ratio = jnp.exp(self.low.logarithm(T) - log_k[reactions.falloffs])
        Pr = M * ratio
        # Only the logarithm has a floor: by a collider that is not there yet `Pr` has a derivative.
        broadening = self.troe.logarithm(reactions, T, jnp.log10(jnp.maximum(Pr, _LEAST)))
        share = jnp.where(reactions.is_activated, ratio, Pr) / (1 + Pr)
        return share * jnp.exp(float(np.log(10.0)) * broadening)


def read_rates(gas: Any) -> Rates:
    """The rates of a Cantera solution, times the multipliers set there."""
    reactions = gas.reactions()
    rates = [r.rate for r in reactions]
    multipliers = np.array([gas.multiplier(i) for i in range(len(rates))], float)
    falloff = [i for i, r in enumerate(reactions) if is_falloff(r)]
    return Rates(
        _arrhenius([getattr(rate, "high_rate", rate) for rate in rates], multipliers),
        _arrhenius([rates[i].low_rate for i in falloff], multipliers[falloff]),
        _read_troe([rates[i] for i in falloff]),
        _read_pressure_rates(rates),
    )


def _arrhenius(rates: list[Any], multipliers: np.ndarray) -> Arrhenius:
    numbers = [
        (1.0, 0.0, 0.0) if depends_on_pressure(rate) else arrhenius_numbers(rate) for rate in rates
    ]
    A, b, E = np.asarray(numbers, float).reshape(-1, 3).T
    return arrhenius(np.stack([A * multipliers, b, E], axis=1))


def _read_pressure_rates(rates: list[Any]) -> PressureRates:
    """The numbers of all rates, of any kind, that depend on the pressure."""
    tables = pressure_tables(rates)
    data = [x.data for x in rates if hasattr(x, "pressure_range")]
    degrees = (max((x.shape[axis] for x in data), default=1) for axis in (0, 1))
    chebyshev = np.zeros((len(data), *degrees))
    for filled, given in zip(chebyshev, data, strict=True):
        filled[: given.shape[0], : given.shape[1]] = given
    return PressureRates(arrhenius(tables[..., 1:4]), jnp.asarray(chebyshev))


def _read_troe(falloffs: list[Any]) -> Troe:
    """The numbers of all falloffs; those of Lindemann's have some that mean nothing."""
    rows = np.tile([0.0, 1.0, 1.0, 0.0], (len(falloffs), 1))
    for row, rate in zip(rows, falloffs, strict=True):
        row[: len(rate.falloff_coeffs)] = rate.falloff_coeffs
    # As in Cantera: where `T3` or `T1` is zero, its term is as small as one of 1e-3 makes it.
    widths = rows[:, 1:3]
    widths[widths == 0] = 1e-3
    return Troe(*jnp.asarray(rows).T)
