"""The Gauss-Legendre family: the highest order a stage, symplectic, no damping at infinity."""

from typing import final

from ..tableaus import Tableau, gauss
from ._implicit_runge_kutta import AbstractImplicitRungeKutta


@final
class GaussLegendre2(AbstractImplicitRungeKutta):
    r"""Gauss-Legendre of order 2: 1 stage, A-stable, symplectic.

    Collocation at the zeros $c_i$ of the Legendre polynomial of degree `s = 1` on [0, 1]:

    $$y'(t_0 + c_i h) = f(t_0 + c_i h, y(t_0 + c_i h)), \qquad y_1 = y(t_0 + h)$$

    This is the implicit midpoint rule. It does not damp infinitely stiff components
    ($|R(\infty)| = 1$): use it for oscillating and conservative systems, and a Radau IIA method
    for stiff ones.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real `n x n` system a step; one evaluation of the vector field
    an iteration.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    >>> sol = diffrax.diffeqsolve(decay, srx.GaussLegendre2(), 0.0, 1.0, 0.01, jnp.array(1.0))
    >>> print(f"{sol.ys[-1]:.4f}")
    0.5412

    ```
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.gauss(1)`."""
        return gauss(1)


@final
class GaussLegendre4(AbstractImplicitRungeKutta):
    r"""Gauss-Legendre of order 4: 2 stages, A-stable, symplectic.

    Collocation at the zeros $c_i$ of the Legendre polynomial of degree `s = 2` on [0, 1]:

    $$y'(t_0 + c_i h) = f(t_0 + c_i h, y(t_0 + c_i h)), \qquad y_1 = y(t_0 + h)$$

    It does not damp infinitely stiff components ($|R(\infty)| = 1$): use it for oscillating and
    conservative systems, and a Radau IIA method for stiff ones.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one complex `n x n` system a step; two evaluations of the vector field
    an iteration, in one batch.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    >>> sol = diffrax.diffeqsolve(decay, srx.GaussLegendre4(), 0.0, 1.0, 0.01, jnp.array(1.0))
    >>> print(f"{sol.ys[-1]:.4f}")
    0.5411

    ```
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.gauss(2)`."""
        return gauss(2)


@final
class GaussLegendre6(AbstractImplicitRungeKutta):
    r"""Gauss-Legendre of order 6: 3 stages, A-stable, symplectic.

    Collocation at the zeros $c_i$ of the Legendre polynomial of degree `s = 3` on [0, 1]:

    $$y'(t_0 + c_i h) = f(t_0 + c_i h, y(t_0 + c_i h)), \qquad y_1 = y(t_0 + h)$$

    It does not damp infinitely stiff components ($|R(\infty)| = 1$): use it for oscillating and
    conservative systems, and a Radau IIA method for stiff ones.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real and one complex `n x n` systems a step; three evaluations of the vector field
    an iteration, in one batch.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    >>> sol = diffrax.diffeqsolve(decay, srx.GaussLegendre6(), 0.0, 1.0, 0.01, jnp.array(1.0))
    >>> print(f"{sol.ys[-1]:.4f}")
    0.5411

    ```
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.gauss(3)`."""
        return gauss(3)
