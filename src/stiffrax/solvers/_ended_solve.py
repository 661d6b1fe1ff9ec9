"""Steps that no smaller step can save: they end the solve at once, with a code that says why.

diffrax keeps the code of an accepted step only, and adaptive controllers accept by the error: the
step that ends a solve is one that fails, stays where it is and has no error.
"""

from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..diffrax_loop import smallest_step
from ..stages import MatrixFree, RosenbrockSystem, StageSolution, StageSystem
from ._step_memory import Attempt, StepMemory

RESULTS: Any = diffrax.RESULTS


@final
class Ending(eqx.Module):
    """Whether a step stays where it is, and then its code."""

    stays: Bool[Array, ""]
    code: Any

    def result(self, otherwise: Any) -> Any:
        """The code of the step."""
        return RESULTS.where(self.stays, self.code, otherwise)

    def unless(self, moved: Array, stayed: Any = 0.0) -> Array:
        """A value of the step, or what it is where the step stays."""
        return jnp.where(self.stays, stayed, moved)


def step_ending(
    system: StageSystem | RosenbrockSystem,
    last_h: Float[Array, ""],
    consistent: Bool[Array, ""] | None,
    starts: Bool[Array, ""] | None,
    accepts: Bool[Array, ""] | None,
) -> Ending:
    """How a step ends its solve, if it does.

    `last_h`: the last step. `consistent`: whether the solve started where its constraints hold.
    `starts`: whether a step of any size could be accepted from here; `accepts`: whether the
    controller will accept this one. `None` where there is no error control, or no error.

    One step of no length is accepted: `diffrax.ClipStepSizeController` takes it where a solve
    starts just before a jump. From a second one no controller finds out, since they multiply.
    """
    empty = system.dt == 0
    stuck = (empty & (last_h == 0)) | jnp.isnan(system.dt)
    if accepts is not None:
        stuck = stuck | (~empty & ~accepts & (jnp.abs(system.dt) <= smallest_step(system.t0)))
    stays = empty | stuck
    code = RESULTS.where(stuck, RESULTS.dt_min_reached, RESULTS.successful)
    if starts is not None:
        stays, code = stays | ~starts, RESULTS.where(starts, code, RESULTS.nonfinite)
    if consistent is not None:
        stays = stays | ~consistent
        code = RESULTS.where(consistent, code, RESULTS.nonlinear_divergence)
    return Ending(stays, code)


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
    finite = jnp.all(jnp.isfinite(system.y0))
    if system.tableau.stiffly_accurate or system.tableau.explicit_first_stage:
        finite = finite & jnp.all(jnp.isfinite(f0))
    if isinstance(attempt.factors.structure, MatrixFree):
        return finite
    usable = solution.converged | ~jnp.isfinite(system.h)
    if memory.linearization is not None:
        usable = usable | memory.linearization.serves
    entries = jax.tree.leaves(attempt.hJ)
    return finite & (usable | jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in entries])))
