"""Measured runs of any length, and how they become the padded arrays of `Measurements`."""

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np

from ._known_input import KnownInput
from ._ragged import stacked
from ._run_checks import check_cells, check_dose, run_starts


@final
class MeasuredRun(NamedTuple):
    """The rows of one run, sorted by time. Cells that were not measured are NaN."""

    ts: np.ndarray
    values: np.ndarray
    sd: np.ndarray


def padded_runs(
    runs: dict[str, MeasuredRun],
    names: tuple[str, ...],
    units: tuple[str, ...],
    constants: dict[str, Any],
    inputs: dict[str, KnownInput],
    doses: Sequence[Any],
    start: Any,
    numbers: Sequence[int] | None = None,
) -> dict[str, Any]:
    """The fields of `Measurements`; shorter runs repeat their last time. Numbers count runs up."""
    for label, run in runs.items():
        check_cells(label, names, *run, ~np.isnan(run.values))
    ts, values, sd = (stacked(x) for x in zip(*runs.values(), strict=True))
    present = stacked([np.ones(len(run.ts), bool) for run in runs.values()], False)
    mask = np.isfinite(values) & present[..., None]
    return {
        "ts": ts,
        "values": np.where(mask, values, 0.0),
        "mask": mask,
        "sd": np.where(mask & np.isfinite(sd), sd, 0.0),
        "starts": run_starts(start, ts[:, 0], tuple(runs)),
        "constants": constants,
        "inputs": inputs,
        "doses": tuple(map(check_dose, doses)),
        "names": names,
        "units": units,
        "run_names": tuple(runs),
        "numbers": tuple(range(len(runs)) if numbers is None else numbers),
    }
