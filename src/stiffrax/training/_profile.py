"""Profile likelihoods: how far a parameter can move if all others follow."""

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import Float

from ._box_trust_region import Box, Found, minimize
from ._likelihood_model import LikelihoodModel
from ._lockstep import Search, run_together
from ._progress import progress_bar

# A profile is flat where the cost rises by no more than this: what the tolerances of a solve can
# make of it. Chosen, not measured.
_FLAT = 1e-2
# Points aimed at on each side, the most there, and how far beyond the interval the last one lies.
_POINTS, _MOST_POINTS, _BEYOND = 5, 40, 1.2
# Between points whose costs differ by more than this part of the rise an interval would be guessed,
# which so many shorter strides avoid: a standard error may be four times its interval.
_COARSE, _SHORTER = 0.5, 6
# The largest change from point to point, on the scale of a parameter, and how fast it may grow.
_LARGEST_STRIDE, _GROWTH = 1.0, 2.0
# How one side of a profile ends. Of the last three nothing is known beyond the last point.
_LEVEL, _BOUND = "level", "bound"
_INTERRUPTED, _FAILS = "interrupted", "solves fail before the end"
_NOT_FOLLOWED = "not followed to the end"


@final
class Profile(NamedTuple):
    """The profile likelihood of one parameter.

    **Attributes:**

    - `values`: of the parameter, rising, in its unit.
    - `costs`: the least negative log-likelihood at each.
    - `lower`, `upper`: ends of the interval; a bound of the parameter where the profile does not
        leave the level before it; NaN where neither was reached.
    - `verdict`: `"identifiable"`; `"practically not identifiable"`: the profile stays below the level
        up to a bound on one side or both; `"structurally not identifiable"`: it is flat on both;
        `"a better fit was found"`: on the way the cost fell below that of the fit: fit again from
        there. Where an end is NaN, why: `"interrupted"`; `"solves fail before the end"`; `"not
        followed to the end"`: within forty points, for want of bounds say, or because a fit on the way
        ended by `max_steps`.
    - `level_cost`: the cost at the ends of an interval.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 9)
    >>> data = srx.Measurements.from_arrays(ts, np.exp(-ts)[:, None], names=["A"], sd=0.01)
    >>> system = srx.System(lambda t, y, args: -y, srx.bounded([1.0], 0.0, 2.0), states=["A"])
    >>> found = srx.fit_parameters(system, data, srx.LikelihoodLoss())
    >>> print(found.profile("initial_state[0]")["initial_state[0]"].verdict)
    identifiable

    ```
    """

    values: Float[np.ndarray, " points"]
    costs: Float[np.ndarray, " points"]
    lower: float
    upper: float
    verdict: str
    level_cost: float


@final
class _Side(NamedTuple):
    """One side of a profile, from the best value outwards: points, costs, the end and what it is."""

    xs: list[float]
    costs: list[float]
    end: float
    why: str


def profile_searches(
    model: LikelihoodModel,
    box: Box,
    best: Found,
    index: Sequence[int],
    *,
    rises: Sequence[float],
    errors: Float[np.ndarray, " p"],
    max_steps: int,
    progress: bool | None,
) -> dict[str, Profile]:
    """The profiles of the parameters at `index`, both sides of each in one batch."""
    searches = [
        _side(best, box, i, sign, rise, errors[i], max_steps)
        for i, rise in zip(index, rises, strict=True)
        for sign in (-1.0, 1.0)
    ]
    bar = progress_bar(progress, len(searches), "profile")
    try:
        sides = run_together(searches, model, lambda *_: bar.update())
    finally:
        bar.close()
    found = {}
    for k, i in enumerate(index):
        nothing = _Side([float(best.x[i])], [best.cost], np.nan, _INTERRUPTED)
        low, high = (side or nothing for side in sides[2 * k : 2 * k + 2])
        found[model.vector.names[i]] = _profile(model, best, i, low, high, rises[k])
    return found


def _side(
    best: Found, box: Box, i: int, sign: float, rise: float, error: float, max_steps: int
) -> Search[_Side]:
    wall = box.upper[i] if sign > 0 else box.lower[i]
    held = box._replace(held=(i,))
    start = np.sqrt(2 * rise) * error if np.isfinite(error) else box.scale[i]
    stride = min(start / _POINTS, _LARGEST_STRIDE * box.scale[i])
    here, xs, costs, shorter = best, [float(best.x[i])], [best.cost], 0
    first, why = stride, _NOT_FOLLOWED
    for _ in range(_MOST_POINTS):
        if xs[-1] == wall:
            break
        x = here.x.copy()
        x[i] = np.clip(x[i] + sign * stride, box.lower[i], box.upper[i])
        there = yield from minimize(x, held, max_steps)
        if there.stopped == "interrupted":
            why = _INTERRUPTED
            break
        if there.stopped == "failures":
            stride /= 4
            if stride < 1e-6 * max(first, abs(xs[-1] - xs[0])):
                why = _FAILS
                break
            continue
        gained, wanted = there.cost - here.cost, rise / _POINTS
        if gained > _COARSE * rise and shorter < _SHORTER:
            shorter += 1
            stride *= np.clip(wanted / gained, 1 / 8, 1 / 2)
            continue
        if there.stopped == "steps" and there.cost > best.cost + rise:
            break  # the least cost there may be below the level
        xs.append(float(there.x[i]))
        costs.append(there.cost)
        if there.cost > best.cost + _BEYOND * rise:
            break
        factor = np.clip(wanted / max(gained, 1e-12), 1 / _GROWTH, _GROWTH)
        stride = min(stride * factor, _LARGEST_STRIDE * box.scale[i])
        here = there
    if xs[-1] == wall:
        why = _BOUND
    crossing = _crossing(xs, costs, best.cost + rise)
    if crossing is not None:
        return _Side(xs, costs, crossing, _LEVEL)
    return _Side(xs, costs, xs[-1] if why == _BOUND else np.nan, why)


def _crossing(xs: list[float], costs: list[float], level: float) -> float | None:
    for k in range(1, len(xs)):
        if costs[k] > level:
            # Near a minimum the root of the rise is linear.
            a, b = (np.sqrt(max(c - costs[0], 0.0)) for c in (costs[k - 1], costs[k]))
            part = (np.sqrt(level - costs[0]) - a) / (b - a)
            return xs[k - 1] + part * (xs[k] - xs[k - 1])
    return None


def _profile(
    model: LikelihoodModel, best: Found, i: int, low: _Side, high: _Side, rise: float
) -> Profile:
    xs = np.array(low.xs[:0:-1] + high.xs)
    costs = np.array(low.costs[:0:-1] + high.costs)
    change: Any = np.exp if model.vector.log[i] else np.asarray
    unknown = [why for why in (_INTERRUPTED, _FAILS, _NOT_FOLLOWED) if why in (low.why, high.why)]
    if costs.min() < best.cost - _FLAT:
        verdict = "a better fit was found"
    elif unknown:
        verdict = unknown[0]
    elif low.why == high.why == _LEVEL:
        verdict = "identifiable"
    elif max(low.costs) < best.cost + _FLAT and max(high.costs) < best.cost + _FLAT:
        verdict = "structurally not identifiable"
    else:
        verdict = "practically not identifiable"
    lower, upper = (float(change(side.end)) for side in (low, high))
    return Profile(change(xs), costs, lower, upper, verdict, best.cost + rise)
