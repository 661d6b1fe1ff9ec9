"""The gradient of the steps that were taken, parallel in time."""

import math
from typing import Any, final

import diffrax
import equinox as eqx
from jaxtyping import PyTree

from .._diffrax import nondiff_solver_controller_state, only_transpose_ys
from ..stages import stop_gradient
from ._closed_terms import close_terms
from ._differentiable_solve import GradientRule, SolveInputs, differentiable_solve
from ._recurrence import RECURRENCES
from ._refusals import refuse_solve
from ._saved_values import split_fns


@final
class DiscreteAdjoint(diffrax.AbstractAdjoint):
    r"""Exact reverse-mode gradients of the steps that a stiffrax solver took, sizes held fixed.

    Step `k` solves `R(Z; y_k) = 0` for its stage increments `Z` (see [`stiffrax.RadauIIA5`][]), and
    `y_{k+1} = y_k + \sum_i d_i Z_i`. With `J_i` the Jacobian of the vector field at stage `i`,

    $$\sum_j (A^{-1})_{ji} V_j - h J_i^T V_i = d_i \lambda_{k+1} + \bar Z_i, \qquad
      \lambda_k = \lambda_{k+1} + \sum_i h J_i^T V_i, \qquad
      \bar\theta = \sum_k \sum_i h (\partial f_i / \partial \theta)^T V_i,$$

    where `\bar Z` comes from values saved within the step. No iteration is differentiated and none
    is run. All Jacobians, all solves for `\lambda_{k+1} = e_1, ..., e_n` (which make the step an
    affine map) and the parameter sum are batches over the accepted steps; one product of an
    `n x n` matrix and a vector a step is all that is left in sequence.

    Gradients reach `y0`, `args`, whatever the vector field closes over, and likewise for
    `SaveAt(fn=...)`; with every `SaveAt` and `SubSaveAt` but dense output; under `jit` and `vmap`.
    Forward over reverse works (`jax.hessian`, Hessian-vector products); forward mode alone does
    not, as in every reverse-mode rule of JAX.

    **Arguments:**

    - `memory`: `"full"` keeps the stages of all steps, `max_steps * (s + 1) * n` numbers. `"steps"`
      keeps the starts of steps only, `max_steps * n`, and solves for the stages once more, to
      rounding: its gradients differ from those of `"full"` by the tolerance of the forward
      iteration, and are NaN if a step cannot be solved again.
    - `recurrence`: `"scan"` takes the steps in turn as affine maps; `"associative"` composes the
      maps in a logarithmic number of rounds, for accelerators; `"solve"` solves one system a step
      in turn. By default `"scan"` up to n = 64, and `"solve"` above.
    - `chunk`: how many steps form a batch. The work is that of the accepted steps, rounded up to
      whole chunks, and never that of `max_steps`; memory grows by `chunk * m * n * (m + 1) * n`.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`. Other lanes of a batch are exactly what they would be without it.

    **Raises:** `ValueError` while tracing, naming what to use instead: for another solver than
    those of stiffrax, for terms other than `diffrax.ODETerm`, and under a gradient for events,
    `SaveAt(dense=True)`, `max_steps=None`, or with respect to times and tolerances.

    Cost: `m` Jacobians and one elimination of the `m n x m n` system a step (about the time of the
    forward solve), and one reverse sweep of the vector field at every stage.

    ??? cite "Reference"
        Sanz-Serna, *Symplectic Runge-Kutta schemes for adjoint equations, automatic
        differentiation, optimal control, and more*, SIAM Review 58 (2016).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint = srx.DiscreteAdjoint()
    ...     y0 = jnp.array(1.0)
    ...     return diffrax.diffeqsolve(
    ...         decay, srx.RadauIIA5(), 0.0, 1.0, 0.1, y0, adjoint=adjoint
    ...     ).ys[-1]
    >>> print(f"{jax.grad(end)(2.0):.5f}")  # -exp(-2)
    -0.13534

    ```
    """

    memory: str = eqx.field(static=True, default="full")
    recurrence: str | None = eqx.field(static=True, default=None)
    chunk: int = eqx.field(static=True, default=32)
    failed: str = eqx.field(static=True, default="zero")

    def __check_init__(self):
        allowed = {
            "memory": ("full", "steps"),
            "recurrence": (None, *RECURRENCES),
            "failed": ("zero", "nan"),
        }
        for name, values in allowed.items():
            given = getattr(self, name)
            if given not in values:
                choices = ", ".join(repr(value) for value in values)
                raise ValueError(
                    f"`DiscreteAdjoint({name}={given!r})` was given; write one of {choices}."
                )
        if not isinstance(self.chunk, int) or self.chunk < 1:
            raise ValueError(
                f"`DiscreteAdjoint(chunk={self.chunk!r})` was given; it needs a positive number of "
                "steps. Write `chunk=32`."
            )

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
        refuse_solve(solver, terms)
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
            rule=GradientRule(
                keep_stages=self.memory == "full",
                recurrence=self.recurrence,
                chunk=self.chunk,
                in_failure=math.nan if self.failed == "nan" else 0.0,
            ),
            event=event,
            max_steps=max_steps,
            progress_meter=progress_meter,
        )
        return only_transpose_ys(final_state), aux_stats
