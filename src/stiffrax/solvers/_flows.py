"""Flows: the state an interval later, and tangents that are carried along."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._trees import is_none
from ._segments import predict_segment

# `flow(t, y)`: the state one interval later; not finite where there is none.
Flow = Callable[[Array, Array], Array]


@final
class FixedStepFlow(eqx.Module):
    """`substeps` equal steps; derivatives of all orders and modes go through it.

    A module, not a closure: two of the same solve are one compiled program.
    """

    field: Callable[..., Any]
    solver: diffrax.AbstractSolver
    interval: Any
    substeps: int = eqx.field(static=True)
    args: Any = None

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        solver = self.solver
        if getattr(solver, "scan_kind", "bounded") is None:
            # The stages of explicit methods are a loop that by default has a reverse derivative
            # only.
            solver = eqx.tree_at(lambda s: s.scan_kind, solver, "bounded", is_leaf=is_none)
        end = t + jnp.asarray(self.interval, t.dtype)
        return predict_segment(solver, self.field, self.args, self.substeps, t, end, y, y)


@final
class AdaptiveFlow(eqx.Module):
    """As many steps as the controller wants.

    Tangents are solved with the state, so that steps are short enough for them too: a state at rest
    lets a method take any step, and a tangent would decay as the method has it.
    """

    field: Callable[..., Any]
    solver: diffrax.AbstractSolver
    interval: float = eqx.field(static=True)
    controller: diffrax.AbstractStepSizeController
    max_steps: int = eqx.field(static=True)
    args: Any = None

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return self._end(self.field, t, y)

    def push(self, t: Array, y: Array, tangents: Array) -> tuple[Array, Array]:
        """The state and the tangents one interval later."""

        def rates(t: Any, both: tuple[Array, Array], args: Any) -> Any:
            rate, pushed = _pushed(lambda y: self.field(t, y, args), both[0], both[1].T)
            return rate, pushed.T

        # The last axis is that of the state, as in tolerances of a state each.
        y, tangents = self._end(rates, t, (y, tangents.T))
        return y, tangents.T

    def _end(self, field: Callable[..., Any], t: Array, y: Any) -> Any:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            self.solver,
            t,
            t + jnp.asarray(self.interval, t.dtype),
            None,
            y,
            self.args,
            stepsize_controller=self.controller,
            adjoint=diffrax.ForwardMode(),
            max_steps=self.max_steps,
            throw=False,
        )
        good = solution.result == diffrax.RESULTS.successful
        return jax.tree.map(lambda x: jnp.where(good, x[-1], jnp.nan), solution.ys)


@final
class MapFlow(eqx.Module):
    """One iteration of a map."""

    field: Callable[..., Any]
    args: Any = None

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.asarray(self.field(t, y, self.args))


def push_forward(
    flow: Flow, t: Array, y: Float[Array, " n"], tangents: Float[Array, "n k"]
) -> tuple[Float[Array, " n"], Float[Array, "n k"]]:
    """The state one interval later, and the differences that the tangents have become."""
    if isinstance(flow, AdaptiveFlow):
        return flow.push(t, y, tangents)
    return _pushed(lambda y: flow(t, y), y, tangents)


def _pushed(function: Callable[[Array], Array], y: Array, tangents: Array) -> Any:
    def push(tangent: Array) -> tuple[Array, Array]:
        return jax.jvp(function, (y,), (tangent,))

    # The value does not depend on the tangent, so that the map over tangents finds it once.
    return jax.vmap(push, in_axes=1, out_axes=(None, 1))(tangents)


def orthonormalize(
    columns: Float[Array, "n k"],
) -> tuple[Float[Array, "n k"], Float[Array, " k"]]:
    """Orthonormal columns of the same spans, and the length of what each adds: `Q`, `diag(R)`.

    Gram-Schmidt, each column twice. Not `jnp.linalg.qr`: under `vmap` that is a batched LAPACK
    call, and two of them side by side can wait for each other on the CPU.
    """
    n, k = columns.shape

    def add_column(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, lengths = carry
        column = columns[:, j]
        for _ in range(2):
            column = column - jnp.sum(basis * (column @ basis)[None], axis=1)
        length = jnp.sqrt(jnp.sum(column**2))
        # A direction that got lost is zero, and leaves the others what they are.
        unit = column / jnp.maximum(length, jnp.finfo(column.dtype).tiny)
        return basis.at[:, j].set(unit), lengths.at[j].set(length)

    carry = jnp.zeros((n, k), columns.dtype), jnp.zeros(k, columns.dtype)
    if k <= 4:
        for j in range(k):
            carry = add_column(jnp.asarray(j), carry)
        return carry
    return lax.fori_loop(0, k, add_column, carry)


def stretching_rates(
    flow: Flow,
    t0: Array,
    y0: Float[Array, " n"],
    frame: Float[Array, "n k"],
    interval: float,
    count: int,
) -> tuple[Float[Array, " n"], Float[Array, "n k"], Float[Array, "count k"]]:
    """State and frame after `count` intervals, and how fast each direction grew in each.

    The frame is made orthonormal after each interval; the rate is the logarithm of the length of
    what a column adds to the span of those before it, divided by the time that was solved: the clock
    has the precision of the state, and in it `t + interval` is not `interval` later. A map solves no
    time.
    """
    one = jnp.asarray(interval, t0.dtype)

    def advance(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
        y, frame = carry
        t = t0 + i.astype(t0.dtype) * one
        y, frame = push_forward(flow, t, y, frame)
        frame, lengths = orthonormalize(frame)
        solved = one if isinstance(flow, MapFlow) else (t + one) - t
        return (y, frame), jnp.log(jnp.maximum(lengths, jnp.finfo(y.dtype).tiny)) / solved

    (y, frame), rates = lax.scan(advance, (y0, frame), jnp.arange(count))
    return y, frame, rates
