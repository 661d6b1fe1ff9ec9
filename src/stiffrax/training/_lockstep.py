"""Searches that ask for evaluations one at a time, evaluated together."""

import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, final

import numpy as np
from jaxtyping import Float

T = TypeVar("T")

# Points in a batch: few sizes, so that fits and profiles share programs. On two cores a batch of
# sixteen small systems takes about as long as three single ones, and larger ones wait for their
# slowest member.
_WIDTHS = (1, 4, 16)


@final
class Evaluation(NamedTuple):
    r"""A cost and its Gauss-Newton model at one point.

    $$cost(x + s) \\approx cost + \\tfrac12 (|C s + c|^2 - |c|^2)$$

    **Attributes:**

    - `cost`: infinite where a solve failed.
    - `triangle`: an upper triangular `[C, c]`, `(p + 1, p + 1)`.
    - `num_failed`: solves that failed.
    - `kinks`: rows `[D, z]` of those terms of the cost that are `|z|`; `None` without.
    """

    cost: float
    triangle: Float[np.ndarray, "q q"]
    num_failed: int
    kinks: Any = None

    @property
    def usable(self) -> bool:
        """Whether a search can go on from here."""
        finite = np.isfinite(self.cost) and np.all(np.isfinite(self.triangle))
        return bool(finite) and self.num_failed == 0


Search = Generator[Float[np.ndarray, " p"], Evaluation | None, T]


def run_together(
    searches: Sequence[Search[T]],
    evaluate: Callable[[Float[np.ndarray, "width p"]], Sequence[Evaluation]],
    on_result: Callable[[int, T], Any] | None = None,
) -> list[T | None]:
    """The results of the searches, many at a time evaluated in one batch.

    Ctrl-C ends all, which return what they have; those not begun have no result.
    """
    width = next((w for w in _WIDTHS if w >= len(searches)), _WIDTHS[-1])
    results: list[T | None] = [None] * len(searches)
    waiting = list(range(len(searches)))[::-1]
    active: dict[int, np.ndarray] = {}

    def proceed(i: int, found: Evaluation | None) -> None:
        """To the next question of a search, or to its result."""
        try:
            active[i] = searches[i].send(found)
        except StopIteration as end:
            active.pop(i, None)
            results[i] = end.value
            if on_result is not None:
                on_result(i, end.value)

    try:
        while waiting or active:
            with _held_interrupts():
                while waiting and len(active) < width:
                    proceed(waiting.pop(), None)
            if not active:
                break
            asked = list(active)
            points = np.stack([active[i] for i in asked])
            filled = np.concatenate([points, np.repeat(points[:1], width - len(asked), axis=0)])
            evaluations = evaluate(filled)
            with _held_interrupts():
                for i, found in zip(asked, evaluations, strict=False):
                    proceed(i, found)
    except KeyboardInterrupt:
        # `None` in place of an evaluation asks a search for what it has found so far.
        for i in list(active):
            while i in active:
                proceed(i, None)
    return results


@contextlib.contextmanager
def _held_interrupts() -> Iterator[None]:
    """Ctrl-C waits for the end of the block: inside of a search it would end it without a result."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[Any] = []
    signal.signal(signal.SIGINT, lambda *given: held.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        before(*held[0])
