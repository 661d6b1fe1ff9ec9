"""Measured runs out of arrays: shapes checked, rows sorted, rows that hold nothing dropped."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .._arguments import check_instance, real_numbers
from ._column_names import Renaming, check_sequence
from ._column_roles import input_kinds
from ._measured_runs import MeasuredRun, padded_runs
from ._names import check_run_names, state_names
from ._ragged import along_runs, is_ragged, runs_of
from ._run_checks import per_run
from ._second_tables import check_time_units, run_doses, run_inputs, second_tables


def measurements_from_arrays(
    ts: Any,
    values: Any,
    *,
    names: Sequence[str] | None,
    units: Sequence[str] | None,
    sd: Any,
    constants: Any,
    inputs: Any,
    doses: Any,
    start: Any,
    run_names: Sequence[str] | None,
) -> dict[str, Any]:
    """The fields of `Measurements`."""
    names = check_sequence("names", names, "['A']")
    units = check_sequence("units", units, "['mM']")
    given, _ = runs_of("values", values, 2)
    num_columns = given[0].shape[1]
    times, spreads = along_runs("ts", ts, "values", given)[0], _spreads(sd, given)
    names = state_names(names, num_columns)
    titles = ("",) * num_columns if units is None else _units(units, num_columns)
    if isinstance(run_names, Iterable) and not isinstance(run_names, str):
        run_names = [str(x) for x in run_names]
    labels = check_sequence("run_names", run_names, "['a']")
    labels = [str(i) for i in range(len(given))] if labels is None else labels
    check_run_names(labels, len(given))
    runs = {
        label: _run(t, y, s) for label, t, y, s in zip(labels, times, given, spreads, strict=True)
    }
    needed = "one number a run by the name of the condition"
    write = "constants={'T': [298.0, 310.0]}"
    check_instance("constants", constants, Mapping | None, needed, write)
    known = {k: per_run(k, real_numbers(k, x), len(given)) for k, x in (constants or {}).items()}
    second = second_tables((), _input_kinds(inputs), doses, Renaming(), None)
    check_time_units(None, second.timed(), None)
    functions = run_inputs(second.inputs, labels, None, None)
    given = second.listed
    if second.doses is not None:
        given = run_doses(second.doses, labels, None, None)
    return padded_runs(runs, names, titles, known, functions, given, start)


def _spreads(sd: Any, runs: list[np.ndarray]) -> list[np.ndarray]:
    if is_ragged(sd):
        given = [real_numbers(f"sd[{i}]", x) for i, x in enumerate(sd)]
    else:
        array = real_numbers("sd", np.nan if sd is None else sd)
        given = list(array) if array.ndim == 3 else [array]
    given = given * len(runs) if len(given) == 1 else given
    try:
        return [np.broadcast_to(x, run.shape) for x, run in zip(given, runs, strict=True)]
    except ValueError:
        raise ValueError(
            f"`sd` has shape {[x.shape for x in given]}; it needs a number, one for each column, or "
            f"the shape of `values`, which is {[run.shape for run in runs]}, run by run."
        ) from None


def _run(ts: np.ndarray, values: np.ndarray, sd: np.ndarray) -> MeasuredRun:
    """Rows by time. One that has neither a time nor a value is padding, and no row."""
    rows = np.argsort(ts, kind="stable")
    kept = rows[np.isfinite(ts[rows]) | ~np.isnan(values[rows]).all(axis=1)]
    rows = kept if len(kept) else rows
    return MeasuredRun(ts[rows], values[rows], sd[rows])


def _units(units: Sequence[str], count: int) -> tuple[str, ...]:
    if len(units) != count:
        raise ValueError(
            f"`units={units!r}` was given; it needs one text for each of {count} columns, empty "
            f"where there is none. Write `units={['mM', *[''] * (count - 1)]}`."
        )
    return tuple(units)


def _input_kinds(inputs: Any) -> dict[str, Any]:
    kinds = input_kinds(inputs)
    for name, given in kinds.items():
        if isinstance(given, str):
            raise ValueError(
                f"`inputs` has {name!r} without its rows, and arrays have no columns. Write "
                f"`inputs={{{name!r}: ({given!r}, {{'t': [0.0, 5.0], {name!r}: [0.0, 2.0]}})}}`, or "
                "a file in place of the dictionary."
            )
    return kinds
