"""The transformation that splits a stage system into n x n systems."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Complex, Float

from ._collocation import Exact


@final
@dataclass(frozen=True, eq=False)
class SplitTransform:
    r"""Eigendecomposition of the inverse of the stage coefficients.

    $$A^{-1} = T \Lambda T^{-1}$$

    A complex pair is kept by its member with positive imaginary part: for a real stage matrix `R`,
    the transformed right-hand sides are `to_real @ R` and `to_pair @ R`, and a solution returns as
    `from_real @ w + 2 Re(from_pair @ u)`.

    **Attributes:**

    - `real`: real eigenvalues, `Float[ndarray, " reals"]`; none or one.
    - `pair`: those with positive imaginary part, the largest first, `Complex[ndarray, " pairs"]`.
    - `to_real`, `to_pair`: their rows of `T^-1`.
    - `from_real`, `from_pair`: their columns of `T`, scaled to end in one.

    ??? cite "Reference"
        Butcher, *On the implementation of implicit Runge-Kutta methods*, BIT 16 (1976).

    ```python
    >>> import stiffrax as srx
    >>> transform = srx.tableaus.radau_iia(3).transform
    >>> transform.real.round(4), transform.pair.round(4)
    (array([3.6378]), array([2.6811+3.0504j]))

    ```
    """

    real: Float[np.ndarray, " reals"]
    pair: Complex[np.ndarray, " pairs"]
    to_real: Float[np.ndarray, "reals stages"]
    to_pair: Complex[np.ndarray, "pairs stages"]
    from_real: Float[np.ndarray, "stages reals"]
    from_pair: Complex[np.ndarray, "stages pairs"]


def split_transform(mp: Any, A_inverse: Exact) -> SplitTransform:
    """Computes the split transform in extended precision and rounds it once."""
    values, vectors = mp.eig(A_inverse)
    stages = len(values)
    # Normalized so that the last component is one: the last stage is then a plain sum.
    for k in range(stages):
        last = vectors[stages - 1, k]
        for i in range(stages):
            vectors[i, k] = vectors[i, k] / last
    inverse = vectors**-1
    tiny = mp.mpf(10) ** (-mp.dps // 2)
    reals = [k for k in range(stages) if abs(mp.im(values[k])) < tiny]
    pairs = [k for k in range(stages) if mp.im(values[k]) >= tiny]
    pairs.sort(key=lambda k: abs(mp.im(values[k])), reverse=True)

    def rows(matrix: Exact, index: list[int], dtype: type) -> np.ndarray:
        entries = [[matrix[k, j] for j in range(stages)] for k in index]
        if dtype is float:
            entries = [[mp.re(x) for x in row] for row in entries]
        return np.array([[dtype(x) for x in row] for row in entries], dtype).reshape(-1, stages)

    return SplitTransform(
        real=np.array([float(mp.re(values[k])) for k in reals]),
        pair=np.array([complex(values[k]) for k in pairs], complex),
        to_real=rows(inverse, reals, float),
        to_pair=rows(inverse, pairs, complex),
        from_real=rows(vectors.T, reals, float).T,
        from_pair=rows(vectors.T, pairs, complex).T,
    )
