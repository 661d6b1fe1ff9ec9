"""Predictions from sample to sample, by fixed steps."""

import functools as ft
from collections.abc import Callable
from typing import Any, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from .._arguments import check_count, check_rates
from .._mass_models import check_no_mass
from .._trees import along_rows, passing_on, select
from ..diffrax_loop import use_stepsize_tol
from ..linear_algebra import weighted_sum
from ..stages import stage_system
from ._implicit_runge_kutta import AbstractImplicitRungeKutta
from ._methods import RadauIIA9

Out = TypeVar("Out")


def predict_lanes(
    predict: Callable[..., Out], *lanes: Any, solver: diffrax.AbstractSolver | None = None
) -> Out:
    """`jax.vmap(predict)(*lanes)`, in which a lane that is not finite passes no derivative on.

    No error of such a lane counts, but zero times its infinite derivative is NaN, and the derivative
    by parameters is a sum over lanes. In its place a healthy lane is predicted once more, whose
    derivative is then zero. Our implicit solvers need none of this: theirs is of the equations, not
    of the iteration.

    Cost: one more prediction, which finds the lanes. A pull-back that is repeated only where it was
    not finite costs less, and cannot be pulled back again.
    """
    if isinstance(solver, AbstractImplicitRungeKutta):
        return jax.vmap(predict)(*lanes)
    once = lax.stop_gradient(jax.vmap(predict)(*lanes))
    failed = _not_finite(once)
    again = predict_healthy(predict, failed, lanes, once)
    return jax.tree.map(lambda x, y: jnp.where(along_rows(failed, x), x, y), once, again)


def predict_healthy(
    predict: Callable[..., Out], failed: Bool[Array, " lanes"], lanes: Any, otherwise: Out
) -> Out:
    """`jax.vmap(predict)(*lanes)`, the first healthy lane in place of each that has failed.

    `otherwise` where all have failed, so that nothing can stand in.
    """
    healthy, none = jnp.argmin(failed), jnp.all(failed)

    chosen = jax.tree.map(lambda x: jnp.where(along_rows(failed, x), x[healthy][None], x), lanes)
    closed = eqx.filter_closure_convert(predict, *jax.tree.map(lambda x: x[0], lanes))
    # Under `vmap` both branches are taken.
    closed, chosen = passing_on((closed, chosen), ~none)
    batch = jax.vmap(lambda lane: closed(*lane))
    return lax.cond(none, lambda _: otherwise, batch, chosen)


def _not_finite(values: Any) -> Bool[Array, " lanes"]:
    leaves = [jnp.isfinite(x).reshape(len(x), -1) for x in jax.tree.leaves(values)]
    return ~jnp.all(jnp.concatenate(leaves, axis=1), axis=1)


Carry = TypeVar("Carry")
Out = TypeVar("Out")


def segment_predictions(
    model: Any,
    ts: Float[ArrayLike, "runs times"],
    ys: Float[ArrayLike, "runs times n"],
    solver: diffrax.AbstractSolver | None = None,
    substeps: int = 1,
    *,
    args: Any = None,
    mask: Bool[ArrayLike, "runs times"] | None = None,
) -> Float[Array, "runs times-1 n"]:
    r"""Predicts every sample from the one before it by a fixed step: the training step.

    $$\hat y_{k+1} = \Phi_h(y_k), \qquad h = t_{k+1} - t_k,$$

    with one step of `solver` (or `substeps` equal ones) a pair of consecutive samples, all pairs in
    one batch. The samples guide Newton; the derivative is that of the exact step.

    **Arguments:**

    - `model`: the vector field, called as `model(t, y, args)`.
    - `ts`: sample times, increasing along a run; unit of the model's time.
    - `ys`: samples.
    - `solver`: a solver of stiffrax, by default [`stiffrax.RadauIIA9`][]; or another diffrax solver,
        an implicit one with tolerances in its `root_finder`.
    - `substeps`: equal steps for each pair.
    - `args`: passed to the model.
    - `mask`: `True` where a sample is present. Samples are predicted from the last present one
      before; absent ones are never read.

    **Returns:** predictions of `ys[:, 1:]`. NaN where no sample comes before, or the step could not
    be solved; others keep value and derivative.

    **Raises:** `ValueError` for wrong shapes, also of what the model returns, a model with a mass,
    `substeps` that is no positive integer, or a solver that takes no single step.

    Cost: a Jacobian, a factorization and two to four Newton iterations a step; backward, one exact
    factorization of the stage system and one reverse sweep of the model. Other solvers step twice: a
    first time to see which steps fail, whose derivatives would poison others.

    ??? cite "Reference"
        Fronk and Petzold, *Training stiff neural ordinary differential equations* (2024).

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> ts = jnp.array([[0.0, 0.1, 0.3]])
    >>> decay = lambda t, y, args: -y
    >>> ys = jnp.exp(-ts)[..., None]
    >>> error = srx.segment_predictions(decay, ts, ys) - ys[:, 1:]
    >>> bool(jnp.all(jnp.abs(error) < 1e-7))
    True

    ```
    """
    solver = RadauIIA9() if solver is None else solver
    check_no_mass("`model`", model)
    ts, ys, mask = _checked(ts, ys, mask, substeps)
    if ys.shape[2] > 1:
        check_rates("`model`", eqx.filter_eval_shape(model, ts[0, 0], ys[0, 0], args), ys[0, 0])
    times = ts.shape[1]
    index = jnp.where(mask, jnp.arange(times), -1)
    last = lax.cummax(index, axis=1)[:, :-1]
    known = last >= 0
    start = jnp.where(known, last, jnp.argmax(mask, axis=1)[:, None])
    take = jax.vmap(lambda values, i: values[i])
    # An absent sample may hold anything: a present one stands in, so that no lane meets a NaN.
    first = take(ys, jnp.argmax(mask, axis=1))
    ys = jnp.where(mask[..., None], ys, first[:, None])
    t_start, y_start = take(ts, start), take(ys, start)
    t_end = jnp.where(known, ts[:, 1:], t_start)
    y_end = jnp.where((mask[:, 1:] & known)[..., None], ys[:, 1:], y_start)

    # One batch: the few segments that need many iterations are then few among all, not in each run.
    batch = [x.reshape(-1, *x.shape[2:]) for x in (t_start, t_end, y_start, y_end)]
    predict = ft.partial(predict_segment, solver, model, args, substeps)
    predictions = predict_lanes(predict, *batch, solver=solver).reshape(*known.shape, -1)
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
    """`substeps` equal steps from `(ta, ya)` to `tb`; `yb` guides the iteration, if it is not `ya`."""
    dt = (tb - ta) / substeps
    slope = (yb - ya) / substeps

    def step(y: Array, k: Array) -> tuple[Array, None]:
        t = ta + k * dt
        # From where the solution is to where the data say it will be.
        target = jnp.where(slope == 0, 0, ya + (k + 1) * slope - y)
        if isinstance(solver, AbstractImplicitRungeKutta):
            return _implicit_step(solver, model, args, t, dt, y, target), None
        tableau = solver.tableau if isinstance(solver, diffrax.AbstractERK) else None
        if isinstance(tableau, diffrax.ButcherTableau):
            return _explicit_step(tableau, model, args, t, dt, y), None
        check_single_steps(solver)
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
    system, _ = stage_system(tableau, lambda t, y: model(t, y, args), t, dt, dt, y)
    guess = jnp.asarray(tableau.nodes, y.dtype)[:, None] * target[None]
    solution = solver.solve_fixed_step(system, guess)
    y1 = system.y0 + weighted_sum(tableau.d, solution.Z)
    return jnp.where(solution.converged, y1, jnp.nan)


def scan_window(
    predict: Callable[[Carry, Any, Any], tuple[Carry, Out]],
    begin: Carry,
    ts: Float[Array, " times"],
    ys: Float[Array, "times n"],
    mask: Bool[Array, " times"],
    rows: Any = None,
) -> Out:
    """Predictions along a window of samples, each from the one before it.

    `predict(carry, (ta, tb, ya, yb), row)` goes from sample `ya` at `ta` to `yb` at `tb`, and returns
    what the next segment starts from, `begin` for the first, and an output; `row` is that segment's of
    `rows`. Where no sample is, the first segment is solved once more, which is as healthy as any: a
    step of length zero, or one beyond the data, might fail.
    """
    present, column = mask[1:], mask[1:, None]
    segments = (
        jnp.where(present, ts[:-1], ts[0]),
        jnp.where(present, ts[1:], ts[1]),
        jnp.where(column, ys[:-1], ys[0]),
        jnp.where(column, ys[1:], ys[1]),
    )

    def advance(carry: Carry, segment: Any) -> tuple[Carry, Out]:
        samples, present, row = segment
        carry = select(present, carry, begin)
        return predict(carry, samples, row)

    if len(ts) == 2:
        first = jax.tree.map(lambda x: x[0], (segments, present, rows))
        return jax.tree.map(lambda x: x[None], advance(begin, first)[1])
    return lax.scan(advance, begin, (segments, present, rows))[1]


def _explicit_step(
    tableau: diffrax.ButcherTableau, model: Any, args: Any, t: Array, dt: Array, y: Array
) -> Array:
    """One step with its stages written out, those that the result needs.

    diffrax makes a loop of them and adds the stage with which its next step begins: derivatives
    take 2 to 3 times as long (docs/benchmarks/jacobians.md).
    """
    field = diffrax.ODETerm(model).vf
    needed = np.flatnonzero(tableau.b_sol)[-1]
    stages = [field(t, y, args)]
    for row, node in zip(tableau.a_lower[:needed], tableau.c[:needed], strict=True):
        step = weighted_sum(row, jnp.stack(stages))
        stages.append(field(t + float(node) * dt, y + dt * step, args))
    return y + dt * weighted_sum(tableau.b_sol[: needed + 1], jnp.stack(stages))


def check_single_steps(solver: Any) -> None:
    """Refuses a solver that needs more than single steps."""
    needs = "the step before" if isinstance(solver, diffrax.LeapfrogMidpoint) else ""
    if vars(getattr(solver, "root_finder", solver)).get("rtol") is use_stepsize_tol:
        needs = "the tolerances of an adaptive solve"
    if needs:
        raise ValueError(
            f"`{type(solver).__name__}` was given, which needs {needs}; here it takes single steps. "
            "Write `stiffrax.RadauIIA5()`, or give tolerances, as in "
            "`diffrax.Kvaerno5(root_finder=diffrax.VeryChord(1e-10, 1e-10))`."
        )
