"""What must hold of measured runs, and of one number for each, whoever makes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from .._arguments import real_numbers
from ._names import check_names, check_run_names
from ._run_conditions import Dose

# The part of a gap between two times that rounding may take, of either sign: 1e5 equal steps from zero
# pass, of which it takes `1e5 * 2**-23`. Chosen, not measured.
_OF_A_GAP = 1.3e-2


def check_time_precision(times: Any, present: Any, names: tuple[str, ...]) -> None:
    """Refuses times that are rounded by too much of what lies between them on the way to JAX.

    A segment between two samples at one time fits any model; one that is longer than measured gives
    another rate. Times are sorted in each run; what is traced, or an array of JAX, is not looked at.
    """
    if not (isinstance(times, np.ndarray) and isinstance(present, np.ndarray)):
        return
    dtype = jax.dtypes.canonicalize_dtype(times.dtype)
    if dtype == times.dtype:
        return
    for name, ts, some in zip(names, times, present, strict=True):
        ts = ts[some]
        gaps, rounded = np.diff(ts), np.diff(ts.astype(dtype).astype(ts.dtype))
        lost = np.flatnonzero(np.abs(rounded - gaps) > _OF_A_GAP * gaps)
        if len(lost):
            k = int(lost[0])
            raise ValueError(
                f"The times {float(ts[k])} and {float(ts[k + 1])} of run {name!r} are {gaps[k]:.6g} "
                f"apart, and {rounded[k]:.6g} in {np.dtype(dtype).name}. Let times begin at zero, "
                '`ts - ts[0]`, or write `jax.config.update("jax_enable_x64", True)`.'
            )


def check_measured_times(data: Any) -> None:
    """The same of the times of measurements, starts and doses: what is next to one is not at it.

    Of inputs too: a pulse must keep its width.
    """
    if not all(isinstance(x, np.ndarray) for x in (data.ts, data.mask, data.starts)):
        return
    if jax.dtypes.canonicalize_dtype(data.ts.dtype) == data.ts.dtype:
        return
    doses: dict[str, list[float]] = {}
    for dose in data.doses:
        doses.setdefault(dose.run, []).append(dose.time)
    for i, name in enumerate(data.run_names):
        measured = np.asarray(data.ts)[i][np.asarray(data.mask)[i].any(axis=-1)]
        known = [np.asarray(x.jump_ts)[i] for x in data.inputs.values()]
        known.append(np.concatenate([measured, np.asarray(data.starts)[[i]], doses.get(name, [])]))
        for times in known:
            times = np.unique(times[np.isfinite(times)])
            check_time_precision(times[None], np.ones((1, len(times)), bool), (name,))


def check_runs(data: Any) -> None:
    """Refuses `Measurements` whose parts do not fit together; their arrays are NumPy's."""
    check_names("`names`", data.names)
    runs, times = data.ts.shape
    shape = (runs, times, len(data.names))
    for name in ("values", "mask", "sd"):
        given = getattr(data, name).shape
        if given != shape:
            raise ValueError(
                f"`{name}` has shape {given}, but (runs, times, columns) = {shape} is needed: "
                "`Measurements.from_arrays` brings arrays into this form."
            )
    check_run_names(data.run_names, runs)
    for name, given in {"numbers": data.numbers, "starts": data.starts, **data.constants}.items():
        if not np.isfinite(per_run(name, given, runs)).all():
            raise ValueError(f"`{name}` is {given}, run by run; it needs finite numbers.")
    for i, label in enumerate(data.run_names):
        _check_times(label, data.ts[i], data.mask[i].any(axis=1), float(data.starts[i]))
        sd = np.where(data.sd[i] == 0, np.nan, data.sd[i])
        check_cells(label, data.names, data.ts[i], data.values[i], sd, data.mask[i])
    for j, name in enumerate(data.names):
        _check_spreads(data, j, name)
    for dose in data.doses:
        _check_dose(data, dose)
    for name, known in data.inputs.items():
        if name in data.constants:
            raise ValueError(
                f"`constants` and `inputs` have {name!r}, of which `args[{name!r}]` would be the "
                "constant: rename one, or leave it out."
            )
        _check_input(data, name, known)


def per_run(name: str, given: Any, runs: int) -> np.ndarray:
    """One number for each run, from these or one for all."""
    given = np.asarray(given)
    if given.shape not in {(), (runs,)}:
        raise ValueError(
            f"`{name}` has shape {given.shape}; it needs one number, or ({runs},), one for each run."
        )
    return np.broadcast_to(given, runs)


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
        given = [start.get(run, t) for run, t in zip(runs, first, strict=True)]
        return real_numbers("start", given)
    return per_run("start", real_numbers("start", start), len(runs))


def check_cells(
    label: str,
    names: Sequence[str],
    ts: np.ndarray,
    values: np.ndarray,
    sd: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Refuses infinite values, and standard deviations that are not positive; NaN is none given."""
    spread = np.isnan(sd) | (np.isfinite(sd) & (sd > 0))
    bad = np.argwhere(mask & ~(np.isfinite(values) & spread))
    if len(bad):
        k, j = bad[0]
        raise ValueError(
            f"Run {label!r} has the value {values[k, j]} with standard deviation {sd[k, j]} of "
            f"{names[j]!r} at time {ts[k]:g}; both must be finite, and the standard deviation "
            "positive, or left out."
        )


def _check_times(label: str, ts: np.ndarray, measured: np.ndarray, start: float) -> None:
    if not measured.any():
        raise ValueError(f"Run {label!r} has no measured cell: leave it out.")
    first = ts[measured].min()
    if not np.isfinite(ts).all():
        raise ValueError(
            f"Run {label!r} starts at {start:g} and has rows at {ts.tolist()}; times are finite."
        )
    if np.any(np.diff(ts) < 0):
        raise ValueError(
            f"Run {label!r} has rows at {ts.tolist()}, which go back: `Measurements.from_arrays` "
            "sorts them."
        )
    if start > first:
        raise ValueError(
            f"Run {label!r} starts at {start:g}, after its first measurement at {first:g}. Give an "
            "earlier `start`."
        )


def _check_spreads(data: Any, j: int, name: str) -> None:
    """Zero is unknown. One spread estimated from a few cells alone would make the fit exact there."""
    mask, known = data.mask[:, :, j], data.sd[:, :, j] > 0
    missing = np.argwhere(mask & ~known)
    if len(missing) and np.any(mask & known):
        i, k = missing[0]
        raise ValueError(
            f"Column {name!r} has standard deviations, but not in run {data.run_names[i]!r} at time "
            f"{data.ts[i, k]:g}. Give one for each of its values (the pooled one of the others, say), "
            "leave that value out, or give none to have one estimated for the column."
        )


def check_dose(dose: Any) -> Dose:
    """The dose with numbers of Python; what is none is refused."""
    if not isinstance(dose, Dose):
        raise ValueError(
            f"`doses` has {dose!r}; it needs doses. Write `srx.Dose(run='a', time=2.0, state='drug', "
            "amount=50.0)`, or give a table of doses."
        )
    *sizes, seen = (np.asarray(x) for x in (dose.time, dose.amount, dose.keeps, dose.seen))
    are_numbers = all(x.ndim == 0 and x.dtype.kind in "iuf" and np.isfinite(x) for x in sizes)
    if not are_numbers or seen.ndim or seen.dtype.kind not in "biuf" or seen not in (0, 1):
        raise ValueError(
            f"`doses` has {dose!r}; time and amount are finite numbers, as `keeps` is, and `seen` is "
            "true or false."
        )
    time, amount, keeps = map(float, sizes)
    return Dose(dose.run, time, dose.state, amount, bool(seen), keeps)


def _check_dose(data: Any, dose: Any) -> None:
    check_dose(dose)
    if dose.run not in data.run_names:
        raise ValueError(
            f"`doses` has one for the run {dose.run!r}; the runs are {data.run_names}."
        )
    start = data.starts[data.run_names.index(dose.run)]
    if not dose.time >= start:
        raise ValueError(
            f"Run {dose.run!r} has a dose at time {dose.time:g}, before it starts at {start:g}, and "
            f"would not get it. Write `start={dose.time:g}`, with the initial state of that time."
        )


def _check_input(data: Any, name: str, known: Any) -> None:
    """Refuses an input that changes, and of which nothing says what it was when the run started."""
    for i in np.flatnonzero(known.ts[:, 0] > data.starts):
        rows = known.coefficients[i, np.isfinite(known.ts[i])]
        if np.any(rows != [rows[0, 0], 0, 0, 0]):
            raise ValueError(
                f"Run {data.run_names[i]!r} starts at {data.starts[i]:g}, and the first row of its "
                f"input {name!r} is at {known.ts[i, 0]:g}. Write a row of it at the start or before: "
                "zero, if nothing was fed."
            )
