"""The hyperchaotic flow of Chen's family."""

from ._problem import Problem


def _components(t, y, args):
    del t
    x, y, z, w = y
    a, b, c, d, r = args
    return a * (y - x) + w, d * x - x * z + c * y, x * y - b * z, y * z + r * w


def hyperchaotic_chen() -> Problem:
    """`x' = a (y - x) + w`, `y' = d x - x z + c y`, `z' = x y - b z`, `w' = y z + r w`.

    **Returns:** `Problem` of 4 states, t from 0 to 20, no reference value; `args` is
    `(a, b, c, d, r) = (35, 3, 12, 7, 0.58)`.

    Source: Li, Tang and Chen, Generating hyperchaos via state feedback control (2005).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.hyperchaotic_chen().true_equations()["z"]
    x*y - 3.0*z

    ```
    """
    return Problem(
        "hyperchaotic Chen",
        _components,
        y0=(1.0, 1.0, 1.0, 1.0),
        t1=20.0,
        names=("x", "y", "z", "w"),
        args=(35.0, 3.0, 12.0, 7.0, 0.58),
    )
