"""Roessler's chaotic and hyperchaotic flows."""

from ._problem import Problem


def _components(t, y, args):
    del t
    x, y, z = y
    a, b, c = args
    return -y - z, x + a * y, b + z * (x - c)


def _hyperchaotic_components(t, y, args):
    del t
    x, y, z, w = y
    a, b, c, d = args
    return -y - z, x + a * y + w, b + x * z, -c * z + d * w


def roessler() -> Problem:
    """`x' = -y - z`, `y' = x + a y`, `z' = b + z (x - c)`; chaotic, one folded band.

    **Returns:** `Problem` of 3 states, t from 0 to 100, no reference value; `args` is
    `(a, b, c) = (0.2, 0.2, 5.7)`.

    Source: Roessler, An equation for continuous chaos (1976).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.roessler().true_equations()["z"]
    x*z - 5.7*z + 0.2

    ```
    """
    return Problem(
        "Roessler",
        _components,
        y0=(1.0, 1.0, 0.0),
        t1=100.0,
        names=("x", "y", "z"),
        args=(0.2, 0.2, 5.7),
    )


def hyperchaotic_roessler() -> Problem:
    """`x' = -y - z`, `y' = x + a y + w`, `z' = b + x z`, `w' = -c z + d w`; two growing directions.

    Starts near the origin diverge: keep to the given one, or to states of its solution.

    **Returns:** `Problem` of 4 states, t from 0 to 100, no reference value; `args` is
    `(a, b, c, d) = (0.25, 3, 0.5, 0.05)`.

    Source: Roessler, An equation for hyperchaos (1979).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.hyperchaotic_roessler().true_equations()["z"]
    x*z + 3.0

    ```
    """
    return Problem(
        "hyperchaotic Roessler",
        _hyperchaotic_components,
        y0=(-20.0, 0.0, 0.0, 15.0),
        t1=100.0,
        names=("x", "y", "z", "w"),
        args=(0.25, 3.0, 0.5, 0.05),
    )
