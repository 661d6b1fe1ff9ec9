"""What the adjoints share towards diffrax: its loop runs as it is, with a gradient of our own."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
from jaxtyping import Array, PyTree

from .._diffrax import WrapTerm, nondiff_solver_controller_state, only_transpose_ys, unwrap_term
from ..solvers import LearnableRungeKutta
from ..stages import stop_gradient
from ._differentiable_solve import AbstractGradientRule, SolveInputs, differentiable_solve
from ._refusals import refuse_solver
from ._saved_values import split_fns


def close_terms(terms: Any, t: Array, y: PyTree[Array], args: PyTree) -> Any:
    """Traces the vector field; values it closes over become leaves, so that gradients reach them.

    A custom gradient rule sees only its arguments, while a model is often closed over.
    """

    def replaced(term: Any, field: Callable) -> Any:
        if isinstance(term, WrapTerm):
            return eqx.tree_at(lambda w: w.term, term, replaced(term.term, field))
        return eqx.tree_at(lambda o: o.vector_field, term, field)

    field = unwrap_term(terms).vector_field
    return replaced(terms, eqx.filter_closure_convert(field, t, y, args))


class AbstractSolveAdjoint(diffrax.AbstractAdjoint):
    """An adjoint for the solvers of stiffrax that gives the saved values a gradient of its own.

    `trains_tableaus`: whether gradients reach the tableau of a `LearnableRungeKutta`.
    """

    trains_tableaus: ClassVar[bool] = True

    @abc.abstractmethod
    def differentiable_solve(self, inputs: SolveInputs, **kwargs: Any) -> Any:
        """The loop of diffrax as a function of `inputs` that has a gradient."""

    def loop(
        self,
        *,
        args: PyTree,
        terms: PyTree,
        solver: Any,
        stepsize_controller: Any,
        event: Any,
        saveat: diffrax.SaveAt,
        t0: Any,
        t1: Any,
        dt0: Any,
        max_steps: int | None,
        throw: bool,
        init_state: Any,
        passed_solver_state: bool,
        passed_controller_state: bool,
        progress_meter: Any,
    ) -> Any:
        """Runs diffrax's loop as it is, and attaches the gradient to what it saves."""
        del throw
        refuse_solver(type(self).__name__, solver, learnable=self.trains_tableaus)
        trained = isinstance(solver, LearnableRungeKutta)
        t, y0 = init_state.tprev, init_state.y
        init_state = nondiff_solver_controller_state(
            self, init_state, passed_solver_state, passed_controller_state
        )
        saveat, fns = split_fns(saveat, lambda fn: eqx.filter_closure_convert(fn, t, y0, args))
        inputs = SolveInputs(
            y0=y0,
            args=args,
            terms=close_terms(terms, t, y0, args),
            fns=fns,
            solver=solver if trained else None,
            frozen={
                "t0": t0,
                "t1": t1,
                "dt0": dt0,
                "saveat": saveat,
                "stepsize_controller": stepsize_controller,
                "solver": None if trained else solver,
            },
        )
        final_state, aux_stats = self.differentiable_solve(
            inputs,
            init_state=stop_gradient(init_state),
            event=event,
            max_steps=max_steps,
            progress_meter=progress_meter,
        )
        return only_transpose_ys(final_state), aux_stats


class AbstractRecordedAdjoint(AbstractSolveAdjoint, AbstractGradientRule):
    """An adjoint that records the steps of a stiffrax solver and makes the gradient of them."""

    def differentiable_solve(self, inputs: SolveInputs, **kwargs: Any) -> Any:
        """Forward with a record of the steps, backward over it."""
        return differentiable_solve(inputs, rule=self, **kwargs)
