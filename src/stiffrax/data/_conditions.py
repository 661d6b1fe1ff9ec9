"""What is known of each run as a whole: constants from a second table, and when it starts."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from jaxtyping import Float

from .._arguments import real_numbers
from ._run_checks import per_run
from ._table import Table, read_csv, read_table


def run_constants(
    source: Any, runs: tuple[str, ...], decimal: str | None
) -> dict[str, Float[np.ndarray, " runs"]]:
    """One number a run for each column of a second table, which names the run in `run`.

    `decimal` is what was said of the first one.
    """
    is_file = isinstance(source, str | PathLike)
    table = read_csv(source, {}, likely=decimal) if is_file else read_table(source, {})
    labels = table.labels("run", "run")
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{table.source} has two rows for the run {label!r}; it needs one.")
    missing = [run for run in runs if run not in labels]
    if missing:
        raise ValueError(
            f"{table.source}, given as `constants`, has no row for the run {missing[0]!r}; it has "
            f"{labels}."
        )
    rows = [labels.index(run) for run in runs]
    constants = {}
    for name in table.columns:
        if name == "run":
            continue
        values = table.numbers("constants", name)[rows]
        for row in np.flatnonzero(~np.isfinite(values)):
            raise ValueError(
                f"{table.locate(rows[int(row)], name)} is empty; a constant is needed."
            )
        constants[name] = values
    return constants


def run_starts(
    start: Any, first: Float[np.ndarray, " runs"], runs: tuple[str, ...]
) -> Float[np.ndarray, " runs"]:
    """The time at which each run starts: a number for all, or one by the name of the run."""
    if start is None:
        return first
    if isinstance(start, Mapping):
        unknown = [name for name in start if name not in runs]
        if unknown:
            raise ValueError(f"`start` names the run {unknown[0]!r}; the runs are {list(runs)}.")
        return np.array([start.get(run, t) for run, t in zip(runs, first, strict=True)], float)
    return per_run("start", real_numbers("start", start), len(runs))


def are_columns(constants: Any, table: Table) -> bool:
    """Whether constants are columns of the table, and not a second one."""
    if isinstance(constants, str) and constants in table.columns:
        raise ValueError(
            f"`constants={constants!r}` was given, which is a column: write "
            f"`constants=[{constants!r}]`. A name alone is that of a file with a second table."
        )
    return isinstance(constants, list | tuple)
