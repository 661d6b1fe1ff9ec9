"""One step over each of many segments, and tangents carried along."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from .._arguments import check_count
from ..stages import StageSystem, flat_field, weighted_sum
from ._implicit_runge_kutta import AbstractImplicitRungeKutta


def segment_predictions(
    solver: diffrax.AbstractSolver,
    model: Any,
    ts: Float[ArrayLike, "runs times"],
    ys: Float[ArrayLike, "runs times n"],
    substeps: int = 1,
    *,
    args: Any = None,
    mask: Bool[ArrayLike, "runs times"] | None = None,
) -> Float[Array, "runs times-1 n"]:
    r"""Predicts every sample from the one before it by a fixed step: the training step.

    $$\hat y_{k+1} = \Phi_h(y_k), \qquad h = t_{k+1} - t_k,$$

    with one step of `solver` (or `substeps` equal ones) a pair of consecutive samples, all pairs in
    one batch. The samples give Newton its start; the derivative is that of the exact step, not
    of the iteration.

    **Arguments:**

    - `solver`: an implicit Runge-Kutta solver of stiffrax, or any other diffrax solver.
    - `model`: the vector field, called as `model(t, y, args)`.
    - `ts`: sample times, increasing along a run; unit of the model's time.
    - `ys`: samples.
    - `substeps`: equal steps for each pair.
    - `args`: passed to the model.
    - `mask`: `True` where a sample is present. Samples are predicted from the last present one
      before; absent ones are never read.

    **Returns:** predictions of `ys[:, 1:]`. NaN where no sample comes before, or the step could not
    be solved; others keep value and derivative.

    **Raises:** `ValueError` for wrong shapes, or `substeps` that is no positive integer.

    Cost: a Jacobian, a factorization and two to four Newton iterations a step; backward, one exact
    factorization of the stage system and one reverse sweep of the model.

    ??? cite "Reference"
        Fronk and Petzold, *Training stiff neural ordinary differential equations with implicit
        single-step methods*, Chaos 34, 123140 (2024).

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> ts = jnp.array([[0.0, 0.1, 0.3]])
    >>> decay = lambda t, y, args: -y
    >>> ys = jnp.exp(-ts)[..., None]
    >>> error = srx.segment_predictions(srx.RadauIIA5(), decay, ts, ys) - ys[:, 1:]
    >>> bool(jnp.all(jnp.abs(error) < 1e-7))
    True

    ```
    """
    ts, ys, mask = _checked(ts, ys, mask, substeps)
    times = ts.shape[1]
    index = jnp.where(mask, jnp.arange(times), -1)
    last = lax.cummax(index, axis=1)[:, :-1]
    known = last >= 0
    start = jnp.where(known, last, jnp.argmax(mask, axis=1)[:, None])
    take = jax.vmap(lambda values, i: values[i])
    # An absent sample may hold anything: a present one stands in, so that no lane meets a NaN.
    first = jax.vmap(lambda values, i: values[i])(ys, jnp.argmax(mask, axis=1))
    ys = jnp.where(mask[..., None], ys, first[:, None])
    t_start, y_start = take(ts, start), take(ys, start)
    t_end = jnp.where(known, ts[:, 1:], t_start)
    y_end = jnp.where((mask[:, 1:] & known)[..., None], ys[:, 1:], y_start)

    def predict_one(ta: Array, tb: Array, ya: Array, yb: Array) -> Array:
        return predict_segment(solver, model, args, substeps, ta, tb, ya, yb)

    # One batch: the few segments that need many iterations are then few among all, not in each run.
    batch = [x.reshape(-1, *x.shape[2:]) for x in (t_start, t_end, y_start, y_end)]
    predictions = jax.vmap(predict_one)(*batch).reshape(*known.shape, -1)
    return jnp.where(known[..., None], predictions, jnp.nan)


def _checked(ts: Any, ys: Any, mask: Any, substeps: Any) -> tuple[Array, Array, Array]:
    ts, ys = jnp.asarray(ts), jnp.asarray(ys)
    if ts.ndim != 2 or ys.ndim != 3 or ys.shape[:2] != ts.shape:
        raise ValueError(
            f"`ts` of shape {ts.shape} and `ys` of shape {ys.shape} were given; they need shapes "
            "(runs, times) and (runs, times, n). For one run write `ts[None]`, `ys[None]`."
        )
    if ts.shape[1] < 2:
        raise ValueError(
            f"`ts` of shape {ts.shape} has one sample a run; a step needs two. Give longer runs."
        )
    if not jnp.issubdtype(ys.dtype, jnp.floating) or not jnp.issubdtype(ts.dtype, jnp.floating):
        raise ValueError(
            f"`ts` of dtype {ts.dtype} and `ys` of dtype {ys.dtype} were given; both must be real "
            "floating point. Convert with `jnp.asarray(ys, float)`."
        )
    check_count("substeps", substeps)
    mask = jnp.ones(ts.shape, bool) if mask is None else jnp.asarray(mask)
    if mask.shape != ts.shape or mask.dtype != bool:
        raise ValueError(
            f"`mask` of shape {mask.shape} and dtype {mask.dtype} was given; it needs the shape of "
            f"`ts`, {ts.shape}, and dtype bool: `True` where a sample is present."
        )
    return ts, ys, mask


def predict_segment(
    solver: diffrax.AbstractSolver,
    model: Any,
    args: Any,
    substeps: int,
    ta: Array,
    tb: Array,
    ya: Array,
    yb: Array,
) -> Array:
    """`substeps` equal steps from `(ta, ya)` to `tb`; `yb` only guides the iteration."""
    dt = (tb - ta) / substeps
    slope = (yb - ya) / substeps

    def step(y: Array, k: Array) -> tuple[Array, None]:
        t = ta + k * dt
        # From where the solution is to where the data say it will be.
        target = ya + (k + 1) * slope - y
        if isinstance(solver, AbstractImplicitRungeKutta):
            return _implicit_step(solver, model, args, t, dt, y, target), None
        term = diffrax.ODETerm(model)
        state = solver.init(term, t, t + dt, y, args)
        y1, _, _, _, result = solver.step(term, t, t + dt, y, args, state, made_jump=False)
        return jnp.where(result == diffrax.RESULTS.successful, y1, jnp.nan), None

    if substeps == 1:
        return step(ya, jnp.zeros((), dt.dtype))[0]
    return lax.scan(step, ya, jnp.arange(substeps, dtype=dt.dtype))[0]


def _implicit_step(
    solver: AbstractImplicitRungeKutta,
    model: Any,
    args: Any,
    t: Array,
    dt: Array,
    y: Array,
    target: Array,
) -> Array:
    tableau = solver.tableau
    field, flat, _ = flat_field(lambda t, y: model(t, y, args), t, y)
    h = dt.astype(flat.dtype)
    hf0 = h * field(t, flat) if tableau.explicit_first_stage else None
    system = StageSystem(tableau, field, t, dt, h, flat, hf0)
    guess = jnp.asarray(tableau.nodes, flat.dtype)[:, None] * target[None]
    solution = solver.solve_fixed_step(system, guess)
    y1 = flat + weighted_sum(tableau.d, solution.Z)
    return jnp.where(solution.converged, y1, jnp.nan)


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
            solver = eqx.tree_at(
                lambda s: s.scan_kind, solver, "bounded", is_leaf=lambda x: x is None
            )
        end = t + jnp.asarray(self.interval, t.dtype)
        return predict_segment(solver, self.field, self.args, self.substeps, t, end, y, y)


@final
class AdaptiveFlow(eqx.Module):
    """As many steps as the controller wants, with their sizes held fixed in forward derivatives."""

    field: Callable[..., Any]
    solver: diffrax.AbstractSolver
    interval: float = eqx.field(static=True)
    controller: diffrax.AbstractStepSizeController
    max_steps: int = eqx.field(static=True)
    args: Any = None

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(self.field),
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
        return jnp.where(good, jnp.asarray(solution.ys)[-1], jnp.nan)


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

    def push(tangent: Array) -> tuple[Array, Array]:
        return jax.jvp(lambda y: flow(t, y), (y,), (tangent,))

    # The state does not depend on the tangent, so that the map over tangents solves it once.
    ends, pushed = jax.vmap(push, in_axes=1, out_axes=(0, 1))(tangents)
    return ends[0], pushed


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
        return basis.at[:, j].set(column / length), lengths.at[j].set(length)

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
    what a column adds to the span of those before it, divided by the interval.
    """

    def advance(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
        y, frame = carry
        t = t0 + i.astype(t0.dtype) * jnp.asarray(interval, t0.dtype)
        y, frame = push_forward(flow, t, y, frame)
        frame, lengths = orthonormalize(frame)
        return (y, frame), jnp.log(lengths) / interval

    (y, frame), rates = lax.scan(advance, (y0, frame), jnp.arange(count))
    return y, frame, rates
