"""Whether the precision of JAX can tell the times of data apart."""

from typing import Any

import jax
import numpy as np

from ._measurements import Measurements

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


def check_measured_times(data: Measurements) -> None:
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
