"""The continuous adjoints: a linear differential equation, solved back in time."""

import abc
from typing import Any, ClassVar, final

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from .._arguments import check_choice, check_count, check_tolerances
from ..diffrax_loop import StepRecord
from ._adjoint_equation import AbstractLinearMethod, AdjointEquation, LinearKenCarp, LinearRadau
from ._adjoint_loop import (
    AdjointState,
    AdjointTolerances,
    cotangent_jumps,
    integrate,
    solve_adjoint,
)
from ._differentiable_solve import AbstractRecordedAdjoint
from ._refusals import refuse_singular_mass
from ._saved_values import SavedCotangents
from ._step_equations import StepEquations


class AbstractContinuousAdjoint(AbstractRecordedAdjoint):
    """An adjoint that solves `lambda' = -J^T lambda` along the recorded solution."""

    rtol: eqx.AbstractVar[float]
    atol: eqx.AbstractVar[float]
    max_steps: eqx.AbstractVar[int]

    trains_tableaus: ClassVar[bool] = False

    def __check_init__(self):
        name = type(self).__name__
        check_choice(name, "failed", self.failed, "zero", "nan")
        check_tolerances(name, self.rtol, self.atol, positive=True)
        check_count("max_steps", self.max_steps, write="max_steps=4096")

    @property
    @abc.abstractmethod
    def method(self) -> AbstractLinearMethod:
        """The method for the adjoint equation."""

    @property
    def integrates_on_the_way(self) -> bool:
        """Whether the parameter integral is part of the solve, or made of its dense output."""
        return True

    def parameter_integral(self, equation: AdjointEquation, state: AdjointState) -> PyTree:
        """The cotangents of the parameters."""
        del equation
        return state.integral

    def gradient(
        self, steps: StepEquations, record: StepRecord, saved: list[SavedCotangents]
    ) -> tuple[Float[Array, " n"], PyTree]:
        """Solves the adjoint equation and the parameter integral."""
        refuse_singular_mass(type(self).__name__, steps.terms)
        equation = AdjointEquation(steps, record)
        state = solve_adjoint(
            equation,
            cotangent_jumps(saved),
            AdjointTolerances(self.rtol, self.atol, self.method),
            max_steps=self.max_steps,
            integrate=self.integrates_on_the_way,
            keep_dense=not self.integrates_on_the_way,
        )
        return state.adjoint, self.parameter_integral(equation, state)


@final
class InterpolatingAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by a stiff method, the parameter integral under its error control.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    along the dense output of the forward solve, from the last saved time back to the start; at each
    saved time $\lambda$ jumps by the cotangent saved there. The equation is linear: each step of
    Radau IIA of order 5 is one linear solve with the exact `J^T`, and no Newton iteration. The
    integral is a quadrature by the same method and steps, under the same error control, outside of
    the linear algebra.

    The gradient is that of the exact solution, to the tolerances of both solves; for that of the
    steps taken see [`stiffrax.DiscreteAdjoint`][].

    **Arguments:**

    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` in units of the
      loss over those of the state. The forward solve keeps its own.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take; a gradient that needs
      more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has four Jacobians, one `3n x 3n` system and two reverse sweeps of
    the vector field at four points. Memory: the forward dense output.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.InterpolatingAdjoint(), jnp.array(1.0)
    ...     control = diffrax.PIDController(rtol=1e-6, atol=1e-9)
    ...     return diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, None, y0,
    ...         stepsize_controller=control, adjoint=adjoint).ys[-1]
    >>> print(f"{jax.grad(end)(2.0):.4f}")  # -exp(-2)
    -0.1353

    ```
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=4096)
    failed: str = eqx.field(static=True, default="zero")

    @property
    def method(self) -> AbstractLinearMethod:
        """Radau IIA, its own rule for the integral."""
        return LinearRadau()


@final
class GaussAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by a stiff method, the parameter integral by Gauss quadrature.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    as in [`stiffrax.InterpolatingAdjoint`][], but with the integral over a step by a Gauss rule
    over the polynomials of both solutions, outside of the error control. Parameters neither shorten
    the steps nor are stored: the cheapest continuous adjoint for many parameters.

    **Arguments:**

    - `nodes`: of the Gauss rule.
    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` in units of the
      loss over those of the state. The forward solve keeps its own.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take; a gradient that needs
      more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has four Jacobians, one `3n x 3n` system and one reverse sweep of
    the vector field at `nodes` points. Memory: the forward dense output.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.GaussAdjoint(), jnp.array(1.0)
    ...     control = diffrax.PIDController(rtol=1e-6, atol=1e-9)
    ...     return diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, None, y0,
    ...         stepsize_controller=control, adjoint=adjoint).ys[-1]
    >>> print(f"{jax.grad(end)(2.0):.4f}")  # -exp(-2)
    -0.1353

    ```
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=4096)
    failed: str = eqx.field(static=True, default="zero")

    nodes: int = eqx.field(static=True, default=4)

    def __check_init__(self):
        if self.nodes < 1:
            raise ValueError(
                f"`GaussAdjoint(nodes={self.nodes!r})` was given; it needs a positive number of "
                "nodes. Write `nodes=4`."
            )

    @property
    def method(self) -> AbstractLinearMethod:
        """Radau IIA, and a Gauss rule over its polynomial."""
        return LinearRadau(gauss_nodes=self.nodes)


@final
class QuadratureAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by a stiff method, then adaptive quadrature for the parameters.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    in two parts: the adjoint equation alone, as in [`stiffrax.InterpolatingAdjoint`][], with dense
    output; then the integral, by Clenshaw-Curtis rules on each step of the adjoint, which is halved
    until the rules of 5 and 9 points agree.

    **Arguments:**

    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` in units of the
      loss over those of the state. The forward solve keeps its own.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take; a gradient that needs
      more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has four Jacobians and one `3n x 3n` system; an interval of the
    quadrature two reverse sweeps of the vector field at nine points. Memory: the dense output of
    both solves, `4 n` numbers a step.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.QuadratureAdjoint(), jnp.array(1.0)
    ...     control = diffrax.PIDController(rtol=1e-6, atol=1e-9)
    ...     return diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, None, y0,
    ...         stepsize_controller=control, adjoint=adjoint).ys[-1]
    >>> print(f"{jax.grad(end)(2.0):.4f}")  # -exp(-2)
    -0.1353

    ```
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=4096)
    failed: str = eqx.field(static=True, default="zero")

    @property
    def method(self) -> AbstractLinearMethod:
        """Radau IIA."""
        return LinearRadau()

    @property
    def integrates_on_the_way(self) -> bool:
        """The integral is made of the dense output of the adjoint."""
        return False

    def parameter_integral(self, equation: AdjointEquation, state: AdjointState) -> PyTree:
        """Adaptive quadrature over the steps of the adjoint."""
        dense: Any = state.dense
        return integrate(equation, dense, state.accepted, self.rtol, self.atol)


@final
class ImexAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by an implicit-explicit method: implicit in the adjoint only.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    along the dense output of the forward solve, by KenCarp4: the stiff equation of $\lambda$ by its
    implicit half, the integral by its explicit half, both under the error control. Each stage is
    one linear solve with the exact `J^T`, and no Newton iteration. Of order 4; for strict
    tolerances [`stiffrax.InterpolatingAdjoint`][] takes fewer steps.

    **Arguments:**

    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` in units of the
      loss over those of the state. The forward solve keeps its own.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take; a gradient that needs
      more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has six Jacobians, five `n x n` systems and two reverse sweeps of
    the vector field at six points. Memory: the forward dense output.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.ImexAdjoint(), jnp.array(1.0)
    ...     control = diffrax.PIDController(rtol=1e-6, atol=1e-9)
    ...     return diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, None, y0,
    ...         stepsize_controller=control, adjoint=adjoint).ys[-1]
    >>> print(f"{jax.grad(end)(2.0):.4f}")  # -exp(-2)
    -0.1353

    ```
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=4096)
    failed: str = eqx.field(static=True, default="zero")

    @property
    def method(self) -> AbstractLinearMethod:
        """KenCarp4."""
        return LinearKenCarp()
