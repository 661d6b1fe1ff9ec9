"""diffrax's loop with a count of all work, that of rejected steps included.

A solver cannot count: what it knows is rolled back with a rejected step. A controller's memory is
not, so that the counts live there, in a controller that is wrapped around the user's own.
"""

import functools as ft
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array

from .._flat_state import entry_at, real_dtype
from .._trees import is_none
from ._enclosing_solve import run_with_controller, takes_report
from ._private_names import use_stepsize_tol
from ._step_report import ReportingNorm, StepWork, asks_for_report, plain_norm

# Gauss methods and the trapezoidal rule leave all of it, Radau IIA nothing.
_UNDAMPED = 0.99


@final
class Counts(eqx.Module):
    """What all attempted steps took, and how the last of them went."""

    work: StepWork
    rejected_by_error: Array
    rejected_by_newton: Array
    last: dict[str, Array]


class _CountingController(eqx.Module):
    controller: diffrax.AbstractStepSizeController

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: Any,
    ) -> Any:
        memory, counts = controller_state
        report = y_error.restored()
        keep, next_t0, next_t1, made_jump, memory, result = self.controller.adapt_step_size(
            t0,
            t1,
            y0,
            y1_candidate,
            args,
            y_error if takes_report(self.controller) else report.error,
            error_order,
            memory,
        )
        rejected = ~jnp.asarray(keep)
        last = {
            "t": t0,
            "h": t1 - t0,
            "converged": report.converged,
            "contraction": report.theta,
            "finite": report.finite,
            "component": entry_at(y0, report.component),
        }
        counts = Counts(
            jax.tree.map(jnp.add, counts.work, report.work),
            counts.rejected_by_error + (rejected & report.converged).astype(int),
            counts.rejected_by_newton + (rejected & ~report.converged).astype(int),
            jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), last, counts.last),
        )
        return keep, next_t0, next_t1, made_jump, (memory, counts), result


def _setup(solver: Any, controller: Any, terms: Any) -> dict[str, Array]:
    """What advice depends on: with which parts the solve was made."""
    adaptive = isinstance(controller, diffrax.AbstractAdaptiveStepSizeController)
    while hasattr(controller, "controller"):
        controller = controller.controller
    structure = getattr(solver, "structure", None)
    return {
        "adaptive": jnp.asarray(adaptive),
        "predictive": jnp.asarray(asks_for_report(getattr(controller, "norm", None))),
        "order": jnp.asarray(solver.order(terms)),
        "unpreconditioned": jnp.asarray(getattr(structure, "preconditioner", False) is None),
        "undamped": jnp.asarray(_is_undamped(getattr(solver, "tableau", None))),
    }


def _is_undamped(tableau: Any) -> bool:
    """Whether a step leaves as much of an infinitely stiff component as there was before."""
    if not hasattr(tableau, "A_inverse"):
        return False  # no collocation: Rosenbrock methods damp
    # Where the implicit stages are zero `1 - sum_i d_i` of the start is left at the end of a step; an
    # explicit first stage leaves all of it.
    return tableau.explicit_first_stage or abs(1 - float(tableau.d.sum())) > _UNDAMPED


def _nothing_counted(time: Array, theta_dtype: Any) -> Counts:
    zero = jnp.asarray(0)
    work = StepWork(zero, zero, zero, zero, zero, zero)
    # As diffrax fills its buffers: a NaN in what a solve returns stops `jax_debug_nans`.
    inf = jnp.full((), jnp.inf)
    last = {
        "t": inf.astype(time.dtype),
        "h": inf.astype(time.dtype),
        "converged": jnp.asarray(True),
        "finite": jnp.asarray(True),
        "contraction": inf.astype(theta_dtype),
        "component": zero,
    }
    return Counts(work, zero, zero, last)


def counted_loop(loop: Callable[..., Any]) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """`loop` (diffrax's, or one around it) with the counts among the statistics it returns."""

    def counted(*, solver: Any, stepsize_controller: Any, init_state: Any, **kwargs: Any) -> Any:
        if not hasattr(solver, "root_finder"):
            # Its steps say no more than how many they are.
            return loop(
                solver=solver,
                stepsize_controller=stepsize_controller,
                init_state=init_state,
                **kwargs,
            )

        def norm_of(solver: Any) -> Any:
            finder = solver.root_finder
            return finder._norm if hasattr(finder, "_norm") else finder.norm

        asking = eqx.tree_at(norm_of, solver, replace_fn=_reporting)
        dtype = real_dtype(init_state.y)
        counts = _nothing_counted(jnp.asarray(init_state.tprev), dtype)
        init_state = eqx.tree_at(
            lambda s: s.controller_state,
            init_state,
            (init_state.controller_state, counts),
            is_leaf=is_none,
        )
        run = ft.partial(
            loop,
            solver=asking,
            stepsize_controller=_CountingController(stepsize_controller),
            init_state=init_state,
            **kwargs,
        )
        final_state, *rest = run_with_controller(run, stepsize_controller, kwargs["event"])
        memory, counts = final_state.controller_state
        final_state = eqx.tree_at(lambda s: s.controller_state, final_state, memory)
        stats, *record = rest
        stats = {
            **stats,
            **_statistics(counts),
            "setup": _setup(solver, stepsize_controller, kwargs["terms"]),
        }
        return (final_state, stats, *record)

    return counted


def _reporting(norm: Any) -> ReportingNorm:
    # Under fixed steps no controller has filled a norm in.
    return ReportingNorm(
        optx.rms_norm if norm is use_stepsize_tol else plain_norm(norm), counts=True
    )


def _statistics(counts: Counts) -> dict[str, Any]:
    work = counts.work
    return {
        "num_f_evaluations": work.f_evaluations,
        "num_jacobians": work.jacobians,
        "num_factorizations": work.factorizations,
        "num_linear_solves": work.linear_solves,
        "num_newton_iterations": work.newton_iterations,
        "num_gmres_cycles": work.gmres_cycles,
        "num_rejected_by_error": counts.rejected_by_error,
        "num_rejected_by_newton": counts.rejected_by_newton,
        "last_step": counts.last,
    }
