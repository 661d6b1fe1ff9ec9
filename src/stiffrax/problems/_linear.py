"""Stiff linear equations with closed forms."""

import numpy as np

from ._problem import Problem


def _decay_components(t, y, args):
    del t
    (y1,) = y
    (rate,) = args
    return (-rate * y1,)


def _decay_solution(t, args):
    (rate,) = args
    return (np.exp(-rate * t),)


def _relaxation_components(t, y, args):
    del t
    (y1,) = y
    (rate,) = args
    return (-rate * y1 + 2 * rate,)


def _relaxation_solution(t, args):
    (rate,) = args
    return (-2 * np.expm1(-rate * t),)


def _pair_components(t, y, args):
    del t, args
    y1, y2 = y
    return y2, -1000 * y1 - 1001 * y2


def _pair_solution(t, args):
    del args
    slow, fast = 5 / 999 * np.exp(-t), 5 / 999 * np.exp(-1000 * t)
    return 1000 * slow - fast, 1000 * (fast - slow)


def linear_decay(rate: float = 1e3, t1: float = 1.0) -> Problem:
    """`y' = -rate y` from 1: `y = e^(-rate t)`.

    **Arguments:**

    - `rate`: positive, per unit of time.
    - `t1`: the end.

    **Returns:** `Problem` of 1 state; `args` is `(rate,)`.

    ```python
    >>> import stiffrax as srx
    >>> float(srx.problems.linear_decay(rate=2.0).solution(0.5)[0])
    0.36787944117144233

    ```
    """
    return Problem(
        "linear decay",
        _decay_components,
        y0=(1.0,),
        t1=t1,
        args=(rate,),
        closed_form=_decay_solution,
    )


def linear_relaxation(rate: float = 1e3, t1: float = 1.0) -> Problem:
    """`y' = -rate y + 2 rate` from 0: `y = 2 - 2 e^(-rate t)`, a transient, then rest at 2.

    **Arguments:**

    - `rate`: positive, per unit of time.
    - `t1`: the end.

    **Returns:** `Problem` of 1 state; `args` is `(rate,)`. For the transient alone take `t1 = 10 /
    rate`.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.linear_relaxation(rate=100.0, t1=0.1).true_equations()["y1"]
    200.0 - 100.0*y1

    ```
    """
    return Problem(
        "linear relaxation",
        _relaxation_components,
        y0=(0.0,),
        t1=t1,
        args=(rate,),
        closed_form=_relaxation_solution,
    )


def linear_pair() -> Problem:
    """`y1' = y2`, `y2' = -1000 y1 - 1001 y2`: eigenvalues -1 and -1000.

    **Returns:** `Problem` of 2 states, t from 0 to 11.

    Source: Aussagues, Ouala and others, Runge-Kutta schemes for joint identification and
    integration of stiff systems.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.linear_pair().true_equations()["y2"]
    -1000*y1 - 1001*y2

    ```
    """
    return Problem(
        "linear pair", _pair_components, y0=(5.0, 0.0), t1=11.0, closed_form=_pair_solution
    )
