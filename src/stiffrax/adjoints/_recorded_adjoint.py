"""What adjoints that go over the recorded steps of a solve share: diffrax on the outside."""

from typing import Any

import diffrax
import equinox as eqx
from jaxtyping import PyTree

from .._diffrax import nondiff_solver_controller_state, only_transpose_ys
from ..stages import stop_gradient
from ._closed_terms import close_terms
from ._differentiable_solve import AbstractGradientRule, SolveInputs, differentiable_solve
from ._refusals import refuse_solver
from ._saved_values import split_fns


class AbstractRecordedAdjoint(diffrax.AbstractAdjoint, AbstractGradientRule):
    """An adjoint that records the steps of a stiffrax solver and makes the gradient of them."""

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
        refuse_solver(type(self).__name__, solver)
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
            frozen={
                "t0": t0,
                "t1": t1,
                "dt0": dt0,
                "saveat": saveat,
                "stepsize_controller": stepsize_controller,
                "solver": solver,
            },
        )
        final_state, aux_stats = differentiable_solve(
            inputs,
            init_state=stop_gradient(init_state),
            rule=self,
            event=event,
            max_steps=max_steps,
            progress_meter=progress_meter,
        )
        return only_transpose_ys(final_state), aux_stats
