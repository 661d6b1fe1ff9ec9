"""The compiled loop of an optax training."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..data import Trajectories
from ..losses import evaluate_loss
from ._batches import Batches
from ._gradient_transformations import gradient_norm

# Rows of the record that a call of `advance` fills: the most steps it may take.
MOST_STEPS = 1024


@final
class TrainingState(eqx.Module):
    """All that a training is at one moment: what a checkpoint holds.

    `unusable` counts the skipped steps since the last that was taken.
    """

    parameters: PyTree[Array]
    optimizer: PyTree
    best: PyTree[Array]
    best_value: Array
    best_step: Array
    step: Array
    num_skipped: Array
    unusable: Array


@final
class Training(eqx.Module):
    """What stays the same from step to step."""

    static: PyTree
    loss: Callable[..., Any]
    optimizer: optax.GradientTransformationExtraArgs
    transforms: tuple[Callable[..., Any], ...]
    batches: Batches
    seed: Array
    keep_best: bool

    def start(self, parameters: PyTree[Array]) -> TrainingState:
        """The state before the first step."""
        zero, infinity = jnp.asarray(0), jnp.asarray(jnp.inf)
        value, _ = eqx.filter_eval_shape(self.value, parameters, self.batches.data)
        return TrainingState(
            parameters=parameters,
            optimizer=self.optimizer.init(parameters),
            best=parameters,
            best_value=infinity.astype(value.dtype),
            best_step=zero,
            step=zero,
            num_skipped=zero,
            unusable=zero,
        )

    def value(self, parameters: PyTree[Array], data: Trajectories) -> tuple[Array, Array]:
        """The loss, and how many of its predictions failed."""
        value, failed = evaluate_loss(self.loss, eqx.combine(parameters, self.static), data)
        return value, failed

    def step(self, state: TrainingState) -> tuple[TrainingState, Float[Array, "3"]]:
        """One step, which is not taken if loss or gradient are not finite; and its record."""
        draws, changes = jax.random.split(jax.random.key(self.seed))
        data = self.batches.draw(draws, state.step)
        for k, transform in enumerate(self.transforms):
            key = jax.random.fold_in(jax.random.fold_in(changes, k), state.step)
            data = transform(data, state.step, key)
        (value, failed), gradient = jax.value_and_grad(self.value, has_aux=True)(
            state.parameters, data
        )
        norm = gradient_norm(gradient)
        usable = jnp.isfinite(value) & jnp.isfinite(norm)
        updates, optimizer = self.optimizer.update(
            gradient,
            state.optimizer,
            state.parameters,
            value=value,
            grad=gradient,
            value_fn=lambda parameters: self.value(parameters, data)[0],
        )
        parameters = eqx.apply_updates(state.parameters, updates)
        better = self.keep_best & usable & (value < state.best_value)
        new = TrainingState(
            parameters=_select(usable, parameters, state.parameters),
            optimizer=_select(usable, optimizer, state.optimizer),
            best=_select(better, state.parameters, state.best),
            best_value=jnp.where(better, value, state.best_value),
            best_step=jnp.where(better, state.step, state.best_step),
            step=state.step + 1,
            num_skipped=state.num_skipped + ~usable,
            unusable=jnp.where(usable, 0, state.unusable + 1),
        )
        return new, jnp.stack([value, norm, failed]).astype(value.dtype)


def _select(condition: Bool[Array, ""], yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


@eqx.filter_jit
def advance(
    training: Training, state: TrainingState, stop: Int[Array, ""]
) -> tuple[TrainingState, Float[Array, "most_steps 3"]]:
    """Steps until `stop`, at most `MOST_STEPS`: loss, gradient norm and failures of each.

    One program for any number of steps, so that how long a call takes can be chosen while running.
    """
    record = jnp.zeros((MOST_STEPS, 3), state.best_value.dtype)
    first = state.step

    def body(carry: tuple[TrainingState, Array]) -> tuple[TrainingState, Array]:
        state, record = carry
        new, row = training.step(state)
        return new, record.at[state.step - first].set(row)

    return lax.while_loop(lambda carry: carry[0].step < stop, body, (state, record))


@eqx.filter_jit
def judge(
    training: Training, state: TrainingState, held_out: Trajectories
) -> tuple[TrainingState, Float[Array, ""]]:
    """The loss on runs held out from training; the best model by that is kept."""
    value, _ = training.value(state.parameters, held_out)
    better = value < state.best_value
    state = eqx.tree_at(
        lambda s: (s.best, s.best_value, s.best_step),
        state,
        (
            _select(better, state.parameters, state.best),
            jnp.where(better, value, state.best_value),
            jnp.where(better, state.step, state.best_step),
        ),
    )
    return state, value
