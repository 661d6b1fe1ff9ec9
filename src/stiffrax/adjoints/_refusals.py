"""What a discrete adjoint cannot differentiate, refused by name while tracing."""

from typing import Any

import diffrax
import jax
from jaxtyping import PyTree

from .._diffrax import unwrap_term
from ..solvers import AbstractImplicitRungeKutta

_INSTEAD = "diffrax.RecursiveCheckpointAdjoint()"


def refuse_solve(solver: Any, terms: PyTree) -> None:
    """Refuses a solve whose steps are not those of a stiffrax solver."""
    if not isinstance(solver, AbstractImplicitRungeKutta):
        raise ValueError(
            f"`adjoint=DiscreteAdjoint()` was given the solver {type(solver).__name__}; it needs "
            "an implicit Runge-Kutta solver of stiffrax, such as `stiffrax.RadauIIA5()`. Write "
            f"`adjoint={_INSTEAD}` for other solvers."
        )
    if not isinstance(unwrap_term(terms), diffrax.ODETerm):
        raise ValueError(
            f"`adjoint=DiscreteAdjoint()` was given a {type(unwrap_term(terms)).__name__}; it "
            "needs a `diffrax.ODETerm(vector_field)`. Write "
            f"`adjoint={_INSTEAD}` for stochastic and controlled equations, with a solver made "
            "for them."
        )


def refuse_gradient(
    saveat: diffrax.SaveAt, max_steps: int | None, event: Any, perturbed: dict[str, Any]
) -> None:
    """Refuses a gradient of, or with respect to, what has none here."""
    if event is not None:
        raise ValueError(
            "`adjoint=DiscreteAdjoint()` was asked for the gradient of a solve with an event; its "
            f"steps must end at `t1`. Write `adjoint={_INSTEAD}`."
        )
    if saveat.dense:
        raise ValueError(
            "`adjoint=DiscreteAdjoint()` was asked for the gradient of a solve with "
            "`SaveAt(dense=True)`; it needs the times at which values are used. Write "
            f"`SaveAt(ts=...)`, or `adjoint={_INSTEAD}`."
        )
    if max_steps is None:
        raise ValueError(
            "`adjoint=DiscreteAdjoint()` was asked for the gradient of a solve with "
            "`max_steps=None`; it needs a bound on the number of steps, to make room for them. "
            "Write `max_steps=4096`, or `adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints="
            "...)`."
        )
    for name, flags in perturbed.items():
        if any(jax.tree.leaves(flags)):
            what = "SaveAt(ts=...)" if name == "saveat" else name
            raise ValueError(
                f"`adjoint=DiscreteAdjoint()` was asked for the gradient with respect to `{what}`; "
                "it holds steps and times as they were, and gives gradients with respect to `y0`, "
                "`args`, and whatever the vector field and `SaveAt(fn=...)` close over. Write "
                f"`adjoint={_INSTEAD}`, or `jax.lax.stop_gradient`."
            )
