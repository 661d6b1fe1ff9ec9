"""The compiled loop of an optax training."""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._arguments import check_instance
from .._trees import euclidean_norm, select
from ..data import Measurements, Trajectories
from ..losses import LossValue, evaluate_loss, losses_of
from ..models import within_bounds
from ._batches import Batches

# Rows of the record that a call of `advance` fills: the most steps it may take.
MOST_STEPS = 1024
# After so many steps in a row without a finite gradient none will come. Chosen, not measured.
MOST_UNUSABLE = 100
# So often a step to where every solve fails is halved: to a millionth. Chosen, not measured.
MOST_ALL_FAILED = 20


def check_optimizer(optimizer: Any) -> Any:
    """`optimizer`, if it is one of optax, or `None`, the default."""
    return check_instance(
        "optimizer",
        optimizer,
        optax.GradientTransformation | None,
        "an `optax.GradientTransformation`",
        "optimizer=optax.adam(1e-3)",
    )


@final
class TrainingState(eqx.Module):
    """All that a training is at one moment: what a checkpoint holds.

    `unusable` counts the skipped steps since the last that was taken, `all_failed` those of them at
    whose parameters every solve failed. `safe` are the last parameters at which one did not, and
    `best_failed` and `best_solved` belong to `best_value`.
    """

    parameters: PyTree[Array]
    optimizer: PyTree
    best: PyTree[Array]
    best_value: Array
    best_failed: Array
    best_solved: Array
    best_step: Array
    safe: PyTree[Array]
    step: Array
    num_skipped: Array
    unusable: Array
    all_failed: Array

    @property
    def is_stuck(self) -> Bool[Array, ""]:
        """Whether going on is of no use."""
        # A state read from a checkpoint holds NumPy arrays.
        stuck = (self.unusable >= MOST_UNUSABLE) | (self.all_failed >= MOST_ALL_FAILED)
        return jnp.asarray(stuck)

    def judged(self, found: LossValue, allowed: Any = True) -> "TrainingState":
        """With its parameters as the best, if more samples are predicted or these better."""
        solved = jnp.asarray(found.num_solved)
        as_many = solved == self.best_solved
        better = (solved > self.best_solved) | (as_many & (found.value < self.best_value))
        better = better & jnp.isfinite(found.value) & allowed
        new = self.parameters, found.value, found.num_failed, solved, self.step

        def best(state: TrainingState) -> tuple[Any, ...]:
            numbers = state.best_value, state.best_failed, state.best_solved, state.best_step
            return state.best, *numbers

        return eqx.tree_at(best, self, select(better, new, best(self)))


@final
class Training(eqx.Module):
    """What stays the same from step to step."""

    static: PyTree
    loss: Callable[..., Any]
    optimizer: optax.GradientTransformation
    transforms: tuple[Callable[..., Any], ...]
    batches: Batches
    seed: Array
    keep_best: bool

    def start(self, parameters: PyTree[Array]) -> TrainingState:
        """The state before the first step."""
        zero, infinity = jnp.asarray(0), jnp.asarray(jnp.inf)
        found = self.check(parameters, self.batches.data)
        return TrainingState(
            parameters=parameters,
            optimizer=self.optimizer.init(parameters),
            best=parameters,
            best_value=infinity.astype(found.value.dtype),
            best_failed=zero,
            best_solved=zero - 1,
            best_step=zero,
            safe=parameters,
            step=zero,
            num_skipped=zero,
            unusable=zero,
            all_failed=zero,
        )

    def check(self, parameters: PyTree[Array], data: Trajectories | Measurements) -> Any:
        """The types of a value of the loss: what the loss cannot take is said before any step."""
        return eqx.filter_eval_shape(self.value, parameters, data)

    def value(self, parameters: PyTree[Array], data: Trajectories | Measurements) -> LossValue:
        """The loss, and how many of its predictions failed."""
        found = evaluate_loss(self.loss, eqx.combine(parameters, self.static), data)
        solved = 1 if found.num_solved is None else found.num_solved
        return found._replace(num_solved=jnp.asarray(solved))

    def step(self, state: TrainingState) -> tuple[TrainingState, Float[Array, "3"]]:
        """One step and its record: loss, gradient norm and failures.

        It is not taken if the gradient is not finite, or what the optimizer makes of it. Where every
        solve fails there is none: the parameters go back halfway to the last that had one.
        """
        draws, changes = jax.random.split(jax.random.key(self.seed))

        def transformed(data: Any) -> Any:
            for k, transform in enumerate(self.transforms):
                key = jax.random.fold_in(jax.random.fold_in(changes, k), state.step)
                data = transform(data, state.step, key)
            return data

        data = self.batches.draw(draws, state.step, transformed)

        def value(parameters: PyTree[Array]) -> tuple[Array, LossValue]:
            found = self.value(parameters, data)
            return found.value, found

        (_, found), gradient = jax.value_and_grad(value, has_aux=True)(state.parameters)
        # Of all entries together. No one name of optax has it in all versions that are supported.
        norm = euclidean_norm(jnp.stack(list(map(euclidean_norm, jax.tree.leaves(gradient)))))
        all_failed = found.nothing_solved | (jnp.isposinf(found.value) & (norm == 0))
        # Infinite is a function of the user's that contains a loss with a failure.
        valued = jnp.isfinite(found.value) | jnp.isposinf(found.value)
        differentiable = valued & jnp.isfinite(norm) & ~all_failed

        def trial_value(parameters: PyTree[Array]) -> Array:
            """What a line search sees: no step leads to where less is predicted."""
            trial = self.value(parameters, data)
            return jnp.where(trial.num_solved < found.num_solved, jnp.inf, trial.value)

        # Optimizers of optax mix whole and floating numbers, which JAX may be set to refuse.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer = optax.with_extra_args_support(self.optimizer).update(
                gradient,
                state.optimizer,
                state.parameters,
                value=found.value,
                grad=gradient,
                value_fn=trial_value,
            )
        parameters = within_bounds(eqx.apply_updates(state.parameters, updates))
        moved = _stays_finite(*map(jax.tree.leaves, (state.parameters, parameters)))
        usable = differentiable & moved & _stays_finite(state.optimizer, optimizer)
        halfway = jax.tree.map(lambda a, b: (a + b) / 2, state.parameters, state.safe)
        elsewhere = select(all_failed, halfway, state.parameters)
        state = state.judged(found, self.keep_best & differentiable)
        state = dataclasses.replace(
            state,
            parameters=select(usable, parameters, elsewhere),
            optimizer=select(usable, optimizer, state.optimizer),
            safe=select(differentiable, state.parameters, state.safe),
            step=state.step + 1,
            num_skipped=state.num_skipped + (~usable).astype(int),
            unusable=jnp.where(usable, 0, state.unusable + 1),
            all_failed=jnp.where(all_failed, state.all_failed + 1, 0),
        )
        row = (x.astype(found.value.dtype) for x in (found.value, norm, found.num_failed))
        return state, jnp.stack(list(row))


def _stays_finite(before: PyTree, after: PyTree) -> Bool[Array, ""]:
    """Whether parameters, or an optimizer's state, are finite wherever they were.

    Squares of a gradient may overflow: Adam's mean of them stays infinite, and no step leads away.
    What a line search reports of its trials is not asked, nor what begins as infinite, such as a
    bound of a model.
    """
    finite = [jnp.asarray(True)]
    paths, _ = jax.tree_util.tree_flatten_with_path(after)
    for (path, new), old in zip(paths, jax.tree.leaves(before), strict=True):
        if eqx.is_inexact_array(new) and "info" not in {getattr(key, "name", None) for key in path}:
            finite.append(jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old)))
    return jnp.all(jnp.stack(finite))


@eqx.filter_jit
def advance(
    training: Training, state: TrainingState, stop: Int[Array, ""]
) -> tuple[TrainingState, Float[Array, "most_steps 3"]]:
    """Steps until `stop`, at most `MOST_STEPS`, or until no more are of use: the record of each."""
    record = jnp.zeros((MOST_STEPS, 3), state.best_value.dtype)
    first = state.step

    def body(carry: tuple[TrainingState, Array]) -> tuple[TrainingState, Array]:
        state, record = carry
        new, row = training.step(state)
        return new, record.at[state.step - first].set(row)

    def goes_on(carry: tuple[TrainingState, Array]) -> Array:
        return (carry[0].step < stop) & ~carry[0].is_stuck

    return lax.while_loop(goes_on, body, (state, record))


@eqx.filter_jit
def judge(
    training: Training, state: TrainingState, held_out: Trajectories | Measurements
) -> tuple[TrainingState, Float[Array, ""]]:
    """The losses of runs held out from training; the best model by them is kept."""
    judging = dataclasses.replace(training, loss=losses_of(training.loss))
    found = judging.value(state.parameters, held_out)
    return state.judged(found), found.or_infinity
