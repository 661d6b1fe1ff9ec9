"""One run of a training: calls of the compiled loop, and what happens between them."""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..data import Measurements, Trajectories
from ._checkpoint import Store
from ._history import Record, record_of
from ._progress import loss_and_gradient
from ._training_loop import MOST_ALL_FAILED, MOST_STEPS, Training, TrainingState, advance, judge

# Long enough that the Python between two calls costs nothing, short enough to watch and interrupt.
# Chosen, not measured.
_SECONDS_A_CALL = 0.5


@final
class Judgement(NamedTuple):
    """The runs to judge by, how often they are looked at, and how long to wait for an improvement.

    `training` has the loss that judges, if it is another than the one trained by; then the runs are
    looked at after the last step too.
    """

    runs: Trajectories | Measurements
    every: int
    patience: int | None = None
    training: Training | None = None

    def is_over(self, state: TrainingState) -> bool:
        """Asked after a look only, so that training ends at the same step however it was cut."""
        step, best = int(state.step), int(state.best_step)
        return self.patience is not None and step % self.every == 0 and step - best >= self.patience

    def is_due(self, step: int, end: int) -> bool:
        """Whether to look at the runs after this step, in a stage that ends at `end`."""
        return step % self.every == 0 or (self.training is not None and step == end)


@final
class Session:
    """Holds the state of a training and its record in `now`, replaced as one.

    An interruption at any moment finds a state and the record that belongs to it.
    """

    def __init__(
        self,
        state: TrainingState,
        judgement: Judgement | None = None,
        store: Store | None = None,
    ):
        self.judgement = judgement
        self.store = store
        saved = None if store is None else store.load(state)
        record = Record()
        if saved is not None:
            state, history = saved
            record = record_of(history)
            if bool(state.is_stuck):
                # Another optimizer, or a loss that solves more, has as many steps as a new training.
                zeros = np.zeros_like(state.unusable), np.zeros_like(state.all_failed)
                state = eqx.tree_at(lambda s: (s.unusable, s.all_failed), state, zeros)
        self.now = state, record
        self._steps_a_call = 1

    def run(self, stages: Iterable[tuple[Training, int]], bar: Any) -> str:
        """Trains with each of the trainings up to its step, or until something else ends it.

        Returns what did.
        """
        stopped, training = "steps", None
        bar.update(int(self.now[0].step))
        try:
            for training, end in stages:
                stopped = self._run(training, end, bar)
                if stopped != "steps":
                    break
        except KeyboardInterrupt:
            stopped = "interrupted"
        finally:
            bar.close()
        try:
            self.save()
            # After saving: training that goes on from the file looks at the runs when it is due.
            if training is not None and stopped != "interrupted":
                self._look_at_the_end(training)
        except KeyboardInterrupt:
            stopped = "interrupted"
        return stopped

    def _run(self, training: Training, end: int, bar: Any) -> str:
        last_save = time.monotonic()
        while True:
            state, record = self.now
            step = int(state.step)
            if 0 < min(end, MOST_ALL_FAILED) <= int(state.all_failed):
                return "all solves failed"
            if step >= end:
                return "steps"
            if self.judgement is not None and self.judgement.is_over(state):
                return "patience"
            if bool(state.is_stuck):
                return "not finite"
            stop = min(step + self._steps_a_call, end)
            if self.judgement is not None:
                stop = min(stop, (step // self.judgement.every + 1) * self.judgement.every)
            self.now = self._advanced(training, state, record, stop, end)
            bar.update(int(self.now[0].step) - step)
            bar.set_postfix_str(loss_and_gradient(self.now[1].rows[-1][-1]))
            if self.store is not None and time.monotonic() - last_save >= self.store.seconds:
                self.save()
                last_save = time.monotonic()

    def _advanced(
        self, training: Training, state: TrainingState, record: Record, stop: int, end: int
    ) -> tuple[TrainingState, Record]:
        before, start = int(state.step), time.monotonic()
        state, rows = advance(training, state, jnp.asarray(stop))
        step = int(state.step)
        record = record.with_rows(np.asarray(rows)[: step - before])
        seconds = time.monotonic() - start
        fits = int(_SECONDS_A_CALL / max(seconds / (step - before), 1e-9))
        # The first call compiles: its time says nothing, so the number grows step by step.
        self._steps_a_call = max(1, min(fits, 8 * (step - before), MOST_STEPS))
        if self.judgement is not None and self.judgement.is_due(step, end):
            return _judged(self.judgement, training, state, record)
        return state, record

    def _look_at_the_end(self, training: Training) -> None:
        state, record = self.now
        seen = record.judged[-1][0] if record.judged else -1
        if self.judgement is not None and seen != int(state.step):
            self.now = _judged(self.judgement, training, state, record)

    def save(self) -> None:
        """Writes the checkpoint, if there is one to write."""
        if self.store is not None:
            state, record = self.now
            self.store.save(state, record.history())


def _judged(
    judgement: Judgement, training: Training, state: TrainingState, record: Record
) -> tuple[TrainingState, Record]:
    state, value = judge(judgement.training or training, state, judgement.runs)
    return state, record.with_judgement(int(state.step), float(value))
