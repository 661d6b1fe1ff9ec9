"""Small stiff systems of linear and quadratic terms."""

import numpy as np

from ._problem import Problem


def _kaps_components(t, y, args):
    del t, args
    y1, y2 = y
    return -1002 * y1 + 1000 * y2**2, y1 - y2 - y2**2


def _kaps_solution(t, args):
    del args
    return np.exp(-2 * t), np.exp(-t)


def _triple_components(t, y, args):
    del t, args
    y1, y2, y3 = y
    return -500 * y1 + 500 * y2 * y3, -2 * y2 + y1, -y3 + y1 * y2 / 2


def kaps(*, transient: bool = False) -> Problem:
    """Kaps: `y1' = -1002 y1 + 1000 y2^2`, `y2' = y1 - y2 - y2^2`.

    **Arguments:**

    - `transient`: start at (2, 0.5), off the slow curve `y1 = y2^2`, instead of at (1, 1), from
        where the solution is `(e^(-2t), e^(-t))`.

    **Returns:** `Problem` of 2 states, t from 0 to 1.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.kaps(transient=True).y0
    array([2. , 0.5])

    ```
    """
    if transient:
        end = (3.407059746139016975e-2, 0.1845822241208241855)
        return Problem(
            "Kaps, transient", _kaps_components, y0=(2.0, 0.5), t1=1.0, reference=((1.0, end),)
        )
    return Problem("Kaps", _kaps_components, y0=(1.0, 1.0), t1=1.0, closed_form=_kaps_solution)


def quadratic_triple() -> Problem:
    """`y1' = -500 y1 + 500 y2 y3`, `y2' = -2 y2 + y1`, `y3' = -y3 + y1 y2 / 2`.

    **Returns:** `Problem` of 3 states, t from 0 to 5.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.quadratic_triple().true_equations()["y1"]
    -500*y1 + 500*y2*y3

    ```
    """
    return Problem(
        "quadratic triple",
        _triple_components,
        y0=(2.0, 1.0, 1.0),
        t1=5.0,
        reference=((5.0, (1.220527245476939e-6, 1.458385605716797e-4, 8.318955890121203e-3)),),
    )
