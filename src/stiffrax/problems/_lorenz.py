"""Lorenz's three-dimensional chaotic flow."""

from ._problem import Problem


def _components(t, y, args):
    del t
    x, y, z = y
    sigma, rho, beta = args
    return sigma * (y - x), x * (rho - z) - y, x * y - beta * z


def lorenz() -> Problem:
    """Lorenz-63: `x' = sigma (y - x)`, `y' = x (rho - z) - y`, `z' = x y - beta z`; chaotic.

    Errors grow about 10^4-fold up to t = 10, the last reference time.

    **Returns:** `Problem` of 3 states, t from 0 to 10; `args` is
    `(sigma, rho, beta) = (10, 28, 8/3)`.

    Source: Lorenz, Deterministic nonperiodic flow (1963).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.lorenz().true_equations()["x"]
    -10.0*x + 10.0*y

    ```
    """
    return Problem(
        "Lorenz-63",
        _components,
        y0=(1.2, 2.1, 1.7),
        t1=10.0,
        names=("x", "y", "z"),
        args=(10.0, 28.0, 8.0 / 3.0),
        reference=(
            (3.0, (-6.834480053355640424, -5.740386900967387571, 26.55400164441538158)),
            (10.0, (-6.067796364784614266, -1.705146956445973638, 29.66368326937108632)),
        ),
    )
