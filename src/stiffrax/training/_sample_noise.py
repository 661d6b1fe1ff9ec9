"""What noise of the samples makes of the residuals of windows, and of the parameters."""

from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float

from ._compressed_residuals import CompressedResiduals
from ._sample_windows import Windows
from ._window_residuals import least_known


@final
class SampleNoise(NamedTuple):
    r"""Noise of one unit in every weighted sample, to first order.

    A sample is in several residuals: in its own, in those of the window that starts from it, and in
    those of two windows that share it. With residuals $\delta r = \sum_k d_k e_k$, independent `e_k`:

    - `scatter`: $\sum_k (W^T d_k) (W^T d_k)^T$ of the combinations `W` of residuals that move
        the parameters.
    - `variance`: $\sum_k |d_k|^2$, the expected sum of squares.
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
    # The window after each ends with what this one starts with, and so on to the next block.
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
