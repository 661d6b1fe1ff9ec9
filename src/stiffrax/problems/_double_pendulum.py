"""Two point masses on two rods: a Hamiltonian system, chaotic at high energy."""

import jax.numpy as jnp

from ._problem import Problem


def _components(t, y, args):
    del t
    th1, th2, w1, w2 = y
    m1, m2, l1, l2, g = args
    total = m1 + m2
    sine, cosine = jnp.sin(th2 - th1), jnp.cos(th2 - th1)
    pull1, pull2 = g * jnp.sin(th1), g * jnp.sin(th2)
    reduced = total - m2 * cosine**2
    return (
        w1,
        w2,
        (m2 * sine * (l1 * w1**2 * cosine + l2 * w2**2) + m2 * pull2 * cosine - total * pull1)
        / (l1 * reduced),
        (-m2 * l2 * w2**2 * sine * cosine + total * (pull1 * cosine - pull2 - l1 * w1**2 * sine))
        / (l2 * reduced),
    )


def double_pendulum() -> Problem:
    """Angles `th1`, `th2` from the vertical (radian) and their rates `w1`, `w2`.

    Conserved: `(m1 + m2) l1^2 w1^2 / 2 + m2 l2^2 w2^2 / 2 + m2 l1 l2 w1 w2 cos(th2 - th1)
    - (m1 + m2) g l1 cos(th1) - m2 g l2 cos(th2)`.

    **Returns:** `Problem` of 4 states, t from 0 to 10 (seconds), no reference value; `args` is
    `(m1, m2, l1, l2, g) = (1, 1, 1, 1, 9.81)` in kilogram, metre, second.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.double_pendulum().names
    ('th1', 'th2', 'w1', 'w2')

    ```
    """
    return Problem(
        "double pendulum",
        _components,
        y0=(2.0, 1.0, 0.0, 0.0),
        t1=10.0,
        names=("th1", "th2", "w1", "w2"),
        args=(1.0, 1.0, 1.0, 1.0, 9.81),
        polynomial=False,
    )
