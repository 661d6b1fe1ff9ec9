"""Steps that no smaller step can save: they end the solve at once, with a code that says why.

diffrax keeps the code of an accepted step only, and adaptive controllers accept by the error: the
step that ends a solve is one that fails, stays where it is and has no error. Within it values are
infinite, as what diffrax never fills, unless it is too short to have any.

A solve with an event does not end so: diffrax asks the event at the end of the step, and calls it a
success that the time in its condition has passed. There controllers shrink the step to nothing.
"""

from typing import Any, final

import diffrax
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree

from ..diffrax_loop import (
    enclosing_event,
    enclosing_solve_jumps,
    enclosing_steps_are_fixed,
    smallest_step,
)
from ..stages import (
    AbstractStructure,
    ErrorTolerance,
    Mass,
    MatrixFree,
    RosenbrockSystem,
    StageSolution,
    StageSystem,
)
from ._consistent_start import is_consistent
from ._step_memory import Attempt, StepMemory
from ._terms import may_be_singular

RESULTS: Any = diffrax.RESULTS

# The part of the last step that one may have which leads onto constraints that have jumped: the
# controller comes down to it in twelve rejections, and back in eight steps (diffrax's), or in 27 and
# nine. Chosen, not measured.
_SHORT = 1e-8


@final
class Ending(eqx.Module):
    """How a step ends.

    `ends`: whether it ends the solve, or has no length, and then its `code`; it stays where it is.
    `lost`: whether nothing is known of what lies within; `hopeless`: nor of a smaller one.
    """

    ends: Bool[Array, ""]
    lost: Bool[Array, ""]
    hopeless: Bool[Array, ""]
    code: Any

    def result(self, otherwise: Any) -> Any:
        """The code of the step."""
        return RESULTS.where(self.ends, self.code, otherwise)

    def error(self, error: Array) -> Array:
        """None where the step ends the solve; infinite where it is to be tried again, in vain."""
        return jnp.where(self.ends, 0.0, jnp.where(self.hopeless, jnp.inf, error))

    def polynomial(self, coefficients: Array) -> Array:
        """Of the values within the step, from its start on."""
        stays = jnp.where(self.ends, 0.0, coefficients)
        return jnp.where(self.lost, jnp.inf, stays)

    def start(self, y0: PyTree[ArrayLike]) -> PyTree[Array]:
        """Of that polynomial.

        A constant where the step is lost: a cotangent that is NaN, as of a loss that masks its
        infinite values, would go on to what other lanes share.
        """
        return jax.tree.map(lambda y: jnp.where(self.lost, jnp.inf, y), y0)

    def state(self, y0: Array, y1: Array) -> Array:
        """At the end of the step.

        An event is asked of a lost step that is kept all the same: a fixed one, one of size `dtmin`.
        One that looks for its root finds none in the polynomial; comparisons are false of what is
        not a number.
        """
        y1, event = jnp.where(self.ends, y0, y1), enclosing_event()
        if event is None and not enclosing_steps_are_fixed():
            return y1
        looks = event is not None and event.root_finder is not None
        return jnp.where(self.lost, y0 if looks else jnp.nan, y1)


def step_ending(
    system: StageSystem | RosenbrockSystem,
    last_h: Float[Array, ""],
    consistent: Bool[Array, ""] | None,
    starts: Bool[Array, ""] | None,
    accepts: Bool[Array, ""] | None,
    solved: Bool[Array, ""],
) -> Ending:
    """How a step ends its solve, if it does.

    `last_h`: the last step. `consistent`: whether the solve started where its constraints hold.
    `starts`: whether a step of any size could be accepted from here; `accepts`: whether the
    controller will accept this one. `None` where there is no error control, or no error. `solved`:
    whether its equations are.

    One step of no length is accepted: `diffrax.ClipStepSizeController` takes it where a solve
    starts just before a jump. From a second one no controller finds out, since they multiply.
    """
    empty, hopeless = system.dt == 0, jnp.asarray(False)
    for known in (starts, consistent):
        hopeless = hopeless if known is None else hopeless | ~known
    fixed = enclosing_steps_are_fixed()
    tried_again = enclosing_event() is not None and not fixed
    stuck = (empty & (last_h == 0)) | jnp.isnan(system.dt)
    if accepts is not None:
        rejected = ~accepts | hopeless if tried_again else ~accepts
        stuck = stuck | (~empty & rejected & (jnp.abs(system.dt) <= smallest_step(system.t0)))
    code = RESULTS.where(stuck, RESULTS.dt_min_reached, RESULTS.successful)
    if starts is not None:
        code = RESULTS.where(starts, code, RESULTS.nonfinite)
    if consistent is not None:
        code = RESULTS.where(consistent, code, RESULTS.nonlinear_divergence)
    stays = empty | stuck
    lost = jnp.zeros_like(stays) if tried_again else hopeless & ~stays
    ends = stays | lost
    return Ending(ends, lost | ~solved if fixed or tried_again else lost, hopeless, code)


def hold_behind_jump(
    system: StageSystem | RosenbrockSystem,
    mass: Mass,
    made_jump: Any,
    tolerance: ErrorTolerance | None,
    structure: AbstractStructure,
    gamma: float,
) -> Bool[Array, ""]:
    """Whether the constraints hold at the start of a step as before, asked of one behind a jump.

    What the step before has left of them is no jump, from which diffrax starts one spacing away.
    """

    def hold() -> Array:
        before = system.field(eqxi.prevbefore(eqxi.prevbefore(system.t0)), system.y0)
        return is_consistent(system, mass, tolerance, structure, gamma, before)[0]

    return lax.cond(jnp.asarray(made_jump), hold, lambda: jnp.asarray(True))


def short_onto_constraints(
    error: Float[Array, " n"] | None,
    terms: Any,
    system: StageSystem,
    last_h: Float[Array, ""],
    made_jump: Any,
    tolerance: ErrorTolerance | None,
    structure: AbstractStructure,
) -> Float[Array, " n"] | None:
    """The error; infinite in a step that is not short, if a jump left its start off the constraints.

    Its stages lie on them, and so does its end; the polynomial runs there from the start, which the
    estimate does not see.
    """
    mass, gamma = system.mass, system.tableau.gamma
    if error is None or mass is None or not (may_be_singular(terms) and enclosing_solve_jumps()):
        return error
    holds = hold_behind_jump(system, mass, made_jump, tolerance, structure, gamma)
    short = jnp.maximum(_SHORT * jnp.abs(last_h), 100 * smallest_step(system.t0))
    return jnp.where(holds | (jnp.abs(system.dt) <= short), error, jnp.inf)


def can_start(
    system: StageSystem,
    f0: Float[Array, " n"],
    attempt: Attempt,
    solution: StageSolution,
    memory: StepMemory,
) -> Bool[Array, ""]:
    """Whether a step of any size could be accepted: is what it starts from finite?

    That is the state, the slope where the error estimate reads it, and the Jacobian unless an older
    one serves.
    """
    start = 0 * system.y0
    if system.tableau.stiffly_accurate or system.tableau.explicit_first_stage:
        start = start + 0 * f0
    finite = jnp.all(jnp.isfinite(start))
    if isinstance(attempt.factors.structure, MatrixFree):
        return finite
    usable = solution.converged | ~jnp.isfinite(system.h)
    if memory.linearization is not None:
        usable = usable | memory.linearization.serves
    entries = jax.tree.leaves(attempt.hJ)
    return finite & (usable | jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in entries])))
