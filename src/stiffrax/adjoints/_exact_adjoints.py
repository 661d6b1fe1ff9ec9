"""The gradient of the steps that were taken: back over them in parallel, or carried along."""

import math
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from ..diffrax_loop import StepRecord, counted_loop, saved_values, saved_ys, solve_loop, succeeded
from ..solvers import DENSE_DEGREE
from ._backward_sweep import RECURRENCES, StepMaps, backward_sweep, sweep_step_maps
from ._differentiable_solve import AbstractRecordedAdjoint, AbstractSolveAdjoint, SolveInputs
from ._refusals import check_choice, refuse_gradient
from ._saved_values import SavedCotangents, step_cotangents
from ._step_equations import StepEquations

# Up to this size a batch of inverses needs no library factorization (`stiffrax.stages`).
_LARGEST_PROPAGATOR = 64


@final
class DiscreteAdjoint(AbstractRecordedAdjoint):
    r"""Exact reverse-mode gradients of the steps that a stiffrax solver took, sizes held fixed.

    Step `k` solves `R(Z; y_k) = 0` for its stage increments `Z` (see [`stiffrax.RadauIIA5`][]), and
    $y_{k+1} = y_k + \sum_i d_i Z_i$. With `J_i` the Jacobian of the vector field at stage `i`,

    $$\sum_j (A^{-1})_{ji} V_j - h J_i^T V_i = d_i \lambda_{k+1} + \bar Z_i, \qquad
      \lambda_k = \lambda_{k+1} + \sum_i h J_i^T V_i, \qquad
      \bar\theta = \sum_k \sum_i h (\partial f_i / \partial \theta)^T V_i,$$

    where $\bar Z$ comes from values saved within the step. No iteration is differentiated and none
    is run. All Jacobians, all solves for $\lambda_{k+1} = e_1, ..., e_n$ (which make the step an
    affine map) and the parameter sum are batches over the accepted steps; only one `n x n`
    matrix-vector product a step remains in sequence.

    Gradients reach `y0`, `args` and whatever the vector field and `SaveAt(fn=...)` close over; with
    every `SaveAt` and `SubSaveAt` but dense output; under `jit` and `vmap`. Forward over reverse
    works (`jax.hessian`, Hessian-vector products), forward mode alone does not.

    **Arguments:**

    - `memory`: `"full"` keeps the stages of all steps, `max_steps * (s + 1) * n` numbers. `"steps"`
      keeps the starts of steps only, `max_steps * n`, and solves for the stages once more, to
      rounding: its gradients differ from those of `"full"` by the tolerance of the forward
      iteration, and are NaN if a step cannot be solved again.
    - `recurrence`: `"scan"` takes the steps in turn as affine maps; `"associative"` composes the
      maps in a logarithmic number of rounds, for accelerators; `"solve"` solves one system a step
      in turn. By default `"scan"` up to n = 64, and `"solve"` above.
    - `chunk`: steps in a batch. The work is that of the accepted steps, rounded up to whole chunks,
      not of `max_steps`; memory grows by `chunk * m * n * (m + 1) * n`.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`. Other lanes of a batch are as without it.

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
        check_choice(self, "memory", "full", "steps")
        check_choice(self, "recurrence", None, *RECURRENCES)
        check_choice(self, "failed", "zero", "nan")
        if not isinstance(self.chunk, int) or self.chunk < 1:
            raise ValueError(
                f"`DiscreteAdjoint(chunk={self.chunk!r})` was given; it needs a positive number of "
                "steps. Write `chunk=32`."
            )

    @property
    def keep_stages(self) -> bool:
        """Whether the stages of all steps are kept."""
        return self.memory == "full"

    def pull(
        self, equations: StepEquations | StepMaps, record: StepRecord, saved: list[SavedCotangents]
    ) -> tuple[Float[Array, " n"], PyTree]:
        """One sweep back over the steps."""
        if isinstance(equations, StepMaps):
            cotangents = step_cotangents(record, saved, DENSE_DEGREE)
            return sweep_step_maps(equations, record, cotangents, chunk_size=self.chunk)
        num_powers = equations.solver.tableau.polynomial.shape[1]
        cotangents = step_cotangents(record, saved, num_powers)
        small = cotangents.nodes.shape[1] <= _LARGEST_PROPAGATOR
        return backward_sweep(
            equations,
            record,
            cotangents,
            chunk_size=self.chunk,
            recurrence=self.recurrence or ("scan" if small else "solve"),
        )


@final
class ForwardSensitivity(AbstractSolveAdjoint):
    r"""Exact gradients for few parameters: their sensitivities are solved for beside the state.

    With `J_i` the Jacobian of the vector field at stage `i` and $S = \partial y / \partial \theta$,

    $$\sum_j (A^{-1})_{ij} \dot Z_j - h J_i \dot Z_i
      = h J_i S_k + h \partial f_i / \partial \theta, \qquad
      S_{k+1} = S_k + \sum_i d_i \dot Z_i,$$

    one linear system a step, eliminated once for all columns of `S`; step sizes are held fixed.
    Nothing is recorded: memory does not grow with the number of steps, and `max_steps=None` is
    allowed. Use it inside `jax.grad` where parameters (all numbers asked for, `y0` among them) are
    few; [`stiffrax.DiscreteAdjoint`][] gives the same gradient at a cost that hardly depends on
    their number. For pure forward mode, `jax.jvp`, use `diffrax.ForwardMode`.

    **Arguments:**

    - `chunk`: the most sensitivities carried at a time; every further chunk repeats the solve. By
      default all.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`. Other lanes of a batch are as without it.

    **Raises:** `ValueError` while tracing, naming what to use instead: for another solver than
    those of stiffrax, for terms other than `diffrax.ODETerm`, and under a gradient for events,
    `SaveAt(dense=True)`, or with respect to times and tolerances.

    Cost: a step has `m` Jacobians and one elimination of an `m n x m n` system more than without
    gradient, and a parameter one product with it and `m` forward sweeps of the vector field.
    Memory: the derivatives of all saved values, and `chunk` sensitivities.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.ForwardSensitivity(), jnp.array(1.0)
    ...     return diffrax.diffeqsolve(
    ...         decay, srx.RadauIIA5(), 0.0, 1.0, 0.1, y0, adjoint=adjoint
    ...     ).ys[-1]
    >>> print(f"{jax.grad(end)(2.0):.5f}")  # -exp(-2)
    -0.13534

    ```
    """

    chunk: int | None = eqx.field(static=True, default=None)
    failed: str = eqx.field(static=True, default="zero")

    def __check_init__(self):
        check_choice(self, "failed", "zero", "nan")
        if self.chunk is not None and (not isinstance(self.chunk, int) or self.chunk < 1):
            raise ValueError(
                f"`ForwardSensitivity(chunk={self.chunk!r})` was given; it needs a positive number "
                "of parameters. Write `chunk=8`, or leave it out to carry all at once."
            )

    def differentiable_solve(self, inputs: SolveInputs, **kwargs: Any) -> Any:
        """Forward with the sensitivities, backward by one product with them."""
        return _solve(inputs, adjoint=self, **kwargs)


def _run(inputs: SolveInputs, init_state: Any, **kwargs: Any) -> Any:
    return counted_loop(solve_loop)(**inputs.loop_arguments(init_state, inputs.fns), **kwargs)


def _saved(final_state: Any) -> list[PyTree]:
    return eqx.filter(saved_ys(final_state), eqx.is_inexact_array)


@eqx.filter_custom_vjp
def _solve(inputs: SolveInputs, *, adjoint: ForwardSensitivity, **kwargs: Any) -> Any:
    del adjoint
    return _run(inputs, **kwargs)


@_solve.def_fwd
def _(perturbed: SolveInputs, inputs: SolveInputs, *, adjoint: Any, **kwargs: Any) -> Any:
    saveat, event = inputs.frozen["saveat"], kwargs["event"]
    # Nothing is recorded, so that the number of steps needs no bound.
    refuse_gradient(type(adjoint).__name__, saveat, 1, event, perturbed.frozen)
    wanted, fixed = eqx.partition(inputs, perturbed)
    parameters, restore = ravel_pytree(wanted)
    static = []

    def values(parameters: Array) -> tuple[list[PyTree], Any]:
        out = _run(eqx.combine(restore(parameters), fixed), **kwargs)
        arrays, others = eqx.partition(out, eqx.is_array)
        static.append(others)
        return _saved(out[0]), arrays

    def sensitivities(directions: Float[Array, "c p"]) -> tuple[Any, list[PyTree]]:
        def one(direction: Array) -> Any:
            _, change, arrays = jax.jvp(values, (parameters,), (direction,), has_aux=True)
            return arrays, change

        # The solve itself is the same in every direction: it runs once.
        return jax.vmap(one, out_axes=(None, 0))(directions)

    arrays, jacobian = _by_chunks(sensitivities, parameters, adjoint.chunk)
    out = eqx.combine(arrays, static[-1])
    final_state, _ = out
    filled = [values.filled for values in saved_values(final_state)]
    return out, (jacobian, filled, succeeded(final_state))


def _by_chunks(sensitivities: Any, parameters: Array, chunk: int | None) -> tuple[Any, Any]:
    """The solve, and the derivatives of its saved values along every parameter."""
    size = parameters.size
    chunk = min(size if chunk is None else chunk, size)
    count = math.ceil(size / chunk)
    directions = jnp.eye(count * chunk, size, dtype=parameters.dtype)
    if count == 1:
        return sensitivities(directions)
    arrays, jacobian = lax.map(sensitivities, directions.reshape(count, chunk, size))
    jacobian = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], jacobian)
    return jax.tree.map(lambda x: x[0], arrays), jacobian


@_solve.def_bwd
def _(
    residuals: Any,
    cotangents: Any,
    perturbed: SolveInputs,
    inputs: SolveInputs,
    *,
    adjoint: ForwardSensitivity,
    **kwargs: Any,
) -> SolveInputs:
    del kwargs
    jacobian, filled, ok = residuals
    final_bar, _ = cotangents
    parameters, restore = ravel_pytree(eqx.filter(inputs, perturbed))
    gradient = jnp.zeros_like(parameters)
    for values, bar, used in zip(jacobian, saved_ys(final_bar), filled, strict=True):
        for J, y_bar in zip(_leaves(values), _leaves(bar), strict=True):
            if J is not None and y_bar is not None:
                use = used.reshape(-1, *(1,) * (y_bar.ndim - 1))
                # Slots never filled hold infinities.
                J, y_bar = jnp.where(use, J, 0), jnp.where(use, y_bar, 0)
                gradient = gradient + jnp.tensordot(J, y_bar, axes=y_bar.ndim)
    in_failure = math.nan if adjoint.failed == "nan" else 0.0
    return restore(jnp.where(ok, gradient, in_failure))


def _leaves(tree: PyTree) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda x: x is None)
