"""A record of every attempted step: its size, its iterations, whether it was accepted."""

from dataclasses import replace
from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._arguments import check_count
from ..diffrax_loop import ReportingNorm, StepReport, reporting_norm, takes_report


@final
class StepHistory(eqx.Module):
    """The attempted steps of a solve, in the order in which they were tried.

    It is `solution.controller_state` of a solve with [`stiffrax.RecordingController`][] and
    `SaveAt(..., controller_state=True)`.

    **Arguments:**

    - `t`, `h`: start and size of each step, in units of time; infinite in rows never filled.
    - `accepted`: whether the step was kept; `converged`: whether its iteration succeeded.
    - `newton_iterations`: that it took; 0 with solvers that report none.
    - `count`: the number of attempts, which may exceed the number of rows.
    - `memory`: the state of the controller that decided.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> controller = srx.RecordingController(srx.PredictiveController(1e-4, 1e-6), num_rows=64)
    >>> solution = diffrax.diffeqsolve(
    ...     diffrax.ODETerm(lambda t, y, args: -50 * (y - jnp.cos(t))), srx.RadauIIA5(), 0.0, 1.0,
    ...     0.1, jnp.array(2.0), stepsize_controller=controller,
    ...     saveat=diffrax.SaveAt(t1=True, controller_state=True))
    >>> history = solution.controller_state
    >>> int(history.count), int(history.accepted.sum()), int(history.newton_iterations[0])
    (15, 14, 2)

    ```
    """

    t: Float[Array, " num_rows"]
    h: Float[Array, " num_rows"]
    accepted: Bool[Array, " num_rows"]
    converged: Bool[Array, " num_rows"]
    newton_iterations: Int[Array, " num_rows"]
    count: Int[Array, ""]
    memory: PyTree


@final
class RecordingController(diffrax.AbstractAdaptiveStepSizeController):
    """An adaptive controller that also keeps size and Newton iterations of every attempted step.

    The steps are those of `controller`. [`stiffrax.plots.newton_iterations`][] draws the
    record; with `SaveAt(steps=True, controller_state=True)` [`stiffrax.plots.steps`][] draws sizes.

    **Arguments:**

    - `controller`: the adaptive controller that decides.
    - `num_rows`: how many attempts are kept, the first ones; the others are only counted.
    - `direction`: of time, 1 or -1; diffrax fills it in.

    **Raises:** `ValueError` if `controller` is not adaptive, or `num_rows` not positive.

    Cost: 26 bytes a row, in float64.

    ```python
    >>> import diffrax, stiffrax as srx
    >>> controller = srx.RecordingController(diffrax.PIDController(rtol=1e-6, atol=1e-8))
    >>> controller.rtol
    1e-06

    ```
    """

    controller: Any
    num_rows: int = eqx.field(static=True, default=4096)
    direction: Any = 1

    def __check_init__(self):
        if not isinstance(self.controller, diffrax.AbstractAdaptiveStepSizeController):
            raise ValueError(
                f"`controller={self.controller}` was given; an adaptive controller is needed. "
                "Write `RecordingController(PredictiveController(rtol=1e-6, atol=1e-8))`."
            )
        check_count("num_rows", self.num_rows, write="num_rows=4096")

    @property
    def rtol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the controller."""
        return self.controller.rtol

    @property
    def atol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the controller."""
        return self.controller.atol

    @property
    def norm(self) -> ReportingNorm:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the controller, which asks solvers to report."""
        return reporting_norm(self.controller.norm)

    def wrap(self, direction: Any) -> "RecordingController":
        """The controller with the direction of time."""
        return replace(self, controller=self.controller.wrap(direction), direction=direction)

    def init(self, terms: Any, t0: Any, *args: Any) -> tuple[Any, StepHistory]:
        """The first step of the controller, and an empty record."""
        end, memory = self.controller.init(terms, t0, *args)
        inf = jnp.full(self.num_rows, jnp.inf, jnp.result_type(t0, float))
        no, zeros = jnp.zeros(self.num_rows, bool), jnp.zeros(self.num_rows, int)
        return end, StepHistory(inf, inf, no, no, zeros, jnp.zeros((), int), memory)

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: PyTree,
        y1_candidate: PyTree,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: StepHistory,
    ) -> tuple[Any, Any, Any, Any, StepHistory, diffrax.RESULTS]:
        """What the controller decides, recorded."""
        past, inner = controller_state, y_error
        converged, iterations = jnp.asarray(True), jnp.asarray(0)
        if isinstance(y_error, StepReport):
            report = y_error.restored()
            converged, iterations = report.converged, report.work.newton_iterations
            if not takes_report(self.controller):
                inner = report.error
        keep, next_t0, next_t1, made_jump, memory, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, inner, error_order, past.memory
        )

        def with_row(column: Array, value: Any) -> Array:
            return column.at[past.count].set(lax.stop_gradient(value), mode="drop")

        history = StepHistory(
            t=with_row(past.t, t0 * self.direction),
            h=with_row(past.h, (t1 - t0) * self.direction),
            accepted=with_row(past.accepted, keep),
            converged=with_row(past.converged, converged),
            newton_iterations=with_row(past.newton_iterations, iterations),
            count=past.count + 1,
            memory=memory,
        )
        return keep, next_t0, next_t1, made_jump, history, result
