"""The dimension of an attractor from its Lyapunov exponents."""

from typing import Any

import numpy as np


def kaplan_yorke_dimension(exponents: Any) -> float:
    r"""The Kaplan-Yorke (Lyapunov) dimension.

    $$D = j + \frac{\lambda_1 + \dots + \lambda_j}{|\lambda_{j+1}|}$$

    with `j` the largest number of exponents whose sum is not negative.

    **Arguments:**

    - `exponents`: in any order, `Float[Array, " k"]`, per unit of time.

    **Returns:** the dimension, 0 if all exponents are negative; `nan` if the sum of all that are
    given is not negative, so that more of them are needed.

    **Raises:** `ValueError` without exponents.

    ```python
    >>> import stiffrax as srx
    >>> print(f"{srx.diagnostics.kaplan_yorke_dimension([0.9056, 0.0, -14.572]):.3f}")
    2.062

    ```
    """
    exponents = np.sort(np.asarray(exponents, float))[::-1]
    if exponents.ndim != 1 or exponents.size == 0:
        raise ValueError(
            f"`exponents` of shape {exponents.shape} was given; it needs one or more numbers."
        )
    sums = np.cumsum(exponents)
    growing = np.flatnonzero(sums >= 0)
    if not np.all(np.isfinite(sums)) or growing.size == exponents.size:
        return float("nan")
    if not growing.size:
        return 0.0
    j = growing[-1]
    return float(j + 1 + sums[j] / abs(exponents[j + 1]))
