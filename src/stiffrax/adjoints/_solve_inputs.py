"""What derivatives of a solve may be asked of."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
from jaxtyping import Array, PyTree, Shaped

from .._trees import is_none
from ..diffrax_loop import moving_with, starting_from, with_fns, with_step_to
from ..solvers import LearnableRungeKutta


@final
class SolveInputs(eqx.Module):
    """What derivatives may be asked of, and in `frozen` what they are refused of by name.

    `saveat` holds the times of `SaveAt(ts=...)`, `fns` its functions, `event` its conditions;
    `step_to` the times of a `diffrax.StepTo`. `solver` is one whose tableau is trained; any other is
    in `frozen`.
    """

    y0: PyTree[Array]
    args: PyTree
    terms: PyTree
    t0: Shaped[Array, ""]
    t1: Shaped[Array, ""]
    saveat: diffrax.SaveAt
    step_to: Shaped[Array, " ts"] | None
    fns: list[Callable | None]
    event: diffrax.Event | None
    solver: LearnableRungeKutta | None
    frozen: dict[str, Any]

    @property
    def times(self) -> dict[str, Any]:
        """All times, by the names of the arguments that hold them."""
        return {
            "t0": self.t0,
            "t1": self.t1,
            "SaveAt(ts=...)": self.saveat,
            "StepTo(ts=...)": self.step_to,
        }

    @property
    def the_solver(self) -> Any:
        """The solver, whether or not it is trained."""
        return self.frozen["solver"] if self.solver is None else self.solver

    def loop_arguments(self, init_state: Any, fns: list[Callable | None]) -> dict[str, Any]:
        """As diffrax's loop takes them."""
        controller = with_step_to(self.frozen["stepsize_controller"], self.step_to)
        init_state = moving_with(init_state, controller, self.t0, self.t1)
        return {
            "saveat": with_fns(self.saveat, fns),
            "terms": self.terms,
            "args": self.args,
            "t0": self.t0,
            "t1": self.t1,
            "dt0": self.frozen["dt0"],
            "stepsize_controller": controller,
            "solver": self.the_solver,
            "event": self.event,
            "init_state": starting_from(init_state, self.y0),
        }


def has_tangent(tangents: Any) -> Any:
    """Which leaves have a tangent, `None` standing for none."""
    return jax.tree.map(lambda x: x is not None, tangents, is_leaf=is_none)


def is_moved(tangents: Any) -> bool:
    """Whether any leaf has a tangent, `None` standing for none (or is flagged to have one)."""
    return any(x is not False for x in jax.tree.leaves(tangents))
