"""What adjoints of recorded steps cannot differentiate, refused by name while tracing."""

from typing import Any, cast

import diffrax
import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from ..diffrax_loop import own_methods, unwrap_term
from ..solvers import (
    AbstractImplicitRungeKutta,
    AbstractRosenbrock,
    LearnableRungeKutta,
    MassMatrixTerm,
    RadauIIA,
    mass_of,
    refuse_products,
)
from ..stages import Mass

_EVERYTHING = "stiffrax.DiscreteAdjoint()"
_INSTEAD = "diffrax.RecursiveCheckpointAdjoint()"
_STOP = "`jax.lax.stop_gradient`"
# The solution depends on none of these, but for a time at which the field jumps; its error does, and
# under error control no adjoint differentiates that: those of diffrax hold ratios of steps fixed.
_IN_PLACE_OF = {
    "dt0": f"{_STOP}; of fixed steps `adjoint={_INSTEAD}` differentiates the error",
    "solver": _STOP,
    "stepsize_controller": f"{_STOP}; for a time at which the field jumps, end a solve there, and "
    f"start another, or `adjoint={_INSTEAD}`",
}

TWICE = (
    "`adjoint={adjoint}()` was asked for the reverse-mode gradient of its derivative; it can be "
    "differentiated once more in forward mode only. Write `jax.jvp` or `jax.jacfwd` outside and "
    "`jax.grad` inside (as `jax.hessian` does), or `adjoint=diffrax.DirectAdjoint()`."
)
"""What a derivative says that is differentiated once more in reverse mode."""

FORWARD = (
    "`adjoint={adjoint}()` was asked for a derivative in forward mode; it solves the adjoint "
    "equation, which runs back in time. Write `adjoint=stiffrax.DiscreteAdjoint()`."
)
"""What a continuous adjoint says in forward mode."""


def records_steps(solver: Any) -> bool:
    """Whether the steps are those of a method for stiff problems; `LearnableRungeKutta` is any."""
    return isinstance(solver, AbstractImplicitRungeKutta | AbstractRosenbrock | RadauIIA)


def refuse_solver(adjoint: str, solver: Any, *, any_solver: bool) -> None:
    """Refuses a solve whose steps are not those of a stiffrax solver, or not all of one collocation."""
    if not records_steps(solver) and not isinstance(solver, LearnableRungeKutta):
        raise ValueError(
            f"`adjoint={adjoint}()` was given the solver {type(solver).__name__}; it needs "
            "a solver of stiffrax, such as `stiffrax.RadauIIA5()`. Write "
            f"`adjoint={_INSTEAD}` for other solvers."
        )
    if any_solver:
        return
    if isinstance(solver, LearnableRungeKutta):
        raise ValueError(
            f"`adjoint={adjoint}()` was given a LearnableRungeKutta; its gradient would not reach "
            "the tableau. Write `adjoint=stiffrax.DiscreteAdjoint()`."
        )
    if isinstance(solver, AbstractRosenbrock):
        raise ValueError(
            f"`adjoint={adjoint}()` was given the solver {type(solver).__name__}; it needs an "
            "implicit Runge-Kutta solver of stiffrax, such as `stiffrax.RadauIIA5()`, whose stages "
            "lie on the solution between the ends of steps. Write "
            "`adjoint=stiffrax.DiscreteAdjoint()`."
        )
    if isinstance(solver, RadauIIA):
        raise ValueError(
            f"`adjoint={adjoint}()` was given `RadauIIA` of variable order; it needs steps of one "
            "method. Write `stiffrax.RadauIIA5()` or `stiffrax.RadauIIA9()`, or "
            "`adjoint=stiffrax.DiscreteAdjoint()`."
        )


def refuse_terms(adjoint: str, terms: Any, *, any_control: bool) -> None:
    """Refuses terms that are no ordinary differential equation, which explicit methods take."""
    term = unwrap_term(terms)
    if not isinstance(term, diffrax.ODETerm | MassMatrixTerm):
        raise ValueError(
            f"`adjoint={adjoint}()` was given a {type(term).__name__}; it needs a "
            f"`diffrax.ODETerm(vector_field)`. Write `adjoint={_INSTEAD}` for other terms."
        )
    refuse_products(term)
    if own_methods(term, "contr") and not any_control:
        raise ValueError(
            f"`adjoint={adjoint}()` was given a {type(term).__name__} with its own `contr`; it needs "
            f"`y' = f(t, y, args)`. Multiply in a `vf`, or write `adjoint={_EVERYTHING}`."
        )


def refuse_singular_mass(adjoint: str, terms: Any, y: PyTree[Array], values: Any) -> Any:
    """Refuses the adjoint equation of a differential-algebraic one.

    `values` are handed on: of them all must be made, for a mass that is traced is refused when run.
    """
    message = (
        f"`adjoint={adjoint}()` was given a singular mass matrix; its adjoint equation needs "
        "`M^-1`. Write `adjoint=stiffrax.DiscreteAdjoint()`, which does not."
    )
    singular = getattr(unwrap_term(terms), "singular", False)
    if singular:
        raise ValueError(message)
    if singular is None:
        values = eqx.error_if(values, cast(Mass, mass_of(terms, y)).is_singular(), message)
    return values


def refuse_derivative(
    adjoint: str,
    saveat: diffrax.SaveAt,
    max_steps: int | None,
    event: Any,
    perturbed: dict[str, Any],
    *,
    moves_times: bool = False,
) -> None:
    """Refuses a derivative of, or with respect to, what has none here."""
    if event is not None and not moves_times:
        raise ValueError(
            f"`adjoint={adjoint}()` was asked for the gradient of a solve with an event; its "
            f"steps must end at `t1`. Write `adjoint={_EVERYTHING}`."
        )
    if saveat.dense and not moves_times:
        raise ValueError(
            f"`adjoint={adjoint}()` was asked for the gradient of a solve with "
            "`SaveAt(dense=True)`; it needs the times at which values are used. Write "
            f"`SaveAt(ts=...)`, or `adjoint={_EVERYTHING}`."
        )
    if max_steps is None:
        raise ValueError(
            f"`adjoint={adjoint}()` was asked for the gradient of a solve with "
            "`max_steps=None`; it needs a bound on the number of steps, to make room for them. "
            "Write `max_steps=4096`, or `adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints="
            "...)`."
        )
    for name, flags in perturbed.items():
        if any(x is not False for x in jax.tree.leaves(flags)):
            instead = _IN_PLACE_OF.get(name, f"`adjoint={_EVERYTHING}`, or {_STOP}")
            raise ValueError(
                f"`adjoint={adjoint}()` was asked for the gradient with respect to `{name}`; it "
                "gives gradients with respect to `y0`, `args`, and whatever the vector field and "
                f"`SaveAt(fn=...)` close over. Write {instead}."
            )


def refuse_checked_axes(adjoint: str, inputs: Any) -> None:
    """Refuses values whose type says that they vary over a mesh; loops start from constants."""
    types = [
        getattr(getattr(x, "aval", None), "manual_axis_type", None) for x in jax.tree.leaves(inputs)
    ]
    axes = sorted({str(axis) for one in types for axis in getattr(one, "varying", ())})
    if axes:
        raise ValueError(
            f"`adjoint={adjoint}()` was given values that vary over {axes}, under `jax.shard_map` "
            "with `check_vma=True`; the loops of diffrax start from constants, which do not. Write "
            "`jax.shard_map(..., check_vma=False)`, and `jax.lax.psum` around a gradient with "
            "respect to what all devices share."
        )
