"""The continuous adjoints: a linear differential equation, solved back in time."""

import abc
from numbers import Real
from typing import ClassVar, cast, final

import equinox as eqx

from .._arguments import check_choice, check_count, check_instance, check_tolerances, plain_integer
from .._options import Failed
from ._adjoint_equation import AbstractLinearMethod, LinearKenCarp, LinearRadau
from ._adjoint_loop import AdjointTolerances, solve_adjoint
from ._differentiable_solve import AbstractRecordedAdjoint, Recorded
from ._refusals import FORWARD, refuse_singular_mass
from ._saved_values import cotangent_jumps
from ._step_equations import StepEquations
from ._sweeps import SavedTangents, SolveTangents


class AbstractContinuousAdjoint(AbstractRecordedAdjoint):
    """An adjoint that solves `lambda' = -J^T lambda` along the recorded solution."""

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=4096)
    failed: Failed = eqx.field(static=True, default="zero")

    any_solver: ClassVar[bool] = False

    def __check_init__(self):
        name = type(self).__name__
        check_choice(name, "failed", self.failed, "zero", "nan")
        check_tolerances(name, self.rtol, self.atol, positive=True)
        for x in ("rtol", "atol"):
            check_instance(x, getattr(self, x), Real, "one number of Python", f"{x}=1e-6")
        check_count("max_steps", self.max_steps, write="max_steps=4096")

    @property
    def uses_quadrature(self) -> bool:
        """Whether the parameter integral is made by adaptive quadrature of each step."""
        return False

    @abc.abstractmethod
    def method(self, num_stages: int) -> AbstractLinearMethod:
        """The method for the adjoint of steps of so many stages."""

    def push(self, solved: Recorded, tangents: SolveTangents) -> SavedTangents:
        """Refused: an adjoint equation has no solution that runs ahead."""
        raise ValueError(FORWARD.format(adjoint=type(self).__name__))

    def pull(self, solved: Recorded, cotangents: SavedTangents, *, times: bool) -> SolveTangents:
        """Solves the adjoint equation and the parameter integral."""
        steps, record = cast(StepEquations, solved.steps), solved.record
        name = type(self).__name__
        rows = refuse_singular_mass(name, steps.terms, steps.state, cotangents.rows)
        method = self.method(steps.solver.tableau.nodes.size)
        state = solve_adjoint(
            steps,
            record,
            cotangent_jumps(record, solved.places, rows),
            AdjointTolerances(self.rtol, self.atol, method, self.uses_quadrature),
            max_steps=self.max_steps,
        )
        return SolveTangents(state.adjoint, state.integral, None)


@final
class InterpolatingAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by a stiff method, the parameter integral under its error control.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    along the dense output of the forward solve, from its end back to the start; at each saved time
    $\lambda$ jumps by the cotangent saved there. No step of it is longer than the forward step that
    it is in, so that it does not leap over what the forward solve resolved. The equation is linear:
    a step of Radau IIA of order 5 is one linear solve with the exact `J^T`, and no iteration. The
    integral is a quadrature by the same method and steps, under the same error control, outside of
    the linear algebra.

    The gradient is that of the exact solution, to the tolerances of both solves; for that of the
    steps taken see [`stiffrax.DiscreteAdjoint`][].

    **Arguments:**

    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` is a part of the largest
      cotangent times state over the size of each state, but at most of the largest cotangent of a
      saved state, and in the integral of the largest entry of the leaf: units do not matter. The
      forward solve keeps its own. An `rtol` that the precision does not hold counts as the least that
      it does, 1.9e-6 in float32.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take within one step of the
      forward solve, or between two saved times in it; a gradient that needs more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has four Jacobians, one `3n x 3n` system and two reverse sweeps of
    the vector field at four points, three where it is rejected. Memory: the forward dense output.

    ??? cite "Reference"
        Kim and others, *Stiff neural ordinary differential equations* (2021).

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

    def method(self, num_stages: int) -> AbstractLinearMethod:
        """Radau IIA, its own rule for the integral."""
        del num_stages
        return LinearRadau()


@final
class GaussAdjoint(AbstractContinuousAdjoint):
    """Continuous adjoint by a stiff method, the parameter integral by Gauss quadrature.

    It solves the equations of [`stiffrax.InterpolatingAdjoint`][], but with the integral over a step
    by a Gauss rule over the polynomials of both solutions, outside of the error control. Parameters
    neither shorten the steps nor are stored: the cheapest continuous adjoint for many parameters.

    **Arguments:** those of [`stiffrax.InterpolatingAdjoint`][], and

    - `nodes`: of the Gauss rule; by default the number of stages of the forward solver, or four if
      it has fewer.

    Cost: a step of the adjoint has four Jacobians, one `3n x 3n` system and one reverse sweep of
    the vector field at `nodes` points. Memory: the forward dense output.

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

    nodes: int | None = eqx.field(converter=plain_integer, static=True, default=None)

    def __check_init__(self):
        if self.nodes is not None:
            check_count("nodes", self.nodes, write="nodes=4")

    def method(self, num_stages: int) -> AbstractLinearMethod:
        """Radau IIA, and a Gauss rule over its polynomial."""
        # A rule of as many nodes as the forward method has stages is at least of its order.
        return LinearRadau(gauss_nodes=self.nodes or max(4, num_stages))


@final
class QuadratureAdjoint(AbstractContinuousAdjoint):
    """Continuous adjoint by a stiff method, with adaptive quadrature for the parameters.

    It solves the equations of [`stiffrax.InterpolatingAdjoint`][] in two parts: the one of the
    adjoint alone; and the integral, by Clenshaw-Curtis rules over the polynomial of each accepted
    step of the adjoint, which is halved until the rules of 5 and 9 points agree.

    **Arguments:** those of [`stiffrax.InterpolatingAdjoint`][].

    Cost: a step of the adjoint has four Jacobians and one `3n x 3n` system; an interval of the
    quadrature two reverse sweeps, three where it is halved, of the vector field at nine points.
    Memory: the forward dense output.

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

    @property
    def uses_quadrature(self) -> bool:
        """The integral is made of the dense output of the adjoint."""
        return True

    def method(self, num_stages: int) -> AbstractLinearMethod:
        """Radau IIA."""
        del num_stages
        return LinearRadau()


@final
class ImexAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by an implicit-explicit method: implicit in the adjoint only.

    It solves the equations of [`stiffrax.InterpolatingAdjoint`][] by KenCarp4: the stiff one of
    $\lambda$ by its implicit half, the integral by its explicit half, both under the error control.
    Each stage is one linear solve with the exact `J^T`, and no Newton iteration. The order is 4: for
    strict tolerances `InterpolatingAdjoint` takes fewer steps.

    **Arguments:** those of [`stiffrax.InterpolatingAdjoint`][].

    Cost: a step of the adjoint has six Jacobians, five `n x n` systems and two reverse sweeps of
    the vector field at six points. Memory: the forward dense output.

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

    def method(self, num_stages: int) -> AbstractLinearMethod:
        """KenCarp4."""
        del num_stages
        return LinearKenCarp()
