"""The trapezoid rule."""

from typing import final

from ..tableaus import Tableau, lobatto_iiia
from ._implicit_runge_kutta import AbstractImplicitRungeKutta


@final
class Trapezoid(AbstractImplicitRungeKutta):
    r"""The trapezoid rule: Lobatto IIIA with two stages; order 2, A-stable.

    $$y_1 = y_0 + \frac{h}{2} (f(t_0, y_0) + f(t_0 + h, y_1))$$

    It does not damp infinitely stiff components: a start off the slow solution oscillates.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real `n x n` system a step; one evaluation of the vector field an iteration, and one
    more a step.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    >>> sol = diffrax.diffeqsolve(decay, srx.Trapezoid(), 0.0, 1.0, 0.01, jnp.array(1.0))
    >>> print(f"{sol.ys[-1]:.4f}")
    0.5411

    ```
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.lobatto_iiia(2)`."""
        return lobatto_iiia(2)
