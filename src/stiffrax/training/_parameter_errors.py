"""Linearized errors of parameters and predictions, with the freedom that estimated spreads leave."""

from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from .._arguments import check_positive

# A prediction depends on what the data do not tell if that moves it by more than this part of what
# moves it most, and by more than rounding. Chosen, not measured.
_MOVES, _ROUNDING_OF_MOVES = 1e-8, 100
# The part that a parameter must have in a combination of which nothing is known to be as little known.
# Chosen, not measured.
_SHARE = 1e-3
# Below this part of its cells a column leaves no degree of freedom: the parameters go through all of
# it, and what its spread is nothing tells. Far above rounding. Chosen, not measured.
_SATURATED = 1e-6


@final
class Rows(NamedTuple):
    """The Gauss-Newton model at the best point, row by row.

    **Attributes:**

    - `values`: over the scales of the parameters.
    - `column`: whose spread is put in by formula and stands in the row, an index; -1 for other rows.
    - `cells`: how many cells each of these columns has.
    """

    values: Float[np.ndarray, "rows p"]
    column: Int[np.ndarray, " rows"]
    cells: Int[np.ndarray, " columns"]

    def free(self, index: Int[np.ndarray, " free"]) -> "Rows":
        """Those of some parameters, the others being held."""
        return self._replace(values=self.values[:, index])


@final
class ParameterErrors:
    r"""How well each combination of parameters is known, and by how many degrees of freedom.

    A spread that is put in by formula is too small by $\sqrt{(n_j - h_j) / n_j}$, where $h_j$, the
    trace of the hat matrix over the rows of column `j`, is what the parameters take of its `n_j`
    cells. Of a combination of parameters that several columns tell, the degrees of freedom are
    Satterthwaite's (Biometrics Bulletin 2, 1946).

    **Attributes:**

    - `modes`: combinations of parameters over their scales, `size`: how the data tell each, zero if
        not.
    """

    def __init__(self, rows: Rows):
        values, self._cells = rows.values, rows.cells
        _, _, own = _leverage(values)
        taken = np.sum(own**2, axis=1)
        among = rows.column >= 0
        left = rows.cells - np.bincount(rows.column[among], taken[among], len(rows.cells))
        self._degrees = np.where(left > _SATURATED * rows.cells, left, 0.0)
        part = np.append(self._degrees / np.maximum(rows.cells, 1), 1.0)
        self.modes, self.size, own = _leverage(values * np.sqrt(part[rows.column])[:, None])
        self._by_column = np.array(
            [own[rows.column == j].T @ own[rows.column == j] for j in range(len(rows.cells))]
        ).reshape(-1, *own.shape[1:], *own.shape[1:])

    def covariance(self) -> Float[np.ndarray, "p p"]:
        """The covariance of the parameters over their scales; NaN for those that are unknown."""
        known = self.size > 0
        spread = np.where(known, 1 / np.where(known, self.size, 1) ** 2, 0.0)
        found = (self.modes.T * spread) @ self.modes
        lost = unknown_parameters(self.modes, self.size)
        found[lost, :], found[:, lost] = np.nan, np.nan
        found[lost, lost] = np.inf
        return found

    def variance(self, slopes: Float[np.ndarray, "... p"]) -> Float[np.ndarray, "..."]:
        """The variance of a quantity with these slopes in the parameters over their scales; infinite
        where it is unknown."""
        along = slopes @ self.modes.T
        solved = np.all(np.isfinite(along), axis=-1, keepdims=True)
        size = np.where(solved, np.abs(along), 0.0)
        largest = np.max(size, axis=tuple(range(along.ndim - 2)) + (-1,), keepdims=True)
        moves = max(_MOVES, _ROUNDING_OF_MOVES * _eps())
        lost = np.any((size > moves * largest) & (self.size == 0), axis=-1)
        return np.where(lost, np.inf, np.sum(self._scaled(along) ** 2, axis=-1))

    def quantile(
        self, slopes: Float[np.ndarray, "... p"], level: float
    ) -> Float[np.ndarray, "..."]:
        """The quantile of a quantity with these slopes: Student's, or the normal one where spreads are
        given."""
        from scipy import stats

        share, total = self._shares(slopes @ self.modes.T)
        degrees = np.where(self._degrees > 0, self._degrees, np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = total**2 / np.sum(share**2 / degrees, axis=-1)
        found = np.where(np.isnan(found), np.inf, found)
        return np.asarray(stats.t.ppf((1 + level) / 2, found))

    def rise(self, i: int, level: float) -> float:
        """By how much the cost rises at the ends of the interval of one parameter.

        Of one that is unknown it is the largest that it would be of any column alone.
        """
        from scipy import stats

        unit = np.eye(self.modes.shape[1])[i]
        if np.isfinite(self.variance(unit[None])[0]):
            share, total = self._shares(self.modes @ unit)
            return self._rise(share / total, float(self.quantile(unit, level)))
        if np.any(self._degrees == 0):
            return np.inf
        alone = stats.t.ppf((1 + level) / 2, self._degrees)
        rises = [self._rise(*one) for one in zip(np.eye(len(alone)), alone, strict=True)]
        return max(rises, default=self._rise(np.zeros(0), float(stats.norm.ppf((1 + level) / 2))))

    def _rise(self, share: np.ndarray, quantile: float) -> float:
        degrees = np.where(self._degrees > 0, self._degrees, 1)
        of_columns = self._cells / 2 * np.log1p(share * quantile**2 / degrees)
        return float(np.sum(of_columns) + (1 - np.sum(share)) * quantile**2 / 2)

    def _scaled(self, along: np.ndarray) -> np.ndarray:
        return along / np.where(self.size > 0, self.size, np.inf)

    def _shares(self, along: np.ndarray) -> tuple[np.ndarray, Any]:
        scaled = self._scaled(along)
        share = np.einsum("...m,jmn,...n->...j", scaled, self._by_column, scaled)
        return share, np.sum(scaled**2, axis=-1)


def check_level(level: Any) -> None:
    """Refuses percents, of which quantiles are NaN."""
    check_positive("level", level, below=1.0, write="level=0.95")


def unknown_parameters(
    modes: Float[np.ndarray, "modes p"], size: Float[np.ndarray, " modes"]
) -> Bool[np.ndarray, " p"]:
    """Which parameters have a part in a mode of size zero."""
    return np.any((np.abs(modes) > _SHARE) & (size == 0)[:, None], axis=0)


def _eps() -> float:
    """The unit of rounding of the solve, in whose precision rows and slopes were computed."""
    return float(jnp.finfo(jnp.result_type(float)).eps)


def _leverage(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Modes, their sizes, zero of those unknown, and the rows in units of these."""
    _, size, modes = np.linalg.svd(rows, full_matrices=False)
    size = np.where(size > _eps() * rows.shape[1] * size.max(initial=0.0), size, 0.0)
    return modes, size, rows @ modes.T / np.where(size > 0, size, np.inf)


@final
class Band(NamedTuple):
    """What a fit predicts, and how well that is known.

    **Attributes:**

    - `ts`: `(runs, times)`.
    - `values`, `lower`, `upper`: `(runs, times, columns)`, in the unit of each column.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> line = np.ones((1, 2, 1))
    >>> srx.Band(np.array([[0.0, 1.0]]), line, 0.9 * line, 1.1 * line).values.shape
    (1, 2, 1)

    ```
    """

    ts: Float[np.ndarray, "runs times"]
    values: Float[np.ndarray, "runs times columns"]
    lower: Float[np.ndarray, "runs times columns"]
    upper: Float[np.ndarray, "runs times columns"]


def prediction_band(
    model: Any,
    x: Float[np.ndarray, " p"],
    errors: ParameterErrors,
    scale: Float[np.ndarray, " p"],
    level: float,
) -> Band:
    """The band at the rows of the data of a model, linearized.

    Of a column with noise on logarithms it is a factor either way, and stays positive.
    """
    values, slopes = model.sensitivities(x)
    slopes = slopes * scale
    reach = errors.quantile(slopes, level) * np.sqrt(errors.variance(slopes))
    lower, upper = values - reach, values + reach
    for j, noise in enumerate(model.likelihood.by_column(model.data)):
        if noise.on_logarithms:
            found, positive = values[..., j], values[..., j] > 0
            with np.errstate(over="ignore"):
                factor = np.exp(reach[..., j] / np.where(positive, found, 1))
            lower[..., j] = np.where(positive, found / factor, lower[..., j])
            upper[..., j] = np.where(positive, found * factor, upper[..., j])
    return Band(np.asarray(model.data.ts), values, lower, upper)
