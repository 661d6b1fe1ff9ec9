"""The error of neighbors predicted from the tangent flow of a center."""

from collections.abc import Callable
from typing import Any, ClassVar, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax import lax
from jaxtyping import Array, Bool, Float

from .._arguments import check_choice, check_count
from .._trees import is_none
from ..data import Neighborhoods, Trajectories, cloud_size, find_neighborhoods
from ..solvers import FixedStepFlow, predict_lanes
from ._error_measures import AbstractErrorMeasure, ScaledMSE
from ._loss import AbstractLoss, LossValue, check_parts
from ._model_and_data import check_data, check_known_data, check_model

# The second order is taken by central differences over this share of the way to the neighbor. It adds
# a hundredth of the third order, which the series leaves out; a smaller share costs digits in single
# precision. Nested derivatives took twice as long for one neighbor (docs/benchmarks/jacobians.md).
_SHARE = 0.1


@final
class NeighborhoodLoss(AbstractLoss):
    r"""The error of neighbors, predicted by the Taylor series of the flow about their centers.

    $$\frac{1}{N} \sum_{i, j} \sum_{k=1}^{s} \left| y_{j+k} - \hat y_{i+k} - \delta_{k} \right|^2,
    \qquad \delta_k = D\Phi_k \, \delta_0 + \tfrac12 D^2\Phi_k [\delta_0, \delta_0],
    \quad \delta_0 = y_j - y_i$$

    over the samples `i` and their neighbors `j`, with `\Phi_k` the model's flow over `k` sampling
    times. The model learns its Jacobian in the directions in which neighbors differ; across an
    attractor [`stiffrax.RoughnessPenalty`][] helps. Add it to a loss of the samples:
    `SegmentLoss(window=5) + NeighborhoodLoss()`.

    Neighbors are found once, when the loss meets its data. Training loops of one's own may
    [draw][stiffrax.NeighborhoodLoss.draw] some for each step.

    **Arguments:**

    - `num_neighbors`: of each sample; at least the number of states.
    - `steps`: `s`, the sampling times of a prediction.
    - `order`: 1 or 2, of the Taylor series; the second by central differences over a tenth of
        `\delta_0`.
    - `solver`, `substeps`: of each sampling time, in equal steps; `diffrax.Tsit5` by default.
    - `theiler`: samples so close in time are no neighbors.
    - `annulus`: take random neighbors at a distance between these two, in standard deviations,
        instead of the nearest.
    - `distributions`: compare the clouds of predicted and measured neighbors as wholes, by their
        maximum mean discrepancy with a Gaussian kernel of the width of the cloud.
    - `measure`: how errors count; [`stiffrax.ScaledMSE`][] by default. Of `distributions` it is the
        scale alone. A function `weight(t, y)` gets the neighbor's measured sample.

    Predictions count of which all three samples are there: the center, its neighbor, and what becomes
    of that.

    **Raises:** `ValueError` for fewer neighbors than states, series that are too short, constant or
    not equally spaced, minibatches, and `distributions` with weights or another measure.

    Cost: `n` or `num_neighbors` jvps of the flow a sample, whatever is less; with `order=2` two
    solves a neighbor; once more, without derivatives, to find what fails under explicit solvers.

    ??? cite "Reference"
        Sano and Sawada, *Measurement of the Lyapunov spectrum from a chaotic time series*, Physical
        Review Letters 55 (1985), of local linear models, which this makes one of the whole.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 11)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[None, :, None] * [[[1.0]], [[2.0]]])
    >>> loss = srx.NeighborhoodLoss(num_neighbors=3, steps=2, theiler=0)
    >>> bool(loss(lambda t, y, args: -y, data) < 1e-10)
    True

    ```
    """

    num_neighbors: int
    steps: int
    order: int
    solver: diffrax.AbstractSolver
    substeps: int
    theiler: int
    annulus: tuple[float, float] | None
    distributions: bool
    measure: AbstractErrorMeasure
    neighborhoods: Neighborhoods | None
    is_of_one_data_set: ClassVar[bool] = True

    def __init__(
        self,
        num_neighbors: int = 25,
        *,
        steps: int = 1,
        order: int = 1,
        solver: diffrax.AbstractSolver | None = None,
        substeps: int = 1,
        theiler: int = 10,
        annulus: tuple[float, float] | None = None,
        distributions: bool = False,
        measure: AbstractErrorMeasure | None = None,
    ):
        check_choice("NeighborhoodLoss", "order", order, 1, 2)
        if annulus is not None and not (np.shape(annulus) == (2,) and 0 <= annulus[0] < annulus[1]):
            raise ValueError(
                f"`annulus={annulus}` was given; it needs two distances in increasing order: "
                "write `annulus=(0.6, 0.8)`."
            )
        self.num_neighbors = check_count("num_neighbors", num_neighbors)
        self.steps = check_count("steps", steps)
        self.order = order
        self.solver = diffrax.Tsit5() if solver is None else solver
        self.substeps = check_count("substeps", substeps)
        self.theiler = check_count("theiler", theiler, least=0)
        self.annulus = annulus
        self.distributions = distributions
        self.measure = ScaledMSE() if measure is None else measure
        check_parts(solver=self.solver, measure=self.measure)
        if distributions and not (
            isinstance(self.measure, ScaledMSE) and self.measure.weight is None
        ):
            raise ValueError(
                "`distributions=True` was given with weights or a measure other than `ScaledMSE`; "
                "clouds are compared as wholes, of which the measure gives the scale alone. Write "
                "`measure=ScaledMSE(scale)`."
            )
        self.neighborhoods = None

    def for_data(self, data: Trajectories) -> "NeighborhoodLoss":
        """This loss with its scale and its neighbors, those drawn if it has some of the same data."""
        found, data = self.neighborhoods, check_known_data(data)
        if found is None or not found.are_of(data):
            found = find_neighborhoods(
                data,
                self.num_neighbors,
                steps=self.steps,
                theiler=self.theiler,
                annulus=self.annulus,
            )
        return eqx.tree_at(
            lambda loss: (loss.measure, loss.neighborhoods),
            self,
            (self.measure.for_data(data), found),
            is_leaf=is_none,
        )

    def draw(self, key: Array, centers: int, neighbors: int) -> "NeighborhoodLoss":
        """This loss of `centers` random samples and as many random `neighbors` of each as said.

        With another draw a step, one neighbor of each of a few dozen samples costs little, and all
        get their turn. Traceable.

        **Raises:** `ValueError` before `for_data`, and for more neighbors than were found.

        ```python
        >>> import jax, numpy as np, stiffrax as srx
        >>> ys = np.exp(-np.linspace(0.0, 1.0, 11))[None, :, None] * [[[1.0]], [[2.0]]]
        >>> data = srx.Trajectories.from_arrays(np.linspace(0.0, 1.0, 11), ys)
        >>> loss = srx.NeighborhoodLoss(num_neighbors=3, theiler=0).for_data(data)
        >>> few = loss.draw(jax.random.key(0), centers=4, neighbors=1)
        >>> bool(few(lambda t, y, args: -y, data) < 1e-10)
        True

        ```
        """
        if self.neighborhoods is None:
            raise ValueError("The loss has no neighbors to draw from: call `loss.for_data(data)`.")
        drawn = self.neighborhoods.draw(key, centers, neighbors)
        return eqx.tree_at(lambda loss: loss.neighborhoods, self, drawn)

    def evaluate(self, model: Any, data: Trajectories) -> LossValue:
        """The error, and the number of centers whose prediction failed."""
        check_model(model, check_data(data))
        loss = self.for_data(data) if self.neighborhoods is None else self
        found: Any = loss.neighborhoods
        found.check_same_data(data)
        future = found.future(data, self.steps)
        flow = FixedStepFlow(paramax.unwrap(model), self.solver, found.dt, self.substeps)

        def predict(t: Array, y: Array, around: Array) -> Array:
            return _predict(flow, t, y, around - y[None], self.steps, self.order)

        predicted = predict_lanes(predict, *future.starts, solver=self.solver)
        measured, there = future.neighbors, future.there
        asked = jnp.any(there, axis=(1, 2))
        solved = jnp.all(jnp.isfinite(predicted), axis=(1, 2, 3)) & asked
        if self.distributions:
            scale = jnp.asarray(loss.measure.scale, predicted.dtype)
            scale = jnp.broadcast_to(scale, predicted.shape)
            value = _discrepancy(predicted / scale, measured / scale, there)
        else:
            # One run for each center, of all of its neighbors.
            rows = (len(predicted), self.steps * predicted.shape[2], predicted.shape[-1])
            times = future.times.reshape(rows[:2])
            mask = (there & solved[:, None, None]).reshape(rows[:2])
            value = loss.measure(predicted.reshape(rows), times, measured.reshape(rows), mask)
        return LossValue(value, jnp.sum(asked & ~solved), jnp.sum(solved))


def _predict(
    flow: Callable[[Array, Array], Array],
    t: Array,
    y: Float[Array, " n"],
    differences: Float[Array, "neighbors n"],
    steps: int,
    order: int,
) -> Float[Array, "steps neighbors n"]:
    """The Taylor series, about the center's trajectory, of what the neighbors become."""

    def trajectory(y: Array) -> Array:
        def advance(y: Array, k: Array) -> tuple[Array, Array]:
            y = flow(t + k * flow.interval, y)
            return y, y

        return lax.scan(advance, y, jnp.arange(steps, dtype=t.dtype))[1]

    def first(direction: Array) -> Array:
        return jax.jvp(trajectory, (y,), (direction,))[1]

    def both(difference: Array) -> Array:
        up, down = (trajectory(y + sign * _SHARE * difference) for sign in (1, -1))
        bent = up - 2 * center + down
        return center + (up - down) / (2 * _SHARE) + bent / (2 * _SHARE**2)

    center = trajectory(y)
    if order == 2:
        return jax.vmap(both, out_axes=1)(differences)
    if len(differences) <= y.size:
        return center[:, None] + jax.vmap(first, out_axes=1)(differences)
    return center[:, None] + jnp.einsum("kab,jb->kja", jax.jacfwd(trajectory)(y), differences)


def _discrepancy(
    predicted: Float[Array, "*clouds points n"],
    measured: Float[Array, "*clouds points n"],
    there: Bool[Array, "*clouds points"],
) -> Float[Array, ""]:
    usable = jnp.all(jnp.isfinite(predicted), axis=(-2, -1)) & jnp.any(there, axis=-1)
    predicted = jnp.where(usable[..., None, None], predicted, measured)
    size = cloud_size(measured)
    rounding = 4 * jnp.finfo(measured.dtype).eps
    largest = jnp.max(jnp.abs(measured), axis=(-2, -1), keepdims=True)
    # A cloud in one place has no size: it is compared in units of the scale.
    width = jnp.where(size > rounding * largest, size, 1)
    pairs = (there[..., :, None] & there[..., None, :]).astype(predicted.dtype)
    pairs = pairs / jnp.maximum(jnp.sum(pairs, axis=(-2, -1), keepdims=True), 1)

    def kernel(a: Array, b: Array) -> Array:
        square = jnp.sum((a[..., :, None, :] - b[..., None, :, :]) ** 2, axis=-1)
        return jnp.sum(pairs * jnp.exp(-square / (2 * width**2)), axis=(-2, -1))

    cross = kernel(predicted, measured)
    value = kernel(predicted, predicted) + kernel(measured, measured) - 2 * cross
    count = jnp.maximum(jnp.sum(usable), 1).astype(value.dtype)
    return jnp.sum(jnp.where(usable, value, 0)) / count
