"""Simplified Newton iteration: one frozen Jacobian, watched as it contracts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree, Scalar

from .._arguments import check_tolerances
from ..diffrax_loop import plain_norm, scaled_error, use_stepsize_tol
from ..linear_algebra import largest_size, library_solve, root_mean_square
from ._controller_tolerances import AbstractOpenTolerances
from ._rounding_noise import explained_by_rounding


@final
class NewtonState(eqx.Module):
    """What the iteration knows about itself; `cycles`: of a linear solver that iterates too."""

    iterations: Int[Array, ""]
    displacement: Float[Array, ""]
    theta: Float[Array, ""]
    converged: Bool[Array, ""]
    diverged: Bool[Array, ""]
    largest: Float[Array, ""]
    solve: Any
    cycles: Int[Array, ""]

    def is_open(self, limit: int) -> Bool[Array, ""]:
        """Whether to iterate on, with `limit` iterations in all."""
        return ~(self.converged | self.diverged) & (self.iterations < limit)

    @property
    def result(self) -> optx.RESULTS:
        """Why the iteration has ended: for its limit, if for nothing else."""
        result = optx.RESULTS.where(
            self.diverged, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful
        )
        nonfinite = self.diverged & ~jnp.isfinite(self.displacement)
        result = optx.RESULTS.where(nonfinite, optx.RESULTS.nonfinite, result)
        limit = optx.RESULTS.nonlinear_max_steps_reached
        return optx.RESULTS.where(self.converged | self.diverged, result, limit)


@final
class StoppingRule(eqx.Module):
    r"""When to stop: `eta |dy| <= kappa` with `eta = theta / (1 - theta)`.

    - `weights`: called with the iterate, returns the size that counts as one in each component.
    - `kappa`: bound on the estimated distance to the root.
    - `eta`: the estimate used in the first iteration, where no contraction is known yet.
    - `least_eta`: no contraction that was seen is trusted beyond this: the fast decay of a large
      component hides the slow decay of a small one.
    - `noise`: called with displacement and iterate; true where an iteration that stalls may be done:
      rounding hides any further progress, or none is needed. Where it does not contract, it gets
      what a last digit of the time leaves of the displacement.
    - `rounded`: called with the iterate, returns the size of each component; an iteration that stalls
      is done only if changes of last digits of these sizes explain its displacement, component by
      component. `None` does not ask: `noise` is all.
    - `size`: of what the iterate is an increment of; an iterate in which rounding has lost that, and
      the first residual too, is no root: the equations are singular. `None` does not ask.
    - `patience`: the contraction at or above which the iteration has stopped converging.
    - `max_iterations`: give up early if the observed contraction cannot reach `kappa` in as many
      iterations; `None` never does.
    - `norm`: of a scaled displacement; `None`: that of the root finder.
    """

    weights: Callable[[PyTree], PyTree]
    noise: Callable[[PyTree, PyTree], Array]
    kappa: Any = 1.0
    eta: Any = 1.0
    patience: float = eqx.field(static=True, default=1.0)
    max_iterations: int | None = eqx.field(static=True, default=None)
    least_eta: float = eqx.field(static=True, default=0.0)
    size: Any = None
    norm: Callable[[PyTree], Scalar] | None = None
    rounded: Callable[[PyTree], PyTree] | None = None


def _largest(tree: PyTree) -> Array:
    return largest_size(jnp.stack([_of_leaf(x) for x in jax.tree.leaves(tree)]))


def _of_leaf(x: Array) -> Array:
    return largest_size(largest_size(x) if x.ndim == 2 else x.reshape(-1))


def at_rounding_level(dy: PyTree, y: PyTree) -> Array:
    """Whether a displacement is within 1000 units of rounding of the largest component."""
    largest = _largest(y)
    return _largest(dy) <= 1000 * jnp.finfo(largest.dtype).eps * largest


def finite_or_nan(matrix: Float[Array, "l n"]) -> Float[Array, "l n"]:
    """No number anywhere where an entry is infinite.

    Divided by that every residual is zero, which would pass for convergence.
    """
    return jnp.where(jnp.all(jnp.isfinite(matrix)), matrix, jnp.nan)


def is_root_mean_square(norm: Any) -> bool:
    """Whether this is the norm that controllers have by default."""
    asked = plain_norm(norm)
    # By identity: a norm may hold arrays, and two of those have no truth value.
    return asked is use_stepsize_tol or asked is optx.rms_norm


def written_out_norm(norm: Any) -> Callable[[PyTree], Scalar]:
    """The norm itself, but for the default one, whose reductions a batch does slowly."""
    return root_mean_square if is_root_mean_square(norm) else norm


def _judged(
    rule: StoppingRule, state: NewtonState, displacement: Array, theta: Array
) -> tuple[Array, Array]:
    """Whether the iteration has converged or diverged, by what has become of its displacement."""
    first = state.iterations == 0
    eta = jnp.where(first, rule.eta, theta / jnp.maximum(1 - theta, 1e-10))
    left = jnp.maximum(eta, rule.least_eta) * displacement
    converged = ((left <= rule.kappa) & (first | (theta < 1))) | (displacement == 0)
    # Two in a row: far from the root the first ratio says little about the contraction.
    growing = ~first & (theta >= rule.patience)
    diverged = growing & ((state.theta >= rule.patience) | (rule.patience < 1))
    if rule.max_iterations is not None:
        remaining = jnp.maximum(rule.max_iterations - 1 - state.iterations, 0)
        diverged = diverged | (~first & (left * theta**remaining > rule.kappa))
    return converged, diverged


@final
class SimplifiedNewton(AbstractOpenTolerances, optx.AbstractRootFinder):
    r"""Newton's method with one frozen Jacobian, for stage systems and other real roots.

    $$y_{k+1} = y_k - J^{-1} r(y_k), \qquad \theta_k = |\Delta_k| / |\Delta_{k-1}|,$$

    stopped when $\theta / (1 - \theta) |\Delta_k|$ is below the tolerance. Inside a stiffrax solver
    the linear algebra is the split one (`n x n` systems, factored once a step); with
    `optimistix.root_find` it takes the Jacobian at the starting point.

    **Arguments:**

    - `rtol`, `atol`: tolerances in units of the state. Left out, an adaptive solve fills in its
      controller's, and a fixed-step solve converges to rounding (about 4 units of the dtype).
    - `norm`: norm of a scaled displacement; root mean square by default.
    - `linear_solver`: any lineax solver for the linear systems outside a stiffrax solver.

    **Raises:** `ValueError` if only one of the two tolerances is given.

    Cost: one residual and one solve an iteration, one Jacobian and one factorization in all.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.8.

    ```python
    >>> import optimistix as optx, stiffrax as srx
    >>> newton = srx.SimplifiedNewton(rtol=1e-6, atol=1e-6)
    >>> root = optx.root_find(lambda y, _: y**3 - 8, newton, 2.1).value
    >>> print(f"{root:.4f}")
    2.0000

    ```
    """

    linear_solver: lx.AbstractLinearSolver = lx.LU()
    given: bool = eqx.field(static=True, default=False)

    def __init__(
        self,
        rtol: Any = None,
        atol: Any = None,
        norm: Callable[[PyTree], Scalar] | None = None,
        linear_solver: lx.AbstractLinearSolver = lx.LU(),
    ):
        if (rtol is None) != (atol is None):
            raise ValueError(
                f"`SimplifiedNewton(rtol={rtol!r}, atol={atol!r})` has one tolerance of two. Give "
                "both, or neither to use the step size controller's."
            )
        if rtol is not None:
            check_tolerances("SimplifiedNewton", rtol, atol)
        self._rtol = use_stepsize_tol if rtol is None else rtol
        self._atol = use_stepsize_tol if atol is None else atol
        default_norm = use_stepsize_tol if rtol is None else optx.rms_norm
        self._norm = default_norm if norm is None else norm
        self.linear_solver = linear_solver
        self.given = rtol is not None

    def __repr__(self) -> str:
        shown = f"rtol={self._rtol}, atol={self._atol}" if self.given else ""
        return f"{type(self).__name__}({shown})"

    def default_rule(self, y: PyTree) -> StoppingRule:
        """The rule outside a Runge-Kutta step: displacement below `atol + rtol |y|`."""
        eps = float(jnp.finfo(ravel_pytree(y)[0].dtype).eps)
        rtol, atol = (self.rtol, self.atol) if self.has_tolerances else (10 * eps, 10 * eps)
        return StoppingRule(
            weights=lambda y: jax.tree.map(lambda x: atol + rtol * jnp.abs(x), y),
            noise=at_rounding_level,
            rounded=lambda y: jax.tree.map(jnp.abs, y),
        )

    def init(
        self,
        fn: Callable,
        y: PyTree[Array],
        args: PyTree,
        options: dict[str, Any],
        f_struct: PyTree,
        aux_struct: PyTree,
        tags: frozenset[object],
    ) -> NewtonState:
        """Factors the Jacobian at the start, unless `options["solve"]` does that already."""
        del f_struct, aux_struct
        flat, unravel = ravel_pytree(y)
        solve = None
        if "solve" not in options:
            jacobian = jax.jacfwd(lambda x: ravel_pytree(fn(unravel(x), args)[0])[0])(flat)
            operator = lx.MatrixLinearOperator(finite_or_nan(jacobian), tags)
            solve = self._linear_solver_for(jacobian.shape).init(operator, {})
        return NewtonState(
            iterations=jnp.asarray(0),
            displacement=jnp.asarray(jnp.inf, flat.dtype),
            theta=jnp.asarray(jnp.nan, flat.dtype),
            converged=jnp.asarray(False),
            diverged=jnp.asarray(False),
            largest=jnp.zeros((), flat.dtype),
            solve=solve,
            cycles=jnp.asarray(0),
        )

    def _displacement(
        self, residual: PyTree, y: PyTree, options: dict[str, Any], state: NewtonState
    ) -> PyTree:
        if state.solve is None:
            return jax.tree.map(jnp.negative, options["solve"](residual, y))
        flat, unravel = ravel_pytree(y)
        rhs = -ravel_pytree(residual)[0]
        solver = self._linear_solver_for((rhs.size, flat.size))
        value = library_solve(solver, state.solve, rhs)
        if rhs.size != flat.size:
            # Least squares with a singular matrix may give no displacement, as at a root.
            value = jnp.where(jnp.all(value == 0) & jnp.any(rhs != 0), jnp.nan, value)
        return unravel(value)

    def _linear_solver_for(self, shape: tuple[int, ...]) -> lx.AbstractLinearSolver:
        """Least squares where there are more equations, conditions of an event, than unknowns."""
        return self.linear_solver if shape[0] == shape[1] else lx.AutoLinearSolver(well_posed=None)

    def step(
        self,
        fn: Callable,
        y: PyTree[Array],
        args: PyTree,
        options: dict[str, Any],
        state: NewtonState,
        tags: frozenset[object],
    ) -> tuple[PyTree[Array], NewtonState, PyTree]:
        """One residual, one solve, and a judgement on convergence."""
        del tags
        rule: StoppingRule = options.get("rule") or self.default_rule(y)
        norm = rule.norm or written_out_norm(self._norm)
        residual, aux = fn(y, args)
        dy = self._displacement(residual, y, options, state)
        new_y = jax.tree.map(jnp.add, y, dy)
        # At rest without an absolute tolerance both are zero.
        scaled = jax.tree.map(
            lambda d, w: scaled_error(d, jnp.broadcast_to(w, d.shape)), dy, rule.weights(new_y)
        )
        displacement, first = norm(scaled), state.iterations == 0
        theta = displacement / state.displacement
        converged, diverged = _judged(rule, state, displacement, theta)
        # What rounding leaves of a displacement does not contract, however often it is computed.
        stalled = diverged | (~first & (theta > 0.9))
        if rule.rounded is None:
            stalled = stalled & rule.noise(dy, new_y)
        else:
            later = options.get("later")

            def displacement_at(x: PyTree, digits: Array) -> PyTree:
                residual, _ = fn(x, args if later is None else later(args, digits))
                return self._displacement(residual, x, options, state)

            # A small component may be far from its root where a large one hides its displacement.
            stalled = stalled & explained_by_rounding(
                displacement_at,
                y,
                dy,
                rule.rounded(new_y),
                lambda dy: rule.noise(dy, new_y),
                stalled,
                # Rounding does not contract, not in two steps; an iteration that does is to go on.
                timed=None if later is None else theta * state.theta >= 1,
            )
        converged = converged | stalled
        diverged = (diverged & ~converged) | ~jnp.isfinite(displacement)
        largest = jnp.where(first, jnp.maximum(_largest(y), _largest(residual)), state.largest)
        if rule.size is not None:
            found, eps = _largest(new_y), jnp.finfo(largest.dtype).eps
            diverged = diverged | (converged & (eps * found > jnp.maximum(largest, rule.size)))
        state = replace(
            state,
            iterations=state.iterations + 1,
            displacement=displacement,
            theta=jnp.where(first, jnp.nan, theta),
            converged=converged & ~diverged,
            diverged=diverged,
            largest=largest,
        )
        return new_y, state, aux

    def terminate(
        self,
        fn: Callable,
        y: PyTree[Array],
        args: PyTree,
        options: dict[str, Any],
        state: NewtonState,
        tags: frozenset[object],
    ) -> tuple[Bool[Array, ""], optx.RESULTS]:
        """Stops on convergence, or on a displacement that grows or is not finite."""
        del fn, y, args, options, tags
        ended = state.converged | state.diverged
        return ended, optx.RESULTS.where(ended, state.result, optx.RESULTS.successful)

    def postprocess(
        self,
        fn: Callable,
        y: PyTree[Array],
        aux: PyTree,
        args: PyTree,
        options: dict[str, Any],
        state: NewtonState,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[PyTree[Array], PyTree, dict[str, Any]]:
        """Reports the number of iterations and the last contraction."""
        del fn, args, options, tags, result
        return y, aux, {"newton_iterations": state.iterations, "contraction": state.theta}
