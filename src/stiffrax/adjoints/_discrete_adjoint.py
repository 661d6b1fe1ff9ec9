"""The derivative of the steps that were taken."""

from typing import Any, final

import diffrax
import equinox as eqx

from .._arguments import check_choice, check_count, plain_integer
from .._flat_state import flatten_state
from .._options import Failed, Memory, Recurrence
from ._affine_steps import RECURRENCES
from ._differentiable_solve import AbstractRecordedAdjoint, Recorded
from ._refusals import records_steps
from ._sweeps import SavedTangents, SolveTangents, Sweep

# Steps in a batch up to ten states, and above. (Timed on one core, value and gradient: 16 takes as long
# as 32 at three states, less where that leaves rows over; 8 takes 0.75 of the time of 32 at 40 states,
# whose matrices then stay in the cache.)
_CHUNK, _CHUNK_OF_MANY_STATES, _FEW_STATES = 16, 8, 10


@final
class DiscreteAdjoint(AbstractRecordedAdjoint):
    r"""Exact derivatives of the steps that a stiffrax solver took, sizes held fixed, in every mode.

    Step `k` solves `R(Z; y_k) = 0` for its stage increments `Z` (see [`stiffrax.RadauIIA5`][]), and
    $y_{k+1} = y_k + \sum_i d_i Z_i$. With `J_i` the Jacobian of the vector field at stage `i`,

    $$\sum_j (A^{-1})_{ji} V_j - h J_i^T V_i = d_i \lambda_{k+1} + \bar Z_i, \qquad
      \lambda_k = \lambda_{k+1} + \sum_i h J_i^T V_i, \qquad
      \bar\theta = \sum_k \sum_i h (\partial f_i / \partial \theta)^T V_i,$$

    where $\bar Z$ comes from values saved within the step. No Newton iteration is differentiated,
    and with `memory="full"` none is run in the backward pass. All Jacobians, all solves for
    $\lambda_{k+1} = e_1, ..., e_n$ (which make the step an affine map) and the parameter sum are
    batches over the accepted steps; only one `n x n` matrix-vector product a step remains in
    sequence.

    Forward mode pushes tangents ahead by the same equations, not transposed; forward over either
    gives Hessians. Columns of a Jacobian share the linearized steps.

    Derivatives reach `y0`, `args`, whatever the vector field and `SaveAt(fn=...)` close over, and
    `t0`, `t1` and `SaveAt(ts=...)`: the ends of steps follow `t0` and `t1`,
    and what is saved between them moves along the polynomial of its step; the time of an event
    follows by the implicit function theorem.

    **Arguments:**

    - `memory`: `"full"` keeps the stages of all steps, `max_steps * (s + 1) * n` numbers. `"steps"`
      keeps the starts of steps only, `max_steps * n`, and solves for the stages once more, to
      rounding: its gradients differ from those of `"full"` by the tolerance of the forward
      iteration, and are NaN if a step cannot be solved again. Where times move, an event has a root
      finder or `dense=True`, all stages are kept; of Rosenbrock and trained methods otherwise none.
    - `recurrence`: `"scan"` takes the steps in turn as affine maps; `"associative"` composes the
      maps in a logarithmic number of rounds, for accelerators; `"solve"` solves one system a step
      in turn. By default `"scan"` up to n = 64 (back over Rosenbrock steps, n = 3), and `"solve"`
      above and where the solver has a `structure` with a pattern: the backward pass is sparse then,
      too.
    - `chunk`: steps in a batch; by default 16 up to n = 10, 8 above. The work is that of the
      accepted steps, rounded up to whole chunks, not of `max_steps`; memory grows by
      `chunk * m * n * (m + 1) * n`, for Rosenbrock methods above three states by `chunk * (n + s) * n`
      and what a sweep of the vector field over their stages holds.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`. Other lanes of a batch are not affected.

    **Raises:** `ValueError` while tracing, naming what to use instead: for another solver than
    those of stiffrax, for terms other than `diffrax.ODETerm`, and under a derivative for
    `max_steps=None`, with respect to `dt0` and tolerances, and in reverse mode for the second time.

    Cost: `m` Jacobians and one elimination of the `m n x m n` system a step (about the time of the
    forward solve), and two reverse sweeps of the vector field at every stage: the second for what the
    rounding of Jacobians costs the first.

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

    memory: Memory = eqx.field(static=True, default="full")
    recurrence: Recurrence | None = eqx.field(static=True, default=None)
    chunk: int | None = eqx.field(converter=plain_integer, static=True, default=None)
    failed: Failed = eqx.field(static=True, default="zero")

    def __check_init__(self):
        name = type(self).__name__
        check_choice(name, "memory", self.memory, "full", "steps")
        check_choice(name, "recurrence", self.recurrence, None, *RECURRENCES)
        check_choice(name, "failed", self.failed, "zero", "nan")
        if self.chunk is not None:
            check_count("chunk", self.chunk, write="chunk=16")

    @property
    def keep_stages(self) -> bool:
        """Whether the stages of all steps are kept."""
        return self.memory == "full"

    @property
    def moves_times(self) -> bool:
        """Steps follow the times that they are between."""
        return True

    def push(self, solved: Recorded, tangents: SolveTangents) -> SavedTangents:
        """One sweep ahead over the steps."""
        return self._sweep(solved, back=False).ahead(tangents)

    def pull(self, solved: Recorded, cotangents: SavedTangents, *, times: bool) -> SolveTangents:
        """One sweep back over the steps."""
        return self._sweep(solved, back=True).back(cotangents, times=times)

    def _sweep(self, solved: Recorded, *, back: bool) -> Sweep:
        y0, _ = flatten_state(solved.steps.state)
        dense = y0.size <= solved.steps.largest_map(back=back) and not solved.steps.is_sparse
        recurrence = self.recurrence or ("scan" if dense else "solve")
        chunk = self.chunk or (_CHUNK if y0.size <= _FEW_STATES else _CHUNK_OF_MANY_STATES)
        return Sweep(solved.steps, solved.record, solved.places, solved.dense, chunk, recurrence)


def default_adjoint(solver: Any) -> diffrax.AbstractAdjoint:
    """That of losses: exact for the steps of a method for stiff problems, diffrax's for others."""
    return DiscreteAdjoint() if records_steps(solver) else diffrax.RecursiveCheckpointAdjoint()
