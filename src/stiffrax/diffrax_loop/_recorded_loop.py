"""diffrax's loop as a function of its initial state, and with a record of every accepted step."""

import functools as ft
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from .._flat_state import flatten_state
from .._trees import along_rows, is_none
from ._private_names import inner_loop, loop, outer_loop

solve_loop = ft.partial(
    loop,
    inner_while_loop=ft.partial(inner_loop, kind="lax"),
    outer_while_loop=ft.partial(outer_loop, kind="lax"),
)
"""diffrax's loop, by `while` loops that nothing differentiates."""


def start_of(init_state: Any) -> tuple[Shaped[Array, ""], PyTree[Array]]:
    """Time and state at which a loop starts."""
    return init_state.tprev, init_state.y


def starting_from(init_state: Any, y0: PyTree[Array]) -> Any:
    """The initial state of a loop with another initial value."""
    return eqx.tree_at(lambda s: s.y, init_state, y0)


def succeeded(final_state: Any) -> Bool[Array, ""]:
    """Whether a loop came to its end, or to an event."""
    result = final_state.result
    stopped = result == diffrax.RESULTS.event_occurred
    return (result == diffrax.RESULTS.successful) | stopped


class _RecordingSolver(eqx.Module):
    """A solver whose dense output also holds the ends of each step, exactly as it was given them.

    The loop's own record of times holds where the *next* step starts, and at a jump of the vector
    field that is on its other side.
    """

    solver: diffrax.AbstractSolver

    def error_order(self, terms: Any) -> Any:
        return self.solver.error_order(terms)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> Any:
        member = getattr(solver_state, "level", None)
        y1, error, dense_info, solver_state, result = self.solver.step(
            terms, t0, t1, y0, args, solver_state, made_jump
        )
        info = {"dense_info": dense_info, "span": (t0, t1), "member": member}
        return y1, error, info, solver_state, result

    @property
    def interpolation_cls(self) -> Callable[..., diffrax.AbstractLocalInterpolation]:
        def interpolation(t0: Any, t1: Any, dense_info: Any, span: Any, member: Any) -> Any:
            del span, member
            return self.solver.interpolation_cls(t0=t0, t1=t1, **dense_info)

        return interpolation


@final
class Step(eqx.Module):
    """One accepted step on the flat state; or several, along a leading axis of every leaf.

    `member`: of a solver that has several methods, which one took the step.
    """

    t0: Shaped[Array, "*k"]
    t1: Shaped[Array, "*k"]
    y0: Float[Array, "*k n"]
    y1: Float[Array, "*k n"]
    coefficients: Float[Array, "*k s n"] | None
    member: Int[Array, "*k"] | None = None


@final
class StepRecord(eqx.Module):
    """The accepted steps of a solve, in buffers of `max_steps` rows of which `count` are filled.

    `coefficients` is `None` where only the starts of steps were kept.
    """

    t0: Shaped[Array, " max_steps"]
    t1: Shaped[Array, " max_steps"]
    y0: PyTree[Array]
    y_end: PyTree[Array]
    coefficients: PyTree[Array] | None
    count: Int[Array, ""]
    member: Int[Array, " max_steps"] | None = None

    def place(
        self, ts: Shaped[Array, " slots"]
    ) -> tuple[Int[Array, " slots"], Shaped[Array, " slots"]]:
        """The step that each time is in, and the fraction of it that has passed by then."""
        index = jnp.arange(self.t1.size)
        ends = jnp.where(index < self.count, self.t1, jnp.inf)
        k = jnp.searchsorted(ends, ts, side="left")
        k = jnp.clip(k, 0, jnp.maximum(self.count - 1, 0))
        t0, t1 = self.t0[k], self.t1[k]
        # A solve of no length takes no step: all that it saves is its start.
        theta = (ts - t0) / jnp.where(t1 > t0, t1 - t0, 1)
        return k, jnp.where(self.count > 0, theta, 0)

    def take(self, index: Int[Array, " k"]) -> Step:
        """The steps at `index`; outside the record, the nearest step of it."""
        last = jnp.maximum(self.count - 1, 0)
        rows = jnp.clip(index, 0, last)
        is_last = rows == last
        after = jax.vmap(_flat)(_rows(self.y0, jnp.minimum(rows + 1, last)))
        coefficients = None
        if self.coefficients is not None:
            coefficients = jax.vmap(jax.vmap(_flat))(_rows(self.coefficients, rows))
        return Step(
            t0=self.t0[rows],
            t1=self.t1[rows],
            y0=jax.vmap(_flat)(_rows(self.y0, rows)),
            y1=jnp.where(is_last[:, None], _flat(self.y_end), after),
            coefficients=coefficients,
            member=None if self.member is None else self.member[rows],
        )


def _flat(tree: PyTree[Array]) -> Array:
    return flatten_state(tree)[0]


def _rows(tree: PyTree[Array], index: Array) -> PyTree[Array]:
    return jax.tree.map(lambda x: x[index], tree)


def recorded_loop(
    *,
    keep_stages: bool,
    terms: Any,
    args: Any,
    solver: diffrax.AbstractSolver,
    saveat: diffrax.SaveAt,
    init_state: Any,
    max_steps: int,
    **kwargs: Any,
) -> tuple[Any, Any, StepRecord]:
    """Runs the solve with buffers for its steps; returns also their record."""
    recording = _RecordingSolver(solver)
    state = init_state
    _, _, info, _, _ = eqx.filter_eval_shape(
        recording.step,
        terms,
        state.tprev,
        state.tnext,
        state.y,
        args,
        state.solver_state,
        state.made_jump,
    )
    # Zeros, not the infinities of diffrax's own buffers: rows never filled stay harmless.
    rows = jax.tree.map(lambda _: max_steps, info)
    if not keep_stages:
        # One row, overwritten by every step: within the step the polynomial is still needed.
        rows["dense_info"]["coefficients"] = jax.tree.map(
            lambda _: 1, info["dense_info"]["coefficients"]
        )
    buffers = jax.tree.map(lambda x, k: jnp.zeros((k, *x.shape), x.dtype), info, rows)
    times = jnp.full(max_steps + 1, jnp.inf, state.tprev.dtype)
    init_state = eqx.tree_at(
        lambda s: (s.dense_ts, s.dense_infos, s.dense_save_index),
        init_state,
        (times, buffers, 0),
        is_leaf=is_none,
    )
    if state.event_dense_info is not None:
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info)
        init_state = eqx.tree_at(lambda s: s.event_dense_info, init_state, nothing)
    final_state, aux_stats = solve_loop(
        terms=terms,
        args=args,
        solver=recording,
        saveat=eqx.tree_at(lambda s: s.dense, saveat, True),
        init_state=init_state,
        max_steps=max_steps,
        **kwargs,
    )
    record = _record_of(final_state, keep_stages)
    return _without_record(final_state, saveat), aux_stats, record


def _without_record(final_state: Any, saveat: diffrax.SaveAt) -> Any:
    kept = (None, None, None)
    if saveat.dense:
        count = final_state.dense_save_index

        def unfilled(x: Array) -> Array:
            return jnp.where(along_rows(jnp.arange(len(x)) < count, x), x, jnp.inf)

        infos = jax.tree.map(unfilled, final_state.dense_infos["dense_info"])
        kept = (final_state.dense_ts, infos, count)
    if final_state.event_dense_info is not None:
        plain = final_state.event_dense_info["dense_info"]
        final_state = eqx.tree_at(lambda s: s.event_dense_info, final_state, plain)
    return eqx.tree_at(lambda s: (s.dense_ts, s.dense_infos, s.dense_save_index), final_state, kept)


def _record_of(final_state: Any, keep_stages: bool) -> StepRecord:
    kept = final_state.dense_infos
    return StepRecord(
        t0=kept["span"][0],
        t1=kept["span"][1],
        y0=kept["dense_info"]["y0"],
        y_end=final_state.y,
        coefficients=kept["dense_info"]["coefficients"] if keep_stages else None,
        count=final_state.dense_save_index,
        member=kept["member"],
    )
