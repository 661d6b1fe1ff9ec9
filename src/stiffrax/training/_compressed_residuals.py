"""Least-squares residuals of predictions, compressed to as many numbers as parameters; their noise."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ..losses import failed_step
from ..models import split_trainable
from ._weighted_samples import Windows
from ._window_residuals import WindowResiduals, failed_rows, least_known

# A column of which less than this stands out from those before it is known too poorly by squares.
# Chosen, not measured: squares of it are known to nine digits still.
_BLIND = 1e-3


@final
class Misfit(NamedTuple):
    """The predictions that failed, and the norm of the residuals of all others.

    Two models are compared by the number of failures, for the reason that `LossValue` gives, and where
    it is the same by the norm; one whose residuals leave the range of numbers is worse than any other.
    """

    num_failed: int
    norm: float

    @classmethod
    def of(cls, residuals: Any, num_failed: int) -> "Misfit":
        """That of residuals, or of a column with the same norm; infinite where one is not finite."""
        norm = float(np.linalg.norm(np.asarray(residuals)))
        return cls(int(num_failed), norm if np.isfinite(norm) else np.inf)

    def __lt__(self, other: Any) -> bool:
        """Whether a model predicts better."""
        return self._order < other._order

    @property
    def _order(self) -> tuple[bool, int, float]:
        return not np.isfinite(self.norm), self.num_failed, self.norm

    @property
    def finite_norm(self) -> float:
        """The norm, or infinity where a prediction failed."""
        return np.inf if self.num_failed else self.norm


@final
class CompressedResiduals:
    r"""Residuals `r(theta)` and their Jacobian, as the triangular factor of `[J, r]`.

    $$[J, r] = Q \begin{pmatrix} C & c \\ 0 & \rho \end{pmatrix}$$

    `(c, rho)` has the norm of `r`, and `C` and `c` its Gauss-Newton model.
    Samples that could not be predicted have no residual: they are counted beside.
    """

    def __init__(self, residuals: WindowResiduals, windows: Windows):
        self.residuals = residuals
        self.windows = windows
        self._blocks = [Windows(*block) for block in zip(*windows, strict=True)]

    @property
    def num_free_starts(self) -> int:
        """How many numbers the starts of windows are that are fitted."""
        starts = jnp.sum(self.windows.mask[..., 1]) if self.residuals.free_starts else 0
        return int(starts) * self.windows.ys.shape[-1]

    def with_substeps(self, substeps: Any) -> "CompressedResiduals":
        """The same residuals with another number of steps a segment."""
        return self._with(lambda residuals: residuals.substeps, substeps)

    def with_coupling(self, coupling: float) -> "CompressedResiduals":
        """The same residuals with predictions coupled to the samples."""
        return self._with(lambda residuals: residuals.coupling, coupling)

    def _with(self, where: Callable, number: Any) -> "CompressedResiduals":
        # The number keeps its type: a weak type would compile a program of its own.
        number = jnp.asarray(number, where(self.residuals).dtype)
        return CompressedResiduals(eqx.tree_at(where, self.residuals, number), self.windows)

    def values(self, model: Any) -> Float[Array, "blocks windows rows n"]:
        """`WindowResiduals.values` of all blocks."""
        return jnp.stack([_values(self.residuals, model, block) for block in self._blocks])

    def misfit(self, model: Any) -> Misfit:
        """The failures and the norm of all other residuals, without derivatives."""
        values = [np.asarray(_values(self.residuals, model, block)) for block in self._blocks]
        failed = [failed_rows(block) for block in values]
        solved = [np.where(rows[..., None], 0, x) for rows, x in zip(failed, values, strict=True)]
        norms = [np.linalg.norm(x) for x in solved]
        return Misfit.of(norms, sum(int(np.sum(rows)) for rows in failed))

    def first_failure(self, model: Any) -> str:
        """Where and why the first sample that cannot be predicted cannot, or nothing."""
        first = 1 if self.residuals.free_starts else 0
        for block in self._blocks:
            failed = failed_rows(_values(self.residuals, model, block))[:, first:]
            if failed.any():
                window, k = np.argwhere(failed)[0]
                ts, ys = block.ts[window], block.ys[window]
                return failed_step(model, ts[k], ts[k + 1], ys[k], ys[k + 1])
        return ""

    def eps(self, model: Any) -> float:
        """The unit of rounding of the residuals: that of the samples or of the parameters."""
        leaves = jax.tree.leaves(split_trainable(model)[0])
        return max(float(jnp.finfo(x.dtype).eps) for x in (self.windows.ys, *leaves))

    @property
    def size(self) -> float:
        """The norm of the weighted samples."""
        windows = self.windows
        values = np.asarray(windows.ys * windows.weight, float)
        return float(np.linalg.norm(values[np.asarray(windows.mask)]))

    def rows(self, model: Any) -> Iterator[tuple[Windows, np.ndarray, np.ndarray]]:
        """Each block, its `[J, r]`, `(windows, rows, q)`, and its derivatives by the starts."""
        for block in self._blocks:
            rows, by_start, _ = _rows(self.residuals, model, block)
            yield block, np.asarray(rows, float), np.asarray(by_start, float)

    def triangle(self, model: Any, passes: int = 1) -> tuple[Float[np.ndarray, "q q"], int]:
        """The triangular factor of `[J, r]`, by Cholesky from sums over blocks, and the failures.

        A QR factorization of the blocks takes several times as long.
        The squared condition number costs accuracy of the step only, never of the gradient. Where
        columns hardly differ, a second pass (Cholesky QR, twice), if it is allowed, gives it back:
        the factor of `[J, r] R^-1` times `R`.
        """
        R, failures, empty, blind = self._one_pass(model, None)
        if passes > 1 and blind:
            R, failures, *_ = self._one_pass(model, R)
        # What no residual depends on has no size, whatever the shift of the factorization gave it.
        R[:, empty] = 0
        return R, failures

    def _one_pass(
        self, model: Any, before: np.ndarray | None
    ) -> tuple[np.ndarray, int, Bool[np.ndarray, " q"], bool]:
        leaves = jax.tree.leaves(split_trainable(model)[0])
        q = 1 + sum(leaf.size for leaf in leaves)
        eps = self.eps(model)
        divisor = np.eye(q) if before is None else before.copy()
        divisor[-1, -1] = 1  # the residual may vanish, and must not divide
        # In double precision: single has no squares of what is below 1e-20 or above 1e19.
        gram, num_failed = np.zeros((q, q)), 0
        for block in self._blocks:
            rows, _, failures = _rows(self.residuals, model, block)
            rows = np.asarray(rows, float).reshape(-1, q)
            if before is not None:
                rows = _solve_lower(divisor.T, rows.T).T
            # On the host: the compiled product takes six times as long on a CPU.
            gram += rows.T @ rows
            num_failed += int(failures)
        R = _factor(gram, eps) @ divisor
        size = np.linalg.norm(R[:-1, :-1], axis=0)
        empty = np.append(np.diagonal(gram)[:-1] == 0, False)
        # In single precision the shift of the factorization alone stands out by more.
        blind = max(_BLIND, 100 * eps**0.5)
        return R, num_failed, empty, bool(np.any(np.diagonal(R)[:-1] < blind * size))


@eqx.filter_jit
def _values(residuals: WindowResiduals, model: Any, block: Windows) -> Array:
    return jax.vmap(lambda window: residuals.values(model, window))(block)


@eqx.filter_jit
def _rows(residuals: WindowResiduals, model: Any, block: Windows) -> tuple[Array, Array, Array]:
    trainable, static = split_trainable(model)
    theta, unravel = ravel_pytree(trainable)

    def rows(window: Windows) -> tuple[Array, Array, Array]:
        return residuals.rows(lambda theta: eqx.combine(unravel(theta), static), theta, window)

    R, by_start, failures = jax.vmap(rows)(block)
    return R, by_start, jnp.sum(failures)


def _factor(gram: np.ndarray, eps: float) -> np.ndarray:
    """Upper triangular `R` with `R^T R = gram`, the last row and column being the residual's."""
    size = np.sqrt(np.diagonal(gram))
    size = np.where(size > 0, size, 1)
    unit = gram / (size[:, None] * size)
    p = len(gram) - 1
    L = _cholesky(unit[:p, :p], 100 * eps)
    c = _solve_lower(L, unit[:p, p])
    R = np.zeros_like(unit)
    R[:p, :p], R[:p, p] = L.T, c
    R[p, p] = np.sqrt(np.maximum(unit[p, p] - np.sum(c**2), 0))
    return R * size


def _solve_lower(L: np.ndarray, b: np.ndarray) -> np.ndarray:
    from scipy.linalg import solve_triangular

    return solve_triangular(L, b, lower=True, check_finite=False)


def _cholesky(unit: np.ndarray, shift: float) -> np.ndarray:
    # Parameters that nothing depends on, and those that depend on each other, need the shift.
    while shift < 1:
        try:
            return np.linalg.cholesky(unit + shift * np.eye(len(unit), dtype=unit.dtype))
        except np.linalg.LinAlgError:
            shift *= 100
    return np.full_like(unit, np.nan)


@final
class SampleNoise(NamedTuple):
    r"""What independent noise `e` of one unit in each weighted sample makes of residuals, $D e$.

    - `scatter`: $W^T D D^T W$, `W` being the combinations of residuals that move the parameters.
    - `variance`: the trace of $D D^T$.
    - `removable`: the norm of what free starts can still remove of the residuals.
    """

    scatter: Float[np.ndarray, "modes modes"]
    variance: float
    removable: float


def sample_noise(
    steps: CompressedResiduals, model: Any, modes: Float[np.ndarray, "p modes"]
) -> SampleNoise:
    """Of residuals that were all solved; `W` is their Jacobian times `modes`."""
    free_starts = steps.residuals.free_starts
    n, count = steps.windows.ys.shape[-1], modes.shape[1]
    scatter, variance, removable = np.zeros((count, count)), 0.0, 0.0
    continues = np.asarray(steps.windows.continues)
    continued = np.append(continues.reshape(-1)[1:], False).reshape(continues.shape)
    before = np.zeros((n, count))
    for k, (block, rows, S) in enumerate(steps.rows(model)):
        W = rows[..., :-1] @ modes
        if free_starts:
            U = _basis(S, least_known(steps.windows.ys.dtype))
            removable += float(np.sum(np.einsum("wri,wr->wi", U, rows[..., -1]) ** 2))
            moved, squares = _of_free_starts(block, W, U, continues[k], continued[k])
        else:
            moved, squares = _of_measured_starts(block, W, S)
        variance += squares
        last = moved[:, -1].copy()
        # The sum over both windows that a sample is in stands in the second.
        moved[continued[k], -1] = 0
        moved[:, 0] += np.where(continues[k][:, None, None], _after(before, last), 0)
        before = last[-1]
        moved = moved.reshape(-1, count)
        scatter += moved.T @ moved
    return SampleNoise(scatter, variance, removable**0.5)


def _basis(S: np.ndarray, smallest: float) -> np.ndarray:
    size = np.linalg.norm(S, axis=1, keepdims=True)
    U, s, _ = np.linalg.svd(S / np.where(size > 0, size, 1), full_matrices=False)
    return U * (s > smallest)[:, None]


def _after(before: np.ndarray, last: np.ndarray) -> np.ndarray:
    return np.concatenate([before[None], last[:-1]])


def _of_measured_starts(block: Windows, W: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, float]:
    """`W^T d` of the samples of each window, and the sum of squares."""
    weight, mask = np.asarray(block.weight, float), np.asarray(block.mask)
    windows, times, n = weight.shape
    first = weight[:, None, 0]
    # A state that counts nowhere is taken for known.
    S = S / np.where(first > 0, first, np.inf)
    moved = np.concatenate(
        [np.einsum("wri,wrm->wim", S, W)[:, None], W.reshape(windows, times - 1, n, -1)], axis=1
    )
    own = (weight > 0) & mask[..., None]
    return moved, float(np.sum(own[:, 1:]) + np.sum(S**2))


def _of_free_starts(
    block: Windows, W: np.ndarray, U: np.ndarray, continues: np.ndarray, continued: np.ndarray
) -> tuple[np.ndarray, float]:
    """The same, `U` being an orthonormal basis of what the start follows; `W` is projected already."""
    own = np.asarray((block.weight > 0) & block.mask[..., None], float)
    # Half the weight of a sample that is in two windows.
    own[continues, 0] /= 2
    own[continued, -1] /= 2
    left = (1 - np.sum(U**2, axis=-1)).reshape(own.shape)
    return np.sqrt(own)[..., None] * W.reshape(*own.shape, -1), float(np.sum(own * left))
