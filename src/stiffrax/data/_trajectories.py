"""Trajectories: the measured runs that everything else trains on, and what is cut out of them."""

import hashlib
from collections.abc import Sequence
from os import PathLike
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import check_instance
from .._trees import along_rows, is_traced
from ._column_names import Renaming
from ._names import check_names, check_run_names, held_out_runs, select_runs, state_names
from ._ragged import stacked
from ._run_checks import per_run
from ._sample_runs import check_run, runs_from_arrays, runs_of_samples, write_csv
from ._text_table import read_csv


@final
class Trajectories(eqx.Module):
    r"""Samples `y(t_k)` of one or more runs of a system, possibly of different lengths.

    Runs are stored side by side. In each the present samples come first, in order; shorter runs are
    padded by repeats of their last sample, with `mask` False. A sample missing in the middle is
    simply not there, and its neighbors follow each other.

    The arrays are NumPy float64 on the host; a JAX function that takes them converts them to its
    precision.

    Make one by [`stiffrax.Trajectories.from_arrays`][] or [`stiffrax.Trajectories.from_csv`][],
    which check the data.

    **Arguments:**

    - `ts`: times, in the unit in which rates are to be read, `Float[Array, "runs times"]`.
    - `ys`: states, in any units, `Float[Array, "runs times n"]`.
    - `mask`: True where a sample is present, `Bool[Array, "runs times"]`.
    - `names`: names of the `n` states; they become the symbols of recovered equations.
    - `run_names`: names of the runs.
    - `numbers`: of the runs, which selections keep: `args.run` of a [`stiffrax.System`][]. By default
        `0, 1, ...`.

    **Raises:** `ValueError` if the shapes do not fit together.

    ```python
    >>> import numpy as np
    >>> import stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 11)
    >>> ys = np.stack([np.exp(-ts), 2 * np.exp(-ts)])[..., None]
    >>> srx.Trajectories.from_arrays(ts, ys, names=["c"])
    Trajectories(2 runs, 22 samples, t from 0 to 1, states: c)

    ```
    """

    ts: Float[Array | np.ndarray, "runs times"]
    ys: Float[Array | np.ndarray, "runs times n"]
    mask: Bool[Array | np.ndarray, "runs times"]
    names: tuple[str, ...] = eqx.field(static=True)
    run_names: tuple[str, ...] = eqx.field(static=True)
    numbers: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        ts: Any,
        ys: Any,
        mask: Any,
        names: tuple[str, ...],
        run_names: tuple[str, ...],
        numbers: tuple[int, ...] | None = None,
    ):
        self.ts, self.ys, self.mask = ts, ys, mask
        self.names, self.run_names = names, run_names
        self.numbers = tuple(range(len(run_names))) if numbers is None else numbers

    def __check_init__(self):
        shapes = self.ts.shape, self.ys.shape, self.mask.shape
        if len(shapes[1]) != 3 or not shapes[0] == shapes[2] == shapes[1][:2]:
            raise ValueError(
                f"`ts`, `ys`, `mask` have shapes {shapes[0]}, {shapes[1]}, {shapes[2]}, but (runs, "
                "times), (runs, times, n), (runs, times) are needed: `Trajectories.from_arrays` "
                "brings arrays into this form."
            )
        mask = self.mask
        if isinstance(mask, np.ndarray) and np.any(mask[:, 1:] & ~mask[:, :-1]):
            raise ValueError(
                "`mask` has a missing sample before a present one, but the present samples of a "
                "run must come first: `Trajectories.from_arrays` brings arrays into this form."
            )
        check_names("`names`", self.names, self.num_states)
        check_run_names(self.run_names, self.num_runs)
        per_run("numbers", self.numbers, self.num_runs)

    @classmethod
    def from_arrays(
        cls,
        ts: Any,
        ys: Any,
        *,
        mask: Any = None,
        names: Sequence[str] | None = None,
        run_names: Sequence[str] | None = None,
    ) -> "Trajectories":
        """Trajectories from arrays: one run, runs of equal length, or a list of runs of any length.

        **Arguments:**

        - `ts`: times, increasing in each run: `(runs, times)`, or `(times,)` for all runs alike, or
            a list with one `(times,)` a run.
        - `ys`: floating point states: `(runs, times, n)`, or `(times, n)` for one run, or a list
            with one `(times, n)` a run.
        - `mask`: shaped like `ts`; False where the sample is missing. What `ts` and `ys` hold
            there, NaN included, is not read. Default: all are present.
        - `names`: state names, Python identifiers. Default: `y1, ..., yn`.
        - `run_names`: run names. Default: `"0", "1", ...`.

        **Returns:** `Trajectories`.

        **Raises:** `ValueError` on wrong shapes, times that do not increase, NaN or infinity,
        integer or complex states, runs of fewer than two samples, names that cannot be symbols.
        """
        runs = runs_from_arrays(ts, ys, mask)
        names = state_names(names, runs[0].ys.shape[1])
        if run_names is None:
            run_names = [str(i) for i in range(len(runs))]
        return cls._from_runs(runs, names, run_names)

    @classmethod
    def from_csv(
        cls,
        path: str | PathLike[str],
        *,
        run: str | None = "run",
        time: str = "t",
        states: Sequence[str] | None = None,
        separator: str | None = None,
        decimal: str | None = None,
    ) -> "Trajectories":
        """Trajectories from a CSV file with one row a sample and the names in the first row.

        **Arguments:**

        - `path`: the file. A missing sample is a row left out.
        - `run`: the column that names the run of a row, or `None` if the file is one run. The rows
            of a run need not be adjacent.
        - `time`: the column of times.
        - `states`: the columns to read as states. Default: all others, in the file's order.
        - `separator`, `decimal`: as [`stiffrax.Measurements.from_csv`][] finds or takes them.

        **Returns:** `Trajectories` whose state names are the column names.

        **Raises:** `ValueError` on an unknown or repeated column, a cell that is no number, a file
        without samples, and whatever `from_arrays` refuses; row and column are named (the header is
        row 1).
        """
        written = Renaming(as_written=True)
        table = read_csv(path, written, separator=separator, decimal=decimal)
        runs, names = runs_of_samples(table, run, time, states)
        return cls._from_runs(list(runs.values()), names, list(runs))

    @classmethod
    def _from_runs(cls, runs, names, run_names) -> "Trajectories":
        for run in runs:
            check_run(run)
        return cls._of([(run.ts, run.ys) for run in runs], names, map(str, run_names))

    @classmethod
    def _of(cls, runs, names, run_names, numbers=None) -> "Trajectories":
        ts, ys = (stacked(x) for x in zip(*runs, strict=True))
        mask = stacked([np.ones(len(t), bool) for t, _ in runs], False)
        return cls(ts, ys, mask, names, tuple(run_names), numbers)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Writes `run, t` and the states, every double in full; `from_csv` reads the same data."""
        write_csv(path, self.names, ((name, *self[i]) for i, name in enumerate(self.run_names)))

    def select(self, runs: Any) -> "Trajectories":
        """The given runs in the given order; they keep their numbers.

        **Arguments:**

        - `runs`: an index, a run name, a sequence of either, or a slice.

        **Raises:** `ValueError` on a run that does not exist, is given twice, or if none is given.
        """
        chosen = select_runs(runs, self.run_names)
        runs = ((self[i], self.run_names[i], self.numbers[i]) for i in chosen)
        samples, labels, numbers = zip(*runs, strict=True)
        return self._of(samples, self.names, labels, numbers)

    def split(self, held_out: Any) -> tuple["Trajectories", "Trajectories"]:
        """The runs to train on and the runs held out from training.

        **Arguments:**

        - `held_out`: a fraction between 0 and 1 holds out that part of the runs, the last ones,
            rounded, at least one; otherwise the runs to hold out, as in `select`.

        **Returns:** `(train, held_out)`.

        **Raises:** `ValueError` if either part would be empty.
        """
        out = held_out_runs(held_out, self.run_names)
        return self.select([i for i in range(len(self)) if i not in out]), self.select(out)

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """`ts`, `ys` and `mask` as arrays of JAX, in its precision."""
        return jnp.asarray(self.ts), jnp.asarray(self.ys), jnp.asarray(self.mask)

    @property
    def num_runs(self) -> int:
        return self.ys.shape[0]

    @property
    def num_states(self) -> int:
        return self.ys.shape[-1]

    @property
    def num_segments(self) -> int:
        """Number of pairs of consecutive samples, padding not counted."""
        return int(np.sum(self.mask[:, 1:]))

    def __len__(self) -> int:
        return self.num_runs

    def __getitem__(self, run: int) -> tuple[np.ndarray, np.ndarray]:
        """`(ts, ys)` of one run without its padding."""
        if not -len(self) <= run < len(self):  # IndexError is what ends iteration
            raise IndexError(f"run {run} of {len(self)} runs.")
        present = np.asarray(self.mask[run])
        return np.asarray(self.ts[run])[present], np.asarray(self.ys[run])[present]

    def __repr__(self) -> str:
        names = ", ".join(self.names if self.num_states <= 10 else (*self.names[:9], "..."))
        if not isinstance(self.ts, np.ndarray):  # values may be traced
            return f"Trajectories({self.num_runs} runs, states: {names})"
        return (
            f"Trajectories({self.num_runs} runs, {int(np.sum(self.mask))} samples, "
            f"t from {self.ts.min():g} to {self.ts.max():g}, states: {names})"
        )


def check_trajectories(data: Any) -> Trajectories:
    """`data`, if they are samples of all states."""
    return check_instance(
        "data",
        data,
        Trajectories,
        "`stiffrax.Trajectories`, samples of all states, after the model",
        "Trajectories.from_arrays(ts, ys)`, or for measurements `data.to_trajectories()",
    )


def digest_of_samples(data: Trajectories) -> str:
    """Equal for equal samples, in single precision, hidden ones included; not traceable.

    Without the mask: a growing horizon hides samples of the same data.
    """
    found = hashlib.sha256(str(data.ys.shape).encode())
    with np.errstate(over="ignore"):
        for x in (data.ts, data.ys):
            found.update(np.asarray(x).astype(np.float32).tobytes())
    return found.hexdigest()


def check_same_samples(kept: str, samples: str, data: Trajectories) -> None:
    """Raises `ValueError` for data whose digest is another; of traced ones nothing is known."""
    if not is_traced(data) and digest_of_samples(data) != samples:
        raise ValueError(
            f"Other samples were given to a loss with {kept} of the data that it was fixed to: "
            "call `loss.for_data(data)` for these."
        )


def cut_windows(data: Trajectories, length: int) -> Trajectories:
    """Runs of `length` segments, one after the other; neighbors share a sample.

    The last window of a run may be shorter; it is padded as runs are. One that holds no segment at
    all repeats the first of its run with `mask` False throughout, so that it costs a healthy solve
    like any other. Traceable: shapes depend on those of the data alone.
    """
    mask, (ts, ys) = cut_arrays(data.mask, length, data.ts, data.ys)
    return rename(data, ts, ys, mask)


def cut_arrays(
    mask: Bool[Array | np.ndarray, "runs times"], length: int, *arrays: Any
) -> tuple[Any, tuple[Any, ...]]:
    """Windows of `length` segments of arrays `(runs, times, ...)`, and which of their samples are.

    They are no longer than the longest run: what is missing costs as much as what is there.
    """
    runs, times = mask.shape
    length = min(length, max(times - 1, 1))
    count = -(-(times - 1) // length)
    index = np.arange(count)[:, None] * length + np.arange(length + 1)
    inside = index < times
    index = np.minimum(index, times - 1)
    present = mask[:, index] & inside[None]
    used = present[:, :, 1]

    def pick(values: Any) -> Any:
        # NumPy in, NumPy out: jnp would round times in double precision where JAX has single.
        xp = jnp if isinstance(values, jax.Array) else np
        cut = values[:, index]
        return xp.where(along_rows(used, cut), cut, cut[:, :1]).reshape(
            runs * count, *cut.shape[2:]
        )

    present = (present & used[..., None]).reshape(runs * count, length + 1)
    return present, tuple(pick(values) for values in arrays)


def pick_runs(data: Trajectories, index: Any) -> Trajectories:
    """The runs at `index`, which may be traced and may repeat runs."""
    return rename(data, *(x[index] for x in (data.ts, data.ys, data.mask)))


def rename(data: Trajectories, ts: Any, ys: Any, mask: Any) -> Trajectories:
    """Other runs of the same states, numbered."""
    return Trajectories(ts, ys, mask, data.names, tuple(map(str, range(len(ts)))))
