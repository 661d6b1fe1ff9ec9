"""The solvers of classical methods."""

from typing import final

from ..tableaus import Tableau, gauss, lobatto_iiia, radau_iia
from ._implicit_runge_kutta import AbstractImplicitRungeKutta


@final
class BackwardEuler(AbstractImplicitRungeKutta):
    r"""Backward Euler: Radau IIA with one stage; order 1, L-stable.

    $$y_1 = y_0 + h f(t_0 + h, y_1)$$

    The most robust and least accurate of the family.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real `n x n` system a step; one evaluation of the vector field
    an iteration.
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.radau_iia(1)`."""
        return radau_iia(1)


@final
class RadauIIA3(AbstractImplicitRungeKutta):
    """Radau IIA of order 3: 2 stages, stiffly accurate, L-stable.

    Collocation as in [`stiffrax.RadauIIA5`][], with `s = 2`.

    For coarse tolerances. It has no real eigenvalue, so that error control costs one more real
    factorization.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one complex `n x n` system a step; two evaluations of the vector field
    an iteration, in one batch.
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.radau_iia(2)`."""
        return radau_iia(2)


@final
class RadauIIA5(AbstractImplicitRungeKutta):
    r"""Radau IIA of order 5: 3 stages, stiffly accurate, L-stable.

    Collocation at the zeros $c_i$ of $\frac{d^{s-1}}{dx^{s-1}} [x^{s-1} (x-1)^s]$, `s = 3`:

    $$y'(t_0 + c_i h) = f(t_0 + c_i h, y(t_0 + c_i h)), \qquad y_1 = y(t_0 + h)$$

    Start with this one: the classical stiff solver, robust from rtol 1e-3 to about 1e-8.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real and one complex `n x n` systems a step; three evaluations of the vector field
    an iteration, in one batch.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    >>> sol = diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, 0.01, jnp.array(1.0))
    >>> print(f"{sol.ys[-1]:.4f}")
    0.5411

    ```
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.radau_iia(3)`."""
        return radau_iia(3)


@final
class RadauIIA9(AbstractImplicitRungeKutta):
    """Radau IIA of order 9: 5 stages, stiffly accurate, L-stable.

    Collocation as in [`stiffrax.RadauIIA5`][], with `s = 5`.

    Fewer, larger steps than order 5: the faster one below rtol of about 1e-5 on smooth problems.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real and two complex `n x n` systems a step; five evaluations of the vector field
    an iteration, in one batch.
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.radau_iia(5)`."""
        return radau_iia(5)


@final
class RadauIIA13(AbstractImplicitRungeKutta):
    """Radau IIA of order 13: 7 stages, stiffly accurate, L-stable.

    Collocation as in [`stiffrax.RadauIIA5`][], with `s = 7`.

    For tolerances near rounding in float64. Its transformation costs about three digits: no method
    for float32.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real and three complex `n x n` systems a step; seven evaluations of the vector field
    an iteration, in one batch.
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.radau_iia(7)`."""
        return radau_iia(7)


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
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.gauss(1)`."""
        return gauss(1)


@final
class GaussLegendre4(AbstractImplicitRungeKutta):
    r"""Gauss-Legendre of order 4: 2 stages, A-stable, symplectic.

    Collocation as in [`stiffrax.GaussLegendre2`][], with `s = 2`.

    It does not damp infinitely stiff components ($|R(\infty)| = 1$): use it for oscillating and
    conservative systems, and a Radau IIA method for stiff ones.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one complex `n x n` system a step; two evaluations of the vector field
    an iteration, in one batch.
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.gauss(2)`."""
        return gauss(2)


@final
class GaussLegendre6(AbstractImplicitRungeKutta):
    r"""Gauss-Legendre of order 6: 3 stages, A-stable, symplectic.

    Collocation as in [`stiffrax.GaussLegendre2`][], with `s = 3`.

    It does not damp infinitely stiff components ($|R(\infty)| = 1$): use it for oscillating and
    conservative systems, and a Radau IIA method for stiff ones.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real and one complex `n x n` systems a step; three evaluations of the vector field
    an iteration, in one batch.
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.gauss(3)`."""
        return gauss(3)


@final
class Trapezoid(AbstractImplicitRungeKutta):
    r"""The trapezoid rule: Lobatto IIIA with two stages; order 2, A-stable.

    $$y_1 = y_0 + \frac{h}{2} (f(t_0, y_0) + f(t_0 + h, y_1))$$

    It does not damp infinitely stiff components: a start off the slow solution oscillates.

    **Arguments:** those of [`stiffrax.AbstractImplicitRungeKutta`][].

    Cost: one real `n x n` system a step; one evaluation of the vector field an iteration, and one
    more a step.
    """

    @property
    def tableau(self) -> Tableau:
        """`stiffrax.tableaus.lobatto_iiia(2)`."""
        return lobatto_iiia(2)
