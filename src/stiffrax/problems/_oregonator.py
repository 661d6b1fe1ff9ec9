"""The Oregonator: a stiff limit cycle of an oscillating reaction."""

from ._problem import Problem


def _components(t, y, args):
    del t
    y1, y2, y3 = y
    s, q, w = args
    return (
        s * (y2 + y1 * (1 - q * y1 - y2)),
        (y3 - (1 + y1) * y2) / s,
        w * (y1 - y3),
    )


def oregonator() -> Problem:
    """OREGO, the Field-Noyes model of the Belousov-Zhabotinskii reaction.

    **Returns:** `Problem` of 3 states, t from 0 to 360; `args` is
    `(s, q, w) = (77.27, 8.375e-6, 0.161)`.

    Source: the Bari test set for initial value problem solvers.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.oregonator()
    Problem(OREGO, n=3, t from 0 to 360)

    ```
    """
    return Problem(
        "OREGO",
        _components,
        y0=(1.0, 2.0, 3.0),
        t1=360.0,
        args=(77.27, 8.375e-6, 0.161),
        reference=(
            (30.0, (1.000661467180496718, 1512.77893734825042, 10358.54312767227564)),
            (360.0, (1.000814870318522716, 1228.178521549887984, 132.0554942846508283)),
        ),
    )
