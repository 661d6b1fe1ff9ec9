"""Estimates the parameters of a system from measurements, from many starts."""

import contextlib
from os import PathLike
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from .._arguments import check_count
from ..losses import check_cells_to_fit, check_measurements, check_system, with_states
from ._box_trust_region import Box, Found, Hops
from ._checkpoint import StartStore
from ._likelihood_model import LikelihoodModel
from ._lockstep import run_together
from ._parameter_fit import ParameterFit
from ._parameter_vector import ParameterVector
from ._progress import progress_bar

# So many other points are drawn in place of a start at which a solve fails.
_DRAWS = 10


def fit_parameters(
    system: Any,
    data: Any,
    loss: Any,
    *,
    starts: int = 1,
    hops: int = 0,
    key: Any = None,
    max_steps: int = 200,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool | None = None,
) -> ParameterFit:
    r"""Estimates the parameters of a system by maximum likelihood, between bounds, from many starts.

    $$\min_\theta \; -\log p(\mathrm{data} \mid \theta) + \mathrm{penalties}(\theta), \qquad
      lower \le \theta \le upper$$

    Each search is Gauss-Newton (Fisher scoring) in a box around the current point that grows and
    shrinks with success, cut by the bounds; derivatives are forward sensitivities. Several searches
    are evaluated in one batch; one whose solves fail disturbs no other. A point at which a solve
    fails is never accepted.

    **Arguments:**

    - `system`: a [`stiffrax.System`][]; what is fitted are its floating-point arrays, wrapped by
        [`stiffrax.positive`][] or [`stiffrax.bounded`][] or plain, but not those that are
        [`stiffrax.fixed`][].
    - `data`: [`stiffrax.Measurements`][], or trajectories.
    - `loss`: a [`stiffrax.LikelihoodLoss`][], or one with terms added to it, such as
        `loss + penalty` with a function `penalty(system, data)`, which takes values from
        `paramax.unwrap(system)`.
    - `starts`: how many searches. A single one begins at the values given. Of several none does: they
        begin at points of a Latin hypercube between the bounds, on the scale of each parameter; only
        plain arrays, and parameters without two bounds, begin where they are given. To go on from
        the parameters of another fit, write `starts=1`.
    - `hops`: how often a search goes on from the minimum it found: some parameters are drawn anew,
        the best of three such points is searched from, and the lower minimum kept. Each costs about
        what a start costs.
    - `key`: a JAX random key for starts and hops.
    - `max_steps`: the most steps of a search, and of each hop.
    - `checkpoint`: a file that keeps the searches that have ended. If it is there, they are not
        done again, but for those that ended by fewer `max_steps`. System, loss and data with their
        conditions are compared, functions by their names alone: what a vector field computes is
        not, give another one another file.
    - `progress`: shows a bar; by default on a terminal with tqdm installed.

    **Returns:** a [`stiffrax.ParameterFit`][]: the best search of those without failures, how each
    ended, standard errors, intervals, profiles. Ctrl-C ends the search and returns what it has.

    **Raises:** `ValueError` without parameters, for hops or more starts than one without a key or
    bounds, for a column of equal values whose standard deviation is not known, and if every search
    begins where a solve fails.

    Cost: a step of a search costs one solve with `p` forward sensitivities of every run.

    ```python
    >>> import equinox as eqx, jax.numpy as jnp, numpy as np, stiffrax as srx
    >>> class Decay(eqx.Module):
    ...     k: object
    ...     def __call__(self, t, y, args):
    ...         return -self.k * y
    >>> ts = np.linspace(0.0, 2.0, 9)
    >>> data = srx.Measurements.from_arrays(ts, np.exp(-3 * ts)[:, None], names=["A"], sd=0.01)
    >>> system = srx.System(Decay(srx.positive(1.0, 0.01, 100.0)), jnp.ones(1), states=["A"])
    >>> found = srx.fit_parameters(system, data, srx.LikelihoodLoss())
    >>> print(f"{found.values['field.k']:.3f}")
    3.000

    ```
    """
    starts, hops = check_count("starts", starts), check_count("hops", hops, least=0)
    max_steps = check_count("max_steps", max_steps)
    check_system(system)
    data = check_measurements(data)
    system = with_states(system, data)
    vector = ParameterVector(system)
    model = LikelihoodModel(vector, loss, data)
    check_cells_to_fit(model.likelihood, system, data)
    rng = random_numbers(vector, starts, hops, key)
    points = draw_starts(vector, starts, rng)
    box = Box(vector.lower, vector.upper, vector.scale, vector.guessed)
    seed: Any = rng.bit_generator.seed_seq
    store = StartStore(checkpoint, vector, data, loss, points, (hops, seed.entropy), max_steps)
    todo = [i for i in range(starts) if i not in store.found]
    bar = progress_bar(progress, starts, "fit_parameters")
    bar.update(starts - len(todo))

    def on_result(place: int, found: Found) -> None:
        store.add(todo[place], found)
        costs = [one.cost for one in store.found.values()]
        bar.set_postfix_str(f"best {min(costs):.4f}")
        bar.update()

    own = rng.spawn(starts)
    searches = [Hops(hops, own[i]).search(points[i], box, max_steps) for i in todo]
    try:
        run_together(searches, model, on_result)
    finally:
        bar.close()
    return ParameterFit.of(model, box, [store.found.get(i) for i in range(starts)])


def random_numbers(
    vector: ParameterVector, starts: int, hops: int, key: Any
) -> np.random.Generator:
    """Random numbers from a key, which one start without hops does without."""
    if starts == 1 and hops == 0:
        return np.random.default_rng(0)
    asked = f"hops={hops}" if starts == 1 else f"starts={starts}"
    if key is None:
        raise ValueError(
            f"`{asked}` was given without a key to draw them by. Write `key=jax.random.key(0)`."
        )
    if not _bounded(vector).any():
        raise ValueError(
            f"`{asked}` was given, and no parameter has two bounds to draw them between: "
            f"{vector.names}. Write `srx.positive(value, lower, upper)`, or leave "
            f"`{asked.partition('=')[0]}` out."
        )
    with contextlib.suppress(TypeError, ValueError):  # of numbers, generators, and several keys
        return np.random.default_rng(np.asarray(jax.random.bits(key, (4,), "uint32")).tolist())
    raise ValueError(
        f"`key` is a {type(key).__name__}; one key is needed. Write `key=jax.random.key(0)`, with a "
        "number of your own."
    )


def _bounded(vector: ParameterVector) -> Bool[np.ndarray, " p"]:
    return np.isfinite(vector.lower) & np.isfinite(vector.upper)


def draw_starts(
    vector: ParameterVector, starts: int, rng: np.random.Generator
) -> Float[np.ndarray, "starts draws p"]:
    """Where the searches begin, with others in case that nothing can be solved there."""
    if starts == 1:
        return vector.start[None, None]
    from scipy.stats import qmc

    bounded = _bounded(vector)
    draws = np.empty((_DRAWS, starts, len(vector)))
    draws[:] = vector.start
    sampler = qmc.LatinHypercube(int(bounded.sum()), rng=rng)
    low, high = vector.lower[bounded], vector.upper[bounded]
    for k in range(_DRAWS):
        draws[k][:, bounded] = low + (high - low) * sampler.random(starts)
    return draws.transpose(1, 0, 2)
