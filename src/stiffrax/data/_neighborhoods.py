"""Samples that lie close to each other in the space of states."""

import dataclasses
from typing import Any, NamedTuple, SupportsIndex, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from .._arguments import as_integer, check_count
from ._scaling import ranges_and_sizes, unit_of_rounding
from ._trajectories import Trajectories, check_same_samples, digest_of_samples

_EQUAL_STEPS = 1e-6


@final
class Neighborhoods(eqx.Module):
    """For each center its neighbors, as places in the samples `ys.reshape(-1, n)`.

    `samples` is a digest of these.
    """

    centers: Int[Array, " centers"]
    neighbors: Int[Array, "centers neighbors"]
    dt: float = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    samples: str = eqx.field(static=True)

    def are_of(self, data: Trajectories) -> bool:
        """Whether they were found in the same samples, hidden ones included; not traceable."""
        return self.samples == digest_of_samples(data)

    def check_same_data(self, data: Trajectories) -> None:
        """Raises `ValueError` for other samples than those among which the neighbors were found."""
        if data.ys.shape != self.shape:
            raise ValueError(
                f"Data of shape {data.ys.shape} were given to a loss with neighbors in data of "
                f"shape {self.shape}: leave `batch_size`, `held_out` and `mesh` out, or call "
                "`loss.for_data` for the new data."
            )
        check_same_samples("neighbors", self.samples, data)

    def draw(self, key: Array, centers: int, neighbors: int) -> "Neighborhoods":
        """Random ones of the centers, and of the neighbors of each."""
        check_count("centers", centers)
        most = self.neighbors.shape[1]
        if check_count("neighbors", neighbors) > most:
            raise ValueError(
                f"`neighbors={neighbors}` was given; {most} of each were found: write up to that, "
                "or find more by `num_neighbors`."
            )
        which, whose = jax.random.split(key)
        rows = jax.random.randint(which, (centers, 1), 0, len(self.centers))
        order = jax.random.uniform(whose, (centers, most), jnp.float32)
        columns = jnp.argsort(order, axis=1)[:, :neighbors]
        return dataclasses.replace(
            self, centers=self.centers[rows[:, 0]], neighbors=self.neighbors[rows, columns]
        )

    def future(self, data: Trajectories, steps: int) -> "Future":
        """The samples of these data up to `steps` places after each center and its neighbors."""
        ts, ys, mask = data.arrays
        centers, neighbors = self.following(ys, steps)
        center_times, times = (x[..., 0] for x in self.following(ts[..., None], steps))
        begun, there = (x[..., 0] for x in self.following(mask[..., None], steps))
        return Future(
            starts=(center_times[:, 0], centers[:, 0], neighbors[:, 0]),
            times=times[:, 1:],
            neighbors=neighbors[:, 1:],
            there=begun[:, :1, None] & there[:, :1] & there[:, 1:],
        )

    def following(
        self, ys: Shaped[Array, "runs times n"], steps: int
    ) -> tuple[Shaped[Array, "centers after n"], Shaped[Array, "centers after neighbors n"]]:
        """The samples 0 to `steps` places after the centers and after their neighbors."""
        flat = ys.reshape(-1, ys.shape[-1])
        after = jnp.arange(steps + 1)[None]
        neighbors = self.neighbors[:, None] + after[..., None]
        return flat[self.centers[:, None] + after], flat[neighbors]


@final
class Future(NamedTuple):
    """Times and states of the centers and states of their neighbors, and what became of these.

    `there`: where there is a sample, of the center and of the neighbor at both times.
    """

    starts: tuple[Float[Array, " centers"], Float[Array, "centers n"], Float[Array, "centers k n"]]
    times: Float[Array, "centers steps k"]
    neighbors: Float[Array, "centers steps k n"]
    there: Bool[Array, "centers steps k"]


def find_neighborhoods(
    data: Trajectories,
    num_neighbors: SupportsIndex,
    *,
    steps: int = 1,
    theiler: int = 10,
    annulus: tuple[float, float] | None = None,
    seed: int = 0,
) -> Neighborhoods:
    """The nearest samples of each, or random ones at a distance, each state in units of its own.

    Candidates, as centers, have `steps` samples after them; those less than `theiler` samples away
    in the same run are neighbors in time, not in space, and left out. Exact, by a k-d tree. With an
    annulus, centers with too few samples in it are left out.
    """
    mask = np.asarray(data.mask)
    runs, times = np.nonzero(mask)
    usable = times + steps < mask.sum(axis=1)[runs]
    runs, times = runs[usable], times[usable]
    # Single precision has no squares of 1e-25.
    ys = np.asarray(data.ys, float)
    num_neighbors = _check(data, num_neighbors, len(times), steps)
    places = runs * ys.shape[1] + times
    points = ys[runs, times] / np.std(ys[mask], axis=0)
    if annulus is None:
        most = min(num_neighbors + 2 * theiler + 1, len(points))
        _, found = _tree(points).query(points, k=most)
        lists = list(np.asarray(found))
    else:
        lists = _in_annulus(points, annulus, seed)
    rows, chosen = [], []
    for i, candidates in enumerate(lists):
        candidates = np.asarray(candidates, int)
        apart = (runs[candidates] != runs[i]) | (np.abs(times[candidates] - times[i]) > theiler)
        candidates = candidates[apart & (candidates != i)][:num_neighbors]
        if len(candidates) == num_neighbors:
            rows.append(i)
            chosen.append(candidates)
    if not rows:
        raise ValueError(
            f"No sample has {num_neighbors} neighbors more than {theiler} samples away: give "
            "longer series, fewer `num_neighbors`, a smaller `theiler` or a wider `annulus`."
        )
    return Neighborhoods(
        centers=jnp.asarray(places[rows]),
        neighbors=jnp.asarray(places[np.stack(chosen)]),
        dt=_time_step(data),
        shape=ys.shape,
        samples=digest_of_samples(data),
    )


def _tree(points: np.ndarray) -> Any:
    from scipy.spatial import KDTree

    return KDTree(points)


def _in_annulus(points: np.ndarray, annulus: tuple[float, float], seed: int) -> list[Any]:
    """The places at a distance from each point between two bounds, in random order."""
    tree, rng = _tree(points), np.random.default_rng(seed)
    inner, outer = (tree.query_ball_point(points, radius) for radius in annulus)
    return [
        rng.permutation(np.setdiff1d(far, near)) for near, far in zip(inner, outer, strict=True)
    ]


def _time_step(data: Trajectories) -> float:
    steps = np.concatenate([np.diff(ts) for ts, _ in data])
    times = np.concatenate([ts for ts, _ in data])
    # A hundredth at most: days of a calendar are exact in single precision, and a missing one is none.
    rounding = 4 * float(unit_of_rounding(times)) * np.max(np.abs(times))
    if np.ptp(steps) > _EQUAL_STEPS * steps.mean() + min(rounding, 0.01 * steps.mean()):
        raise ValueError(
            f"The samples are {steps.min():g} to {steps.max():g} apart; neighbors are compared "
            "over equal times. Take equally spaced samples, for example of a `SmoothingSpline`."
        )
    return float(steps.mean())


def _check(data: Trajectories, num_neighbors: Any, candidates: int, steps: int) -> int:
    n = data.num_states
    number = as_integer(num_neighbors)
    if number is None or number < n:
        raise ValueError(
            f"`num_neighbors={num_neighbors!r}` was given; {n} states need {n} neighbors or more "
            f"to show how differences grow in each direction. Write `num_neighbors={4 * n}`."
        )
    if candidates <= number:
        raise ValueError(
            f"The series have {candidates} samples with {steps} more after them; "
            f"`num_neighbors={num_neighbors}` needs more than that: give longer series, or fewer "
            "neighbors or steps."
        )
    constant = np.flatnonzero(ranges_and_sizes(np.asarray(data.ys), np.asarray(data.mask))[0] == 0)
    if constant.size:
        raise ValueError(
            f"State {data.names[constant[0]]} is constant, so that it tells no samples apart: "
            "leave it out."
        )
    return number


def cloud_size(clouds: Float[Array, "*batch points n"]) -> Float[Array, "*batch 1 1"]:
    """The root mean square distance of points from their mean, no gradient."""
    spread = clouds - jnp.mean(clouds, axis=-2, keepdims=True)
    return jax.lax.stop_gradient(
        jnp.sqrt(jnp.mean(jnp.sum(spread**2, axis=-1), axis=-1))[..., None, None]
    )
