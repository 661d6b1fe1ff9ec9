"""The Prothero-Robinson equation: a smooth solution however stiff."""

import jax.numpy as jnp
import numpy as np

from ._problem import Problem


def _components(t, y, args):
    (y1,) = y
    (rate,) = args
    phase = t + jnp.pi / 4
    return (-rate * (y1 - jnp.sin(phase)) + jnp.cos(phase),)


def _solution(t, args):
    del args
    return (np.sin(t + np.pi / 4),)


def prothero_robinson(rate: float = 1e6) -> Problem:
    """`y' = -rate (y - phi(t)) + phi'(t)`, `phi = sin(t + pi/4)`: `y = phi`, however stiff.

    Shows the order that a method keeps when `rate` times the step is large.

    **Returns:** `Problem` of 1 state, t from 0 to 10; `args` is `(rate,)`.

    Source: Prothero and Robinson, On the stability and accuracy of one-step methods (1974).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.prothero_robinson(rate=1e4)
    Problem(Prothero-Robinson, n=1, t from 0 to 10)

    ```
    """
    return Problem(
        "Prothero-Robinson",
        _components,
        y0=(np.sin(np.pi / 4),),
        t1=10.0,
        args=(rate,),
        closed_form=_solution,
        polynomial=False,
    )
