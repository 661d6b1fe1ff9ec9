"""Measurements: what was measured of a system, cell by cell, under which conditions."""

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import real_numbers
from ._conditions import are_columns, run_constants, run_starts
from ._dose import Dose
from ._known_input import KnownInput
from ._long_table import widened
from ._measured_runs import MeasuredRun, cut_runs, find_columns
from ._names import check_names, check_run_names, held_out_runs, select_runs
from ._run_checks import check_cells, check_runs, per_run
from ._run_conditions import Conditions
from ._table import Table, read_csv, read_table
from ._trajectories import Trajectories


@final
class Measurements(eqx.Module):
    """Runs of measurements, in which any cell may be missing.

    Columns are what was measured, and need not be the states of a system. Rows of equal times are
    replicates. A measurement at the start of a run counts like any other.

    **Arguments:** (arrays that `from_csv`, `from_table` and `from_arrays` make)

    - `ts`: times of the rows, not decreasing, `Float[np.ndarray, "runs times"]`; the last one is
        repeated where a run has fewer rows.
    - `values`: `Float[np.ndarray, "runs times columns"]`, zero where nothing was measured.
    - `mask`: shaped like `values`, True where a cell was measured.
    - `sd`: shaped like `values`: standard deviations in the unit of the column, zero where they are
        not known.
    - `starts`: time at which each run starts, `Float[np.ndarray, " runs"]`.
    - `constants`: one number a run for each condition that does not change.
    - `inputs`: known functions of time.
    - `doses`: what is added to a state at a time of a run.
    - `names`, `units`: of the columns; a unit is empty where none is known.
    - `run_names`: names of the runs.
    - `numbers`: of the runs, which selections keep: `args.run` of a [`stiffrax.System`][].

    **Raises:** `ValueError` for shapes that do not fit, a run that starts after a measurement of it,
    a run without any measurement, a column that has standard deviations for some of its values only,
    and doses to runs that do not exist, or before they start.

    ```python
    >>> import stiffrax as srx
    >>> table = {"t": [0, 1, 2, 2], "A [mM]": [1.0, None, 0.31, 0.29], "B [mM]": [0.0, 0.4, None, None]}
    >>> srx.Measurements.from_table(table)
    Measurements(1 run, 5 measured cells, t from 0 to 2, columns: A [mM], B [mM])

    ```
    """

    ts: Float[Array | np.ndarray, "runs times"]
    values: Float[Array | np.ndarray, "runs times columns"]
    mask: Bool[Array | np.ndarray, "runs times columns"]
    sd: Float[Array | np.ndarray, "runs times columns"]
    starts: Float[Array | np.ndarray, " runs"]
    constants: dict[str, Float[Array | np.ndarray, " runs"]]
    inputs: dict[str, KnownInput]
    doses: tuple[Dose, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    units: tuple[str, ...] = eqx.field(static=True)
    run_names: tuple[str, ...] = eqx.field(static=True)
    numbers: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        if isinstance(self.values, np.ndarray):  # values may be traced
            check_runs(self)

    @classmethod
    def from_csv(
        cls,
        path: str | PathLike[str],
        *,
        separator: str | None = None,
        decimal: str | None = None,
        **options: Any,
    ) -> "Measurements":
        """Measurements from a text file with the names of the columns in its first row.

        Separator, decimal comma, comment lines (`#`) and encoding are found. A name may carry its
        unit, `c_A [mmol/L]`: the column is `c_A`. Empty cells, `NaN` and `NA` are not measured.

        **Arguments:**

        - `path`: the file.
        - `separator`: `","`, `";"`, a tab or a space, where it is not found.
        - `decimal`: `"."` or `","`, where it is not found; that of a second table if it is unclear.
        - `options`: those of [`stiffrax.Measurements.from_table`][].

        **Returns:** `Measurements`.

        **Raises:** `ValueError` naming row and column for a cell that is no number, and as
        `from_table` does.
        """
        table = read_csv(path, options.get("rename", {}), separator=separator, decimal=decimal)
        return cls._from_table(table, decimal=decimal, **options)

    @classmethod
    def from_table(cls, table: Any, **options: Any) -> "Measurements":
        """Measurements from a data frame, or from a dictionary of columns.

        **Arguments:**

        - `table`: a pandas or Polars data frame, or a mapping from names to columns. `None` and NaN
            are not measured.
        - `run`: the column that names the run; `"run"` where there is one, else all rows are one.
        - `time`: the column of times; the one of the name `t` or `time` without.
        - `columns`: what is measured. Without, all columns that are left; one among these that looks
            like a standard deviation, a condition or an input is refused.
        - `sd`: standard deviations in the unit of what is measured: `{"A": "A_sd"}` names a column,
            `{"A": 0.1}` gives a number for all.
        - `constants`: columns that have one value in each run, or a second table (a data frame, a
            mapping or a CSV file) with one row a run.
        - `inputs`: columns that are known functions of time, `{"feed": "step"}`, or `"linear"` or
            `"cubic"` between rows; in a list all are linear.
        - `doses`: [`stiffrax.Dose`][] of each amount that is added to a state.
        - `start`: time at which the runs start, a number or one for each run by its name; by default
            the first row of the run.
        - `long`: `("species", "value")` for a table with one row a measurement: the columns that hold
            the name and the value. `sd` is then the column of standard deviations.
        - `rename`: new names for columns, `{"c_A [mmol/L]": "A"}`.

        **Returns:** `Measurements`.

        **Raises:** `ValueError` for columns that do not exist, cells that are no numbers, and
        columns whose meaning is not clear, each with what to write.
        """
        return cls._from_table(read_table(table, options.get("rename", {})), **options)

    @classmethod
    def _from_table(
        cls,
        table: Table,
        *,
        run: str | None = None,
        time: str | None = None,
        columns: Sequence[str] | None = None,
        sd: Any = None,
        constants: Any = (),
        inputs: Mapping[str, str] | Sequence[str] = (),
        doses: Sequence[Dose] = (),
        start: Any = None,
        long: tuple[str, str] | None = None,
        rename: Mapping[str, str] | None = None,
        decimal: str | None = None,
    ) -> "Measurements":
        del rename  # done while reading
        if long is not None:
            table, names, sd = widened(table, long, sd, run)
            columns = names if columns is None else columns
        own = are_columns(constants, table)
        found = find_columns(
            table,
            run=run,
            time=time,
            columns=columns,
            sd={} if sd is None else sd,
            constants=constants if own else (),
            inputs=inputs,
        )
        runs, values, known = cut_runs(table, found)
        values = values if own else run_constants(constants, tuple(runs), decimal)
        units = tuple(table.units.get(name, "") for name in found.measured)
        return cls._of_runs(runs, found.measured, units, values, known, doses, start)

    @classmethod
    def from_arrays(
        cls,
        ts: Any,
        values: Any,
        *,
        names: Sequence[str] | None = None,
        sd: Any = None,
        constants: Mapping[str, Any] | None = None,
        start: Any = None,
        run_names: Sequence[str] | None = None,
    ) -> "Measurements":
        """Measurements from arrays; NaN marks a cell that was not measured.

        **Arguments:**

        - `ts`: times, `(runs, times)`, or `(times,)` for all runs alike.
        - `values`: `(runs, times, columns)`, or `(times, columns)` for one run.
        - `names`: of the columns; `y1, y2, ...` without.
        - `sd`: standard deviations that broadcast against `values`; NaN where they are not known.
        - `constants`: one number a run, or one for all, by the name of the condition.
        - `start`: time at which the runs start, a number or one a run; their first time without.
        - `run_names`: `"0", "1", ...` without.

        **Returns:** `Measurements`.

        **Raises:** `ValueError` for shapes that do not fit.
        """
        values = real_numbers("values", values)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3:
            raise ValueError(
                f"`values` has shape {values.shape}; it needs (runs, times, columns), or (times, "
                "columns) for one run."
            )
        num_runs, num_times, num_columns = values.shape
        ts = real_numbers("ts", ts)
        if ts.shape not in {(num_times,), (num_runs, num_times)}:
            raise ValueError(
                f"`ts` has shape {ts.shape}; for `values` of shape {values.shape} it needs "
                f"({num_runs}, {num_times}), or ({num_times},) for all runs alike."
            )
        ts = np.broadcast_to(ts, values.shape[:2])
        sd = np.broadcast_to(real_numbers("sd", np.nan if sd is None else sd), values.shape)
        names = [f"y{j + 1}" for j in range(num_columns)] if names is None else names
        names = check_names("`names`", names, num_columns)
        labels = [str(x) for x in (range(num_runs) if run_names is None else run_names)]
        check_run_names(labels, num_runs)
        order = np.argsort(ts, axis=1, kind="stable")
        runs = {
            label: MeasuredRun(t[k], y[k], s[k])
            for label, t, y, s, k in zip(labels, ts, values, sd, order, strict=True)
        }
        given = (constants or {}).items()
        known = {k: per_run(k, real_numbers(k, x), num_runs) for k, x in given}
        return cls._of_runs(runs, names, ("",) * num_columns, known, {}, (), start)

    @classmethod
    def _of_runs(
        cls,
        runs: dict[str, MeasuredRun],
        names: tuple[str, ...],
        units: tuple[str, ...],
        constants: dict[str, Any],
        inputs: dict[str, KnownInput],
        doses: Sequence[Dose],
        start: Any,
    ) -> "Measurements":
        for label, run in runs.items():
            check_cells(label, names, *run, ~np.isnan(run.values))
        longest = max(len(run.ts) for run in runs.values())

        def padded(rows: np.ndarray) -> np.ndarray:
            return np.concatenate([rows, np.repeat(rows[-1:], longest - len(rows), axis=0)])

        ts = np.stack([padded(run.ts) for run in runs.values()])
        values = np.stack([padded(run.values) for run in runs.values()])
        sd = np.stack([padded(run.sd) for run in runs.values()])
        present = np.stack([np.arange(longest) < len(run.ts) for run in runs.values()])
        mask = np.isfinite(values) & present[..., None]
        return cls(
            ts=ts,
            values=np.where(mask, values, 0.0),
            mask=mask,
            sd=np.where(mask & np.isfinite(sd), sd, 0.0),
            starts=run_starts(start, ts[:, 0], tuple(runs)),
            constants=constants,
            inputs=inputs,
            doses=tuple(doses),
            names=names,
            units=units,
            run_names=tuple(runs),
            numbers=tuple(range(len(runs))),
        )

    @classmethod
    def from_trajectories(cls, data: Trajectories) -> "Measurements":
        """All states of every sample as measured columns."""
        mask = np.broadcast_to(np.asarray(data.mask)[..., None], data.ys.shape)
        return cls(
            ts=np.asarray(data.ts),
            values=np.where(mask, data.ys, 0.0),
            mask=np.array(mask),
            sd=np.zeros(data.ys.shape),
            starts=np.asarray(data.ts)[:, 0],
            constants={},
            inputs={},
            doses=(),
            names=data.names,
            units=("",) * len(data.names),
            run_names=data.run_names,
            numbers=tuple(range(len(data))),
        )

    def to_trajectories(self) -> Trajectories:
        """The rows in which everything was measured, as samples of states.

        Standard deviations, an earlier start and constants that all runs share are left out.

        **Raises:** `ValueError` if a row was measured in part, or a time of a run twice, and for
        doses, inputs and constants by which runs differ: what is trained on samples sees none.
        """
        lost = [f"the constant {name!r}" for name, x in self.constants.items() if np.ptp(x) > 0]
        lost += [f"the input {name!r}" for name in self.inputs] + ["doses"] * bool(self.doses)
        if lost:
            raise ValueError(
                f"The measurements have {lost[0]}, of which `Trajectories` know nothing. Fit a "
                "`System`, or read the data without it, as in `columns=['A']`."
            )
        mask = np.asarray(self.mask)
        whole, any_cell = np.all(mask, axis=2), np.any(mask, axis=2)
        partly = np.argwhere(any_cell & ~whole)
        if len(partly):
            i, k = partly[0]
            missing = [x for x, seen in zip(self.names, mask[i, k], strict=True) if not seen]
            raise ValueError(
                f"Run {self.run_names[i]!r} has no value of {', '.join(missing)} at time "
                f"{self.ts[i, k]:g}; `Trajectories` need every state of a sample. "
                "Read only columns that are complete, as in `columns=['A']`."
            )
        ts = [np.asarray(self.ts)[i, whole[i]] for i in range(len(self))]
        ys = [np.asarray(self.values)[i, whole[i]] for i in range(len(self))]
        return Trajectories.from_arrays(ts, ys, names=self.names, run_names=self.run_names)

    def resampled(self, points: int) -> "Measurements":
        """The same runs with rows at equal steps from start to last row, for drawing predictions."""
        last = np.max(np.where(np.any(self.mask, axis=2), self.ts, -np.inf), axis=1)
        ts = np.linspace(np.asarray(self.starts), last, points, axis=1)
        # A system without an initial state starts there. Noise on logarithms refuses zeros.
        first = np.asarray(self.first_values())[:, None]
        values = np.where((ts == ts[:, :1])[:, :, None], first, 1.0)
        mask, sd = np.isfinite(values), np.zeros_like(values)
        return dataclasses.replace(self, ts=ts, values=np.nan_to_num(values), mask=mask, sd=sd)

    def first_values(self) -> Float[Array, "runs columns"]:
        """The mean of what is measured at the start of each run, NaN where nothing is."""
        cells = jnp.asarray(self.mask & (self.ts == self.starts[:, None])[:, :, None])
        count = jnp.sum(cells, axis=1, dtype=float)
        mean = jnp.sum(jnp.where(cells, self.values, 0), axis=1) / jnp.maximum(count, 1)
        return jnp.where(count > 0, mean, jnp.nan)

    def select(self, runs: Any) -> "Measurements":
        """The given runs in the given order: an index, a name, a sequence of either, or a slice.

        They keep their numbers.
        """
        chosen = select_runs(runs, self.run_names)
        labels = tuple(self.run_names[i] for i in chosen)
        rows = {x: getattr(self, x)[chosen] for x in ("ts", "values", "mask", "sd", "starts")}
        return Measurements(
            **rows,
            constants={name: x[chosen] for name, x in self.constants.items()},
            inputs={
                name: KnownInput(x.ts[chosen], x.coefficients[chosen], x.jump_ts[chosen])
                for name, x in self.inputs.items()
            },
            doses=tuple(dose for dose in self.doses if dose.run in labels),
            names=self.names,
            units=self.units,
            run_names=labels,
            numbers=tuple(self.numbers[i] for i in chosen),
        )

    def split(self, held_out: Any) -> tuple["Measurements", "Measurements"]:
        """The runs to fit and the runs held out: a fraction of them, the last ones, or as `select`."""
        out = held_out_runs(held_out, self.run_names)
        kept = [i for i in range(len(self.run_names)) if i not in out]
        return self.select(kept), self.select(out)

    def conditions(self, run: Any) -> Conditions:
        """The conditions of a run, by its name or its index among these data."""
        traced = isinstance(run, jax.Array)
        index = run if traced else jnp.asarray(select_runs(run, self.run_names)[0])
        pick = lambda x: jnp.asarray(x)[index]  # noqa: E731
        return Conditions(
            pick(self.numbers),
            pick(self.starts),
            {name: pick(x) for name, x in self.constants.items()},
            jax.tree.map(lambda x: pick(x)[None], self.inputs),
        )

    @property
    def num_runs(self) -> int:
        """The number of runs."""
        return len(self.run_names)

    @property
    def num_columns(self) -> int:
        """The number of columns."""
        return len(self.names)

    def __len__(self) -> int:
        return self.num_runs

    def __repr__(self) -> str:
        runs = "1 run" if self.num_runs == 1 else f"{self.num_runs} runs"
        pairs = zip(self.names, self.units, strict=True)
        titles = ", ".join(f"{name} [{unit}]" if unit else name for name, unit in pairs)
        if not isinstance(self.ts, np.ndarray):
            return f"Measurements({runs}, columns: {titles})"
        cells, first, last = int(np.sum(self.mask)), self.starts.min(), self.ts.max()
        times = f"t from {first:g} to {last:g}"
        return f"Measurements({runs}, {cells} measured cells, {times}, columns: {titles})"
