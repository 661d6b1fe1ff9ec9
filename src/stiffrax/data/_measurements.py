"""Measurements: what was measured of a system, cell by cell, under which conditions."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from os import PathLike
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import check_count, check_instance
from ._derived_measurements import joined, resampled
from ._fields_of_measurements import (
    measurements_from_arrays,
    measurements_from_tables,
    renaming_of,
)
from ._frame_table import read_table
from ._known_input import KnownInput
from ._names import held_out_runs, select_runs
from ._run_checks import check_runs
from ._run_conditions import Conditions, Dose
from ._text_table import read_csv
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
    - `names`, `units`: of the columns; a unit is empty where none is known. Those of times, constants
        and inputs are not kept: data sets that meet later must have the same.
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
        path: Any,
        *,
        separator: str | None = None,
        decimal: str | None = None,
        **options: Any,
    ) -> "Measurements":
        """Measurements from a text file with the names of the columns in its first row.

        Separator, decimal comma, comment lines (`#`) and encoding are found. A name may carry its
        unit, `c_A [mmol/L]`: the column is `c_A`. Empty cells, `NaN` and `NA` are not measured. Runs
        without a measured cell are left out, with a warning; the others keep their numbers.

        **Arguments:**

        - `path`: the file, or a list of files. Of several, one without a column of runs is a run of
            the name of its file, `a` for `a.csv`.
        - `separator`: `","`, `";"`, a tab or a space, where it is not found.
        - `decimal`: `"."` or `","`, where it is not found; that of a second table if it is unclear.
        - `options`: those of [`stiffrax.Measurements.from_table`][].

        **Returns:** `Measurements`.

        **Raises:** `ValueError` naming row and column for a cell that is no number, and as
        `from_table` does.
        """
        columns = renaming_of("from_csv", options, "separator", "decimal")
        if hasattr(path, "read"):
            raise ValueError(
                "`path` is an open file; it needs the name of one. Write `path='assay.csv'`, or read "
                "the text with pandas or Polars and write `Measurements.from_table(frame)`."
            )
        one = isinstance(path, str | PathLike)
        paths = [path] if one or not isinstance(path, Iterable) else list(path)
        for x in paths:
            check_instance("path", x, str | PathLike, "the name of a file", "path='assay.csv'")
        read = partial(read_csv, renaming=columns, separator=separator, decimal=decimal)
        # No comprehension, which may be a frame of its own: warnings name the line of the user.
        tables = list(map(read, paths))
        return cls(**measurements_from_tables(tables, columns, decimal, not one, **options))

    @classmethod
    def from_table(cls, table: Any, **options: Any) -> "Measurements":
        """Measurements from a data frame, or from a dictionary of columns.

        **Arguments:**

        - `table`: a pandas or Polars data frame, or a mapping from names to columns. `None` and NaN
            are not measured.
        - `run`: the column that names the run; `run`, `Run` or `RUN` where there is one, else all rows
            are one. A column of another name that seems to tell runs apart is refused.
        - `time`: the column of times; without, the only one named `t`, `time`, `Time` or `TIME`.
        - `columns`: what is measured. Without, all columns that are left; one among these that looks
            like a standard deviation, a condition or an input is refused.
        - `sd`: standard deviations in the unit of what is measured: `{"A": "A_sd"}` names a column,
            `{"A": 0.1}` gives a number for all rows, `0.1` one for all columns.
        - `constants`: columns that have one value in each run, or a second table (a data frame, a
            mapping or a CSV file) with one row a run, or one for all. It names the run as the first
            table does, or in `run`.
        - `inputs`: columns that are known functions of time, `{"feed": "step"}`, or `"linear"` or
            `"cubic"` between rows; in a list all are linear. `{"feed": ("step", "feeds.csv")}` reads
            one from a table of its own, with its times, and leaves a column `feed` of the first out.
        - `doses`: [`stiffrax.Dose`][] of each amount that is added to a state, or a table with a row
            a dose, of the columns `run`, `t`, `state`, `amount`, and where wanted `seen` or `keeps`;
            without `run` each run gets all.
        - `start`: time at which the runs start, a number or one for each run by its name; by default
            the first row of the run.
        - `long`: `("species", "value")` for a table with one row a measurement: the columns that hold
            the name and the value. `sd` is then the column of standard deviations.
        - `rename`: new names for columns, `{"c_A [mmol/L]": "A"}`, of second tables too, and for the
            names of a long table.
        - `ignore`: columns that are left out, of second tables too, and names of a long table, as they
            are written, with their units or without.

        **Returns:** `Measurements`.

        **Raises:** `ValueError` for columns that do not exist, cells that are no numbers, times of
        second tables in another unit, and columns whose meaning is not clear, each with what to write.

        ```python
        >>> import stiffrax as srx
        >>> table = {"run": ["a", "a", "b", "b"], "t": [0, 1, 0, 1], "A": [1.0, 0.6, 2.0, 1.1]}
        >>> doses = {"run": ["b"], "t": [0.5], "state": ["A"], "amount": [0.2]}
        >>> feed = ("step", {"t": [0.0, 0.5], "feed": [0.0, 3.0]})
        >>> data = srx.Measurements.from_table(
        ...     table, constants={"T": 298.0}, inputs={"feed": feed}, doses=doses
        ... )
        >>> data.doses
        (Dose(run='b', time=0.5, state='A', amount=0.2, seen=False, keeps=1.0),)

        ```
        """
        columns = renaming_of("from_table", options)
        return cls(**measurements_from_tables([read_table(table, columns)], columns, **options))

    @classmethod
    def from_arrays(
        cls,
        ts: Any,
        values: Any,
        *,
        names: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        sd: Any = None,
        constants: Any = None,
        inputs: Any = None,
        doses: Any = (),
        start: Any = None,
        run_names: Sequence[str] | None = None,
    ) -> "Measurements":
        """Measurements from arrays; NaN marks a cell that was not measured.

        **Arguments:**

        - `ts`: times, `(runs, times)`, or `(times,)` for all runs alike, or a list of one array a run.
        - `values`: `(runs, times, columns)`, or `(times, columns)` for one run, or a list of one such
            array a run. A row of which neither a value nor the time is finite is left out.
        - `names`: of the columns; `y1, y2, ...` without.
        - `units`: of the columns, one text each.
        - `sd`: standard deviations that broadcast against `values`; NaN throughout columns of
            which they are not known.
        - `constants`: one number a run, or one for all, by the name of the condition.
        - `inputs`: known functions of time, each by its name as a pair of `"step"`, `"linear"` or
            `"cubic"` and a table with its times, as `from_table` takes.
        - `doses`: as `from_table` takes.
        - `start`: time at which the runs start, a number or one a run; their first time without.
        - `run_names`: `"0", "1", ...` without.

        **Returns:** `Measurements`.

        **Raises:** `ValueError` for shapes that do not fit.

        ```python
        >>> import stiffrax as srx
        >>> feed = ("step", {"run": ["0", "0", "1"], "t": [0.0, 2.0, 0.0], "feed": [0.0, 3.0, 1.0]})
        >>> srx.Measurements.from_arrays(
        ...     [[0.0, 1.0, 2.0], [0.0, 4.0]],
        ...     [[[1.0], [0.5], [0.2]], [[2.0], [0.1]]],
        ...     names=["A"],
        ...     units=["mM"],
        ...     inputs={"feed": feed},
        ...     doses=[srx.Dose("1", 1.0, "A", 0.5)],
        ... )
        Measurements(2 runs, 5 measured cells, t from 0 to 4, columns: A [mM])

        ```
        """
        return cls(
            **measurements_from_arrays(
                ts,
                values,
                names=names,
                units=units,
                sd=sd,
                constants=constants,
                inputs=inputs,
                doses=doses,
                start=start,
                run_names=run_names,
            )
        )

    @classmethod
    def from_trajectories(cls, data: Trajectories) -> "Measurements":
        """All states of every sample as measured columns."""
        ts, ys = map(list, zip(*data, strict=True))
        found = cls.from_arrays(ts, ys, names=data.names, run_names=data.run_names)
        return dataclasses.replace(found, numbers=data.numbers)

    def to_trajectories(self) -> Trajectories:
        """The rows in which everything was measured, as samples of states.

        Standard deviations, an earlier start and constants that all runs share are left out.

        **Raises:** `ValueError` if a row was measured in part, or a time of a run twice, and for
        doses, inputs and constants by which runs differ: what is trained on samples sees none.
        """
        lost = [f"the constant {name!r}" for name, x in self.constants.items() if np.ptp(x) > 0]
        lost += [f"the input {name!r}" for name in self.inputs]
        if self.doses:
            lost.append("doses")
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
                "Read only columns that are complete, as in `columns=['A']`, or leave these rows out; "
                f"to keep them, fit a `System(Polynomial({self.num_columns}, 2))`."
            )
        ts = [np.asarray(self.ts)[i, whole[i]] for i in range(len(self))]
        ys = [np.asarray(self.values)[i, whole[i]] for i in range(len(self))]
        found = Trajectories.from_arrays(ts, ys, names=self.names, run_names=self.run_names)
        return dataclasses.replace(found, numbers=self.numbers)

    def resampled(self, points: int, *, log_time: bool = False) -> "Measurements":
        """The same runs with equal steps from start to last row besides their own, to draw at.

        With `log_time` the steps are equal on a logarithmic axis of the time since the start.
        """
        return resampled(self, check_count("points", points, least=2), log_time)

    def first_values(self) -> Float[Array, "runs columns"]:
        """The mean of what is measured at the start of each run, NaN where nothing is."""
        cells = jnp.asarray(self.mask & (self.ts == self.starts[:, None])[:, :, None])
        count = jnp.sum(cells, axis=1, dtype=float)
        mean = jnp.sum(jnp.where(cells, self.values, 0), axis=1) / jnp.maximum(count, 1)
        return jnp.where(count > 0, mean, jnp.nan)

    def join(self, *others: Any) -> "Measurements":
        """The runs of these and of other measurements, with the columns of all.

        Runs keep their numbers where all of them differ, as after `split`; else those of the others
        are numbered on from the greatest number of these. Arrays by run need a row for each number:
        after `split` a part does not know of the runs held out, whose numbers others would get.

        **Raises:** `ValueError` for runs of equal names, columns in different units, and constants
        and inputs that some have and others have not.

        ```python
        >>> import stiffrax as srx
        >>> a = srx.Measurements.from_arrays([0.0, 1.0], [[1.0], [0.5]], names=["A"], run_names=["a"])
        >>> b = srx.Measurements.from_arrays([0.0, 3.0], [[2.0], [0.4]], names=["B"], run_names=["b"])
        >>> a.join(b)
        Measurements(2 runs, 4 measured cells, t from 0 to 3, columns: A, B)

        ```
        """
        for other in others:
            needed = "`stiffrax.Measurements`"
            check_instance("others", other, Measurements, needed, "data.join(more)")
        return Measurements(**joined([self, *others]))

    def select(self, runs: Any) -> "Measurements":
        """The given runs in the given order: an index, a name, a sequence of either, or a slice.

        They keep their numbers.
        """
        chosen = select_runs(runs, self.run_names)
        labels = tuple(self.run_names[i] for i in chosen)
        return dataclasses.replace(
            jax.tree.map(lambda x: x[chosen], self),
            doses=tuple(dose for dose in self.doses if dose.run in labels),
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

        def pick(x: Any) -> Array:
            return jnp.asarray(x)[index]

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
