"""Exact gradients by sensitivities that are carried forward with the state."""

import math
from typing import Any, final

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from .._arguments import check_choice, check_count, plain_integer
from .._flat_state import flatten_state
from .._options import Failed
from .._trees import along_rows, is_none
from ..diffrax_loop import counted_loop, saved_values, saved_ys, solve_loop, succeeded
from ._differentiable_solve import AbstractSolveAdjoint
from ._refusals import TWICE, refuse_derivative
from ._solve_inputs import SolveInputs


@final
class ForwardSensitivity(AbstractSolveAdjoint):
    r"""Exact gradients for few parameters, by forward sensitivities solved with the state.

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
      `"nan"`. Other lanes of a batch are not affected.

    **Raises:** `ValueError` while tracing, naming what to use instead: for another solver than
    those of stiffrax, for terms other than `diffrax.ODETerm`, and under a gradient for events,
    `SaveAt(dense=True)`, or with respect to times and tolerances.

    Cost: a step has `m` Jacobians and one elimination of an `m n x m n` system more than without
    gradient, and a parameter one product with it and `m` forward sweeps of the vector field.
    Memory: the derivatives of all saved values, and `chunk` sensitivities.

    ??? cite "Reference"
        Kim and others, *Stiff neural ordinary differential equations* (2021).

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

    chunk: int | None = eqx.field(converter=plain_integer, static=True, default=None)
    failed: Failed = eqx.field(static=True, default="zero")

    def __check_init__(self):
        check_choice(type(self).__name__, "failed", self.failed, "zero", "nan")
        if self.chunk is not None:
            check_count("chunk", self.chunk, write="chunk=8")

    def differentiable_solve(self, inputs: SolveInputs, **kwargs: Any) -> Any:
        """Forward with the sensitivities, backward by one product with them."""
        return _solve(inputs, adjoint=self, **kwargs)


def _run(inputs: SolveInputs, init_state: Any, **kwargs: Any) -> Any:
    return counted_loop(solve_loop)(**inputs.loop_arguments(init_state, inputs.fns), **kwargs)


@eqx.filter_custom_vjp
def _solve(inputs: SolveInputs, *, adjoint: ForwardSensitivity, **kwargs: Any) -> Any:
    del adjoint
    return _run(inputs, **kwargs)


@_solve.def_fwd
def _(perturbed: SolveInputs, inputs: SolveInputs, *, adjoint: Any, **kwargs: Any) -> Any:
    saveat, event, refused = inputs.saveat, inputs.event, perturbed.times | perturbed.frozen
    # Nothing is recorded, so that the number of steps needs no bound.
    refuse_derivative(type(adjoint).__name__, saveat, 1, event, refused)
    wanted, fixed = eqx.partition(inputs, perturbed)
    parameters, restore = flatten_state(wanted)
    static = []

    def values(parameters: Array) -> tuple[list[PyTree], Any]:
        out = _run(eqx.combine(restore(parameters), fixed), **kwargs)
        arrays, others = eqx.partition(out, eqx.is_array)
        static.append(others)
        return eqx.filter(saved_ys(out[0]), eqx.is_inexact_array), arrays

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
    size = parameters.size
    # Of arrays that hold no number there is one empty direction.
    chunk = max(1, min(size if chunk is None else chunk, size))
    count = max(1, math.ceil(size / chunk))
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
    parameters, restore = flatten_state(eqx.filter(inputs, perturbed))
    gradient = jnp.zeros_like(parameters)
    for values, bar, used in zip(jacobian, saved_ys(final_bar), filled, strict=True):
        for J, y_bar in zip(_leaves(values), _leaves(bar), strict=True):
            if J is not None and y_bar is not None:
                use = along_rows(used, y_bar)
                # Slots never filled hold infinities.
                J, y_bar = jnp.where(use, J, 0), jnp.where(use, y_bar, 0)
                pulled = jnp.tensordot(J, y_bar, axes=y_bar.ndim).real
                # The state may have another precision than what is differentiated by.
                gradient = gradient + pulled.astype(gradient.dtype)
    in_failure = math.nan if adjoint.failed == "nan" else 0.0
    message = TWICE.format(adjoint=type(adjoint).__name__)
    gradient = eqxi.nondifferentiable_backward(gradient, msg=message, symbolic=True)
    # JAX's gradient by a complex number is the conjugate of the one by its parts.
    return jax.tree.map(jnp.conj, restore(jnp.where(ok, gradient, in_failure)))


def _leaves(tree: PyTree) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=is_none)
