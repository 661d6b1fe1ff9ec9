"""Solves of all runs in one batch, of which some may fail, and the value of a loss on them."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._trees import along_rows
from ..adjoints import AbstractSolveAdjoint
from ..data import Trajectories
from ..solvers import predict_healthy
from ..stages import stop_gradient
from ._error_measures import AbstractErrorMeasure, finite_samples
from ._loss import LossValue

_REVERSE_ONLY = (diffrax.RecursiveCheckpointAdjoint, diffrax.BacksolveAdjoint)


def solve_runs(
    solve: Callable[..., tuple[Array, Array]], adjoint: diffrax.AbstractAdjoint, *runs: Any
) -> tuple[Float[Array, "runs *predicted"], Bool[Array, " runs"]]:
    """`solve(*run)` of every run: what is predicted, and whether it failed.

    The last steps of a failed solve were rejected, often because they overflowed. Their derivatives
    are multiplied by zero, but infinity times zero is NaN, and the gradient is a sum over runs. With
    an adjoint that differentiates all steps, a failed run whose derivative is not finite gives none.
    """
    run_one = solve
    if isinstance(adjoint, _REVERSE_ONLY):

        def run_one(*run: Any) -> tuple[Array, Array]:
            predicted, failed = _guarded((eqx.filter_closure_convert(solve, *run), run))
            # A comparison has no tangent; what `_guarded` returns has one, which `jnp.all` refuses.
            return predicted, jnp.not_equal(failed, False)

    elif not isinstance(adjoint, AbstractSolveAdjoint | diffrax.ForwardMode):
        return _of_healthy_runs(solve, *runs)
    if len(jax.tree.leaves(runs)[0]) == 1:
        # Outside `vmap` the solver may use what only pays off for one lane.
        predicted, failed = run_one(*jax.tree.map(lambda x: x[0], runs))
        return predicted[None], failed[None]
    return jax.vmap(run_one)(*runs)


def _of_healthy_runs(
    solve: Callable[..., tuple[Array, Array]], *runs: Any
) -> tuple[Float[Array, "runs *predicted"], Bool[Array, " runs"]]:
    """The same for adjoints with derivatives in every mode, at the cost of one more solve."""
    closed = eqx.filter_closure_convert(solve, *jax.tree.map(lambda x: x[0], runs))
    # Of the inputs, so that nothing of the first solve is kept for a derivative.
    still, frozen = stop_gradient((closed, runs))
    once, failed = jax.vmap(still)(*frozen)
    again, _ = predict_healthy(closed, failed, runs, (once, failed))
    return jnp.where(along_rows(failed, once), once, again), failed


@eqx.filter_custom_vjp
def _guarded(solve_and_run: Any) -> Any:
    solve, run = solve_and_run
    return solve(*run)


@_guarded.def_fwd
def _guarded_fwd(perturbed: Any, solve_and_run: Any) -> Any:
    # By what is asked for alone: of some of the rest, such as times, an adjoint has no derivative.
    dynamic, static = eqx.partition(solve_and_run, perturbed)

    def values(dynamic: Any) -> tuple[Array, Array]:
        solve, run = eqx.combine(dynamic, static)
        return solve(*run)

    predicted, pull_back, failed = jax.vjp(values, dynamic, has_aux=True)
    return (predicted, failed), (pull_back, failed)


@_guarded.def_bwd
def _guarded_bwd(residuals: Any, cotangents: Any, perturbed: Any, solve_and_run: Any) -> Any:
    del perturbed, solve_and_run
    pull_back, failed = residuals
    (derivative,) = pull_back(cotangents[0])
    finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(derivative)]
    drop = failed & ~jnp.all(jnp.stack(finite))
    return jax.tree.map(lambda x: jnp.where(drop, 0, x), derivative)


def value_of_runs(
    measure: AbstractErrorMeasure, predicted: Array, failed: Array, data: Trajectories
) -> LossValue:
    """The value of solves of the runs, and how many of them failed."""
    ts, ys, mask = (x[:, 1:] for x in data.arrays)
    solved = mask & ~failed[:, None]
    value = measure(predicted, ts, ys, solved)
    return LossValue(
        value, jnp.sum(failed & mask[:, 0]), jnp.sum(solved & finite_samples(predicted))
    )
