"""Predator and prey."""

from ._problem import Problem


def _components(t, y, args):
    del t
    x, y = y
    alpha, beta, gamma, delta = args
    return alpha * x - beta * x * y, gamma * x * y - delta * y


def lotka_volterra() -> Problem:
    """`x' = alpha x - beta x y`, `y' = gamma x y - delta y`; not stiff.

    Conserved: `gamma x - delta ln x + beta y - alpha ln y`.

    **Returns:** `Problem` of 2 states, t from 0 to 12; `args` is
    `(alpha, beta, gamma, delta) = (1.3, 0.9, 0.8, 1.8)`.

    Source: the training data of Rackauckas and others, Universal differential equations (2020).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.lotka_volterra().true_equations()["x"]
    -0.9*x*y + 1.3*x

    ```
    """
    return Problem(
        "Lotka-Volterra",
        _components,
        y0=(0.44249296, 4.6280594),
        t1=12.0,
        names=("x", "y"),
        args=(1.3, 0.9, 0.8, 1.8),
        reference=(
            (6.0, (0.1951537612717085467, 1.995551110653299023)),
            (12.0, (0.2062285970826104642, 0.8314034157713362363)),
        ),
    )
