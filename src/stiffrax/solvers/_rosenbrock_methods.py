"""The solvers of Rosenbrock methods."""

from typing import final

from ..tableaus import RosenbrockTableau, rodas3p, rodas4p, rodas5p, rosenbrock23
from ._rosenbrock import AbstractRosenbrock


@final
class Rosenbrock23(AbstractRosenbrock):
    """Rosenbrock's method of order 2 with an estimate of order 3: 3 stages, L-stable.

    For tolerances of a few per cent and fields that are not smooth: at strict ones the errors of its
    many steps add up to far more than the tolerance. It is not stiffly accurate: a singular mass
    matrix needs one of the Rodas methods.

    **Arguments:** those of [`stiffrax.AbstractRosenbrock`][], which has the equations of a step.

    Cost: a Jacobian, a factorization, three evaluations of the vector field and three solves a step;
    under error control as many solves again and a few more, which judge the step.

    ??? cite "Reference"
        Shampine and Reichelt, *The MATLAB ODE suite*, SIAM Journal on Scientific Computing 18 (1997).
    """

    @property
    def tableau(self) -> RosenbrockTableau:
        """`stiffrax.tableaus.rosenbrock23()`."""
        return rosenbrock23()


@final
class Rodas3P(AbstractRosenbrock):
    """Rodas3P, a Rosenbrock method of order 3: 5 stages, stiffly accurate, L-stable.

    It keeps its order on semi-discretized parabolic problems and on differential-algebraic equations
    of index 1. For coarse tolerances.

    **Arguments:** those of [`stiffrax.AbstractRosenbrock`][], which has the equations of a step.

    Cost: a Jacobian, a factorization, five evaluations of the vector field and five solves a step;
    under error control as many solves again and a few more, which judge the step.

    ??? cite "Reference"
        Steinebach, *Rosenbrock methods within OrdinaryDiffEq.jl: overview, recent developments and
        applications* (2024).
    """

    @property
    def tableau(self) -> RosenbrockTableau:
        """`stiffrax.tableaus.rodas3p()`."""
        return rodas3p()


@final
class Rodas4P(AbstractRosenbrock):
    """Rodas4P, a Rosenbrock method of order 4: 6 stages, stiffly accurate, L-stable.

    It keeps its order on semi-discretized parabolic problems and on differential-algebraic equations
    of index 1.

    **Arguments:** those of [`stiffrax.AbstractRosenbrock`][], which has the equations of a step.

    Cost: a Jacobian, a factorization, six evaluations of the vector field and six solves a step;
    under error control as many solves again and a few more, which judge the step.

    ??? cite "Reference"
        Steinebach, *Order-reduction of ROW-methods for DAEs and method of lines applications*, preprint
        1741, TH Darmstadt (1995).
    """

    @property
    def tableau(self) -> RosenbrockTableau:
        """`stiffrax.tableaus.rodas4p()`."""
        return rodas4p()


@final
class Rodas5P(AbstractRosenbrock):
    """Rodas5P, a Rosenbrock method of order 5: 8 stages, stiffly accurate, L-stable.

    The fastest solver here for small systems at rtol of 1e-3 to 1e-5. It keeps order 4 on
    semi-discretized parabolic problems, and its order on differential-algebraic equations of index
    1.

    **Arguments:** those of [`stiffrax.AbstractRosenbrock`][], which has the equations of a step.

    Cost: a Jacobian, a factorization, eight evaluations of the vector field and eight solves a step;
    under error control as many solves again and a few more, which judge the step.

    ??? cite "Reference"
        Steinebach, *Construction of Rosenbrock-Wanner method Rodas5P and numerical benchmarks within
        the Julia Differential Equations package*, BIT Numerical Mathematics 63 (2023).

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    >>> sol = diffrax.diffeqsolve(decay, srx.Rodas5P(), 0.0, 1.0, 0.01, jnp.array(1.0))
    >>> print(f"{sol.ys[-1]:.4f}")
    0.5411

    ```
    """

    @property
    def tableau(self) -> RosenbrockTableau:
        """`stiffrax.tableaus.rodas5p()`."""
        return rodas5p()
