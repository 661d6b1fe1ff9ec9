"""One run of a training: calls of the compiled loop, and what happens between them."""

import time
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np

from ..data import Trajectories
from ._checkpoint import Store
from ._history import Record, record_of
from ._progress import loss_and_gradient, progress_bar
from ._training_loop import MOST_STEPS, Training, TrainingState, advance, judge

# Long enough that the Python between two calls costs nothing, short enough to watch and interrupt.
_SECONDS_A_CALL = 0.5
# After so many steps in a row without a finite gradient none will come.
_MOST_UNUSABLE = 100


@final
class Judgement(NamedTuple):
    """The runs held out, how often they are looked at, and how long to wait for an improvement."""

    held_out: Trajectories
    every: int
    patience: int | None

    def is_over(self, state: TrainingState) -> bool:
        """Asked after a look only, so that training ends at the same step however it was cut."""
        step, best = int(state.step), int(state.best_step)
        return self.patience is not None and step % self.every == 0 and step - best >= self.patience


@final
class Session:
    """Holds the state of a training and its record in `now`, replaced as one.

    An interruption at any moment finds a state and the record that belongs to it.
    """

    def __init__(
        self,
        training: Training,
        state: TrainingState,
        judgement: Judgement | None,
        store: Store | None,
    ):
        self.judgement = judgement
        self.store = store
        saved = None if store is None else store.load(state)
        record = Record()
        if saved is not None:
            state, history = saved
            record = record_of(history)
        self.training = training
        self.now = state, record
        self._steps_a_call = 1

    def run(self, steps: int, progress: bool | None) -> str:
        """Trains until `steps` have been taken or something else ends it; returns what did."""
        bar = progress_bar(progress, steps, "fit")
        bar.update(int(self.now[0].step))
        try:
            stopped = self._run(steps, bar)
        except KeyboardInterrupt:
            stopped = "interrupted"
        finally:
            bar.close()
        self.save()
        return stopped

    def _run(self, steps: int, bar: Any) -> str:
        last_save = time.monotonic()
        while True:
            state, record = self.now
            step = int(state.step)
            if step >= steps:
                return "steps"
            if self.judgement is not None and self.judgement.is_over(state):
                return "patience"
            if int(state.unusable) >= _MOST_UNUSABLE:
                return "not finite"
            stop = min(step + self._steps_a_call, steps)
            if self.judgement is not None:
                stop = min(stop, (step // self.judgement.every + 1) * self.judgement.every)
            self.now = self._advanced(state, record, stop)
            bar.update(stop - step)
            bar.set_postfix_str(loss_and_gradient(self.now[1].rows[-1][-1]))
            if self.store is not None and time.monotonic() - last_save >= self.store.seconds:
                self.save()
                last_save = time.monotonic()

    def _advanced(
        self, state: TrainingState, record: Record, stop: int
    ) -> tuple[TrainingState, Record]:
        count, start = stop - int(state.step), time.monotonic()
        state, rows = advance(self.training, state, jnp.asarray(stop))
        record = record.with_rows(np.asarray(rows)[:count])
        seconds = time.monotonic() - start
        fits = int(_SECONDS_A_CALL / max(seconds / count, 1e-9))
        # The first call compiles: its time says nothing, so the number grows step by step.
        self._steps_a_call = max(1, min(fits, 8 * count, MOST_STEPS))
        if self.judgement is not None and stop % self.judgement.every == 0:
            state, value = judge(self.training, state, self.judgement.held_out)
            record = record.with_judgement(stop, float(value))
        return state, record

    def save(self) -> None:
        """Writes the checkpoint, if there is one to write."""
        if self.store is not None:
            state, record = self.now
            self.store.save(state, record.history())
