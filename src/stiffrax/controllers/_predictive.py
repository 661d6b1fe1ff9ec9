"""Gustafsson's predictive step-size controller, aware of the Newton iteration."""

import itertools
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from .._arguments import (
    check_callable,
    check_state,
    check_tolerances,
    numbers,
    refuse_no_estimate,
)
from .._flat_state import real_dtype
from ..diffrax_loop import StepReport, reporting_norm, scaled_error, smallest_step


@final
class ControllerMemory(eqx.Module):
    """The last accepted step and its error; whether the last attempt was rejected."""

    h: Shaped[Array, ""]
    error: Float[Array, ""]
    any_accepted: Bool[Array, ""]
    rejected: Bool[Array, ""]


@final
class PredictiveController(diffrax.AbstractAdaptiveStepSizeController):
    r"""Gustafsson's predictive step-size control, aware of the Newton iteration.

    With the scaled error `e_n` of step `h_n` and its order `k`, an accepted step is followed by

    $$h_{n+1} = h_n \min\left(\sigma e_n^{-1/k},
      0.9 \frac{h_n}{h_{n-1}} \left(\frac{e_{n-1}}{e_n^2}\right)^{1/k}\right), \qquad
      \sigma = 0.9 \frac{2 i_{max} + 1}{2 i_{max} + i},$$

    within the factors 1/5 and 8, where `i` is the number of iterations that the step took of the
    most allowed: slow iterations lead to smaller steps. A step size that would grow by less than 20
    % is kept, so that the factors of the Newton matrix can be reused. A failed iteration halves the
    step. A rejected step is followed by one of at most 0.9 of its size, a tenth of it before the first
    accepted step, and that one by no larger one.

    **Arguments:**

    - `rtol`, `atol`: tolerances of a step; `atol` in units of the state, a scalar or an array.
    - `norm`: norm of a scaled error.
    - `dtmin`, `dtmax`: smallest and largest step, in units of time. Where a smaller one is needed,
      the solve ends with `diffrax.RESULTS.dt_min_reached`, as with `diffrax.PIDController` under
      `force_dtmin=False`; by default that one accepts a step of size `dtmin` whatever its error.
      Without `dtmin`, the smallest step is ten spacings of floating-point numbers at `t`.
    - `dead_band`: growth up to which the step size is kept.

    It works with other solvers too, without knowledge of their iterations. Sizes of steps, and what
    they depend on, have the derivative zero.

    **Raises:** `ValueError` for tolerances that are negative or both zero, or of another shape than
    the state, for bounds of the step that exclude each other, and for a solver that estimates no
    error.

    ??? cite "Reference"
        Gustafsson, *Control-theoretic techniques for stepsize selection in implicit Runge-Kutta
        methods*, ACM Transactions on Mathematical Software 20 (1994).

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> decay = diffrax.ODETerm(lambda t, y, args: -1000 * (y - jnp.cos(t)))
    >>> controller = srx.PredictiveController(rtol=1e-6, atol=1e-6)
    >>> sol = diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, 0.01, jnp.array(1.0),
    ...     stepsize_controller=controller)
    >>> print(f"{sol.ys[-1]:.5f}")
    0.54114

    ```
    """

    rtol: Any
    atol: Any
    norm: Callable[[PyTree], Any] = eqx.field(converter=reporting_norm, default=optx.rms_norm)
    dtmin: Any = None
    dtmax: Any = None
    dead_band: float = eqx.field(static=True, default=1.2)

    def __check_init__(self):
        check_tolerances("PredictiveController", self.rtol, self.atol)
        check_callable("norm", self.norm.norm, "norm=optimistix.rms_norm")
        known = [x for given in (0, self.dtmin, self.dtmax) for x in numbers(given) or ()]
        if any(not np.all(a < b) for a, b in itertools.pairwise(known)):
            raise ValueError(
                f"`PredictiveController(dtmin={self.dtmin}, dtmax={self.dtmax})` was given; both must "
                "be positive, and `dtmin` the smaller one. Leave out what is not needed."
            )

    def wrap(self, direction: Any) -> "PredictiveController":
        """Nothing here depends on the direction of time."""
        del direction
        return self

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: PyTree,
        dt0: Any,
        args: Any,
        func: Callable,
        error_order: Any,
    ) -> tuple[Any, ControllerMemory]:
        """The first step, by the usual rule where `dt0` is not given."""
        check_state(y0)
        check_tolerances("PredictiveController", self.rtol, self.atol, state=y0)
        dt0, dtmin, dtmax = lax.stop_gradient((dt0, self.dtmin, self.dtmax))
        first = diffrax.PIDController(
            self.rtol, self.atol, norm=self.norm, dtmin=dtmin, dtmax=dtmax
        )
        end, _ = first.init(terms, t0, t1, y0, dt0, args, func, error_order)
        dtype = real_dtype(y0)
        no = jnp.asarray(False)
        return end, ControllerMemory(jnp.asarray(end - t0), jnp.ones((), dtype), no, no)

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: PyTree,
        y1_candidate: PyTree,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: ControllerMemory,
    ) -> tuple[Any, Any, Any, bool, ControllerMemory, diffrax.RESULTS]:
        """Accepts a scaled error below one, and sizes the next step."""
        del args
        if y_error is None:
            refuse_no_estimate("PredictiveController")
        memory, h = controller_state, t1 - t0
        report = y_error.restored() if isinstance(y_error, StepReport) else None
        error = _scaled(self, y0, y1_candidate, y_error if report is None else report.error)
        accept = error < 1
        safety = jnp.asarray(0.9, error.dtype)
        failed = ~jnp.isfinite(error)
        if report is not None:
            counts = (report.most_iterations, report.work.newton_iterations)
            most, i = (x.astype(error.dtype) for x in counts)
            safety = safety * jnp.minimum(1, (2 * most + 1) / (2 * most + i))

        growth = self._growth(error, error_order, safety, memory, h)
        growth = jnp.where(failed, 0.5, growth)
        h_new = h * growth.astype(jnp.result_type(h))

        result: Any = diffrax.RESULTS.successful
        if self.dtmax is not None:
            h_new = jnp.minimum(h_new, self.dtmax)
        next_t0 = jnp.where(accept, t1, t0)
        dtmin = smallest_step(next_t0)
        dtmin = dtmin if self.dtmin is None else jnp.maximum(self.dtmin, dtmin)
        # A step is the difference of two times, which carries their rounding. One that is not a
        # number ends the solve as well.
        rounding = jnp.finfo(jnp.result_type(t1)).eps * jnp.maximum(jnp.abs(t0), jnp.abs(t1))
        too_small = ~accept & (~(h > dtmin + rounding) | jnp.isnan(h_new))
        result = diffrax.RESULTS.where(too_small, diffrax.RESULTS.dt_min_reached, result)
        h_new = jnp.maximum(h_new, dtmin)
        new_memory = ControllerMemory(
            h=jnp.where(accept, h, memory.h),
            error=jnp.where(accept, jnp.maximum(error, 1e-2), memory.error),
            any_accepted=memory.any_accepted | accept,
            rejected=~accept,
        )
        # Sizes of steps are held fixed: with `growth` alone a derivative by what they depend on would
        # be a part of one.
        h_new, new_memory = lax.stop_gradient((h_new, new_memory))
        return accept, next_t0, next_t0 + h_new, False, new_memory, result

    def _growth(
        self, error: Array, error_order: Any, safety: Any, memory: ControllerMemory, h: Any
    ) -> Array:
        exponent = 1 / error_order
        e = jnp.maximum(error, jnp.finfo(error.dtype).eps)
        accept, shrink = error < 1, e**exponent / safety
        predicted = (memory.h / h).astype(e.dtype) * (e**2 / memory.error) ** exponent / 0.9
        shrink = jnp.where(accept & memory.any_accepted, jnp.maximum(shrink, predicted), shrink)
        growth = 1 / jnp.clip(shrink, 1 / 8, 5)
        largest = jnp.where(memory.rejected, 1, 8)
        accepted_growth = jnp.minimum(growth, largest)
        keeps = (accepted_growth >= 1) & (accepted_growth <= self.dead_band)
        accepted_growth = jnp.where(keeps, 1, accepted_growth)
        rejected_growth = jnp.where(memory.any_accepted, jnp.minimum(growth, 0.9), 0.1)
        return jnp.where(accept, accepted_growth, rejected_growth)


def _scaled(
    controller: PredictiveController, y0: PyTree, y1: PyTree, error: PyTree
) -> Float[Array, ""]:
    def scale(y0: Array, y1: Array, error: Any) -> Array:
        y1 = jnp.where(jnp.any(jnp.isnan(y1)), y0, y1)
        size = jnp.maximum(jnp.abs(y0), jnp.abs(y1))
        return scaled_error(error, controller.atol + size * controller.rtol)

    return lax.stop_gradient(jnp.asarray(controller.norm(jax.tree.map(scale, y0, y1, error))))
