"""The error of what does not depend on the start: Lyapunov exponents and statistics."""

from typing import Any, NamedTuple, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax import lax
from jaxtyping import Array, Bool, Float

from .._arguments import check_count, real_numbers
from .._trees import is_none
from ..data import Trajectories, unit_of_rounding
from ..solvers import FixedStepFlow, orthonormalize, predict_lanes, push_forward
from ._loss import AbstractLoss, LossValue, check_parts
from ._model_and_data import check_data, check_model


@final
class InvariantLoss(AbstractLoss):
    r"""The error of Lyapunov exponents, and of mean and covariance of the states on the attractor.

    $$\sum_i w_i (\hat \lambda_i - \lambda_i)^2
    + w_s \left( \sum_i \frac{(\hat m_i - m_i)^2}{s_i^2}
    + \sum_{ij} \frac{(\hat C_{ij} - C_{ij})^2}{s_i^2 s_j^2} \right)$$

    measured along short solutions of the model from samples spread over the data, with `m`, `C` and
    `s` the mean, the covariance and the standard deviation of the states; of a state that is constant
    in the data `s` is its absolute value, or one. No chaotic solution can
    be followed for long, but many short ones sample the attractor. Add it to a loss of the samples.

    **Arguments:**

    - `exponents`: $\lambda$, in descending order, per unit of time; the `k` largest, or `()` for the
        statistics alone.
    - `time`: of each solution, a few Lyapunov times: derivatives grow along it. It and `burn_in` are
        rounded to whole intervals.
    - `interval`: between two orthonormalizations, in the unit of time.
    - `burn_in`: the part of `time` in which the frame only turns; half of it by default.
    - `starts`: how many solutions.
    - `weight`: `w`, a number or one for each exponent; by default $1 / max(|\lambda_i|, 1)^2$.
    - `statistics`: `w_s`.
    - `solver`, `substeps`: of each interval, in equal steps; `diffrax.Tsit5` by default. Steps longer
        than $1 / |\lambda_i|$ decay as the method does, which training would fit.

    **Raises:** `ValueError` for exponents not in descending order or more than states, weights that are
    negative or of another number, times that hold no interval, and nothing to compare.

    Cost: `starts * time / interval` flows with `k` jvps each; once more, without derivatives, to
    find what fails under explicit solvers.

    ??? cite "Reference"
        Platt, Penny, Smith, Chen and Abarbanel, *Constraining chaos: enforcing dynamical invariants
        in the training of reservoir computers*, Chaos 33 (2023).

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 9)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-2 * ts)[:, None])
    >>> loss = srx.InvariantLoss([-2.0], time=0.4, interval=0.1, starts=2)
    >>> bool(loss(lambda t, y, args: -2 * y, data) < 1e-8)
    True

    ```
    """

    exponents: tuple[float, ...]
    count: int
    turning: int
    interval: float
    starts: int
    weight: Any
    statistics: float
    solver: diffrax.AbstractSolver
    substeps: int
    _target: "_Moments | None"

    def __init__(
        self,
        exponents: Any,
        *,
        time: float,
        interval: float,
        burn_in: float | None = None,
        starts: int = 16,
        weight: Any = None,
        statistics: float = 0.0,
        solver: diffrax.AbstractSolver | None = None,
        substeps: int = 1,
    ):
        values = real_numbers("exponents", exponents)
        if values.ndim != 1 or np.any(np.diff(values) > 0) or not np.all(np.isfinite(values)):
            raise ValueError(
                f"`exponents={exponents}` was given; it needs finite numbers in descending order: "
                "write for example `exponents=[0.906, 0.0, -14.57]`."
            )
        time = float(real_numbers("time", time))
        interval = float(real_numbers("interval", interval))
        burn_in = time / 2 if burn_in is None else float(real_numbers("burn_in", burn_in))
        turning, count = (
            round(t / interval) if interval > 0 and t < np.inf else -1 for t in (burn_in, time)
        )
        if not 0 <= turning < count:
            raise ValueError(
                f"`time={time}`, `burn_in={burn_in}`, `interval={interval}` were given; the time "
                "must hold the burn-in and one interval more: write for example `time=2.0, "
                "burn_in=1.0, interval=0.1`."
            )
        self.exponents = tuple(map(float, values))
        default = 1 / np.maximum(np.abs(values), 1) ** 2
        self.weight = _checked_weight("weight", default if weight is None else weight)
        one_for_all = bool(values.size) and np.shape(self.weight) in ((), (1,))
        if not one_for_all and np.shape(self.weight) != values.shape:
            raise ValueError(
                f"`weight` of shape {np.shape(self.weight)} was given for {values.size} exponents; it "
                "needs one number for each of them, or one for all."
            )
        self.turning, self.count = turning, count - turning
        self.interval = float(interval)
        self.starts = check_count("starts", starts)
        self.statistics = float(_checked_weight("statistics", statistics))
        if not self.exponents and not self.statistics:
            raise ValueError(
                "No `exponents` were given and no weight of `statistics`, so that nothing is compared. "
                "Write `statistics=1.0`, or give exponents."
            )
        self.solver = diffrax.Tsit5() if solver is None else solver
        check_parts(solver=self.solver)
        self.substeps = check_count("substeps", substeps)
        self._target = None

    def for_data(self, data: Trajectories) -> "InvariantLoss":
        """This loss with the mean and the covariance of the data, if it asks for them."""
        check_data(data)
        if not self.statistics:
            return self
        target = _moments_of(jnp.asarray(data.ys), jnp.asarray(data.mask))
        return eqx.tree_at(lambda x: x._target, self, target, is_leaf=is_none)

    def evaluate(self, model: Any, data: Trajectories) -> LossValue:
        """The error, and the number of starts from which there was no solution."""
        check_model(model, check_data(data))
        target = self.for_data(data)._target if self._target is None else self._target
        n = data.num_states
        if len(self.exponents) > n:
            raise ValueError(
                f"{len(self.exponents)} `exponents` were given for {n} states: give {n} or fewer."
            )
        ts, ys, mask = (x.reshape(-1, *x.shape[2:]) for x in data.arrays)
        present = jnp.argsort(~mask, stable=True)
        places = jnp.linspace(0, 1, self.starts) * (jnp.sum(mask) - 1).astype(float)
        chosen = present[places.astype(int)]
        flow = FixedStepFlow(paramax.unwrap(model), self.solver, self.interval, self.substeps)

        def follow(t: Array, y: Array) -> tuple[Array, Array]:
            return self._follow(flow, t, y)

        visited, rates = predict_lanes(follow, ts[chosen], ys[chosen], solver=self.solver)
        good = jnp.all(jnp.isfinite(visited), axis=(1, 2)) & jnp.all(jnp.isfinite(rates), axis=1)
        usable = jnp.where(good[:, None], rates, 0)
        found = jnp.sum(usable, axis=0) / jnp.maximum(jnp.sum(good), 1).astype(usable.dtype)
        error = found - jnp.asarray(self.exponents, found.dtype)
        value = jnp.sum(jnp.asarray(self.weight, found.dtype) * error**2)
        if target is not None:
            value = value + self.statistics * _statistics(visited, good, target)
        return LossValue(jnp.where(jnp.any(good), value, 0), jnp.sum(~good), jnp.sum(good))

    def _follow(
        self, flow: FixedStepFlow, t0: Array, y0: Float[Array, " n"]
    ) -> tuple[Float[Array, "count n"], Float[Array, " k"]]:
        k = len(self.exponents)
        frame = jax.random.normal(jax.random.key(0), (y0.size, k), y0.dtype)

        one = jnp.asarray(self.interval, t0.dtype)

        def advance(carry: tuple[Array, Array], i: Array) -> tuple[Any, Any]:
            y, frame = carry
            t = t0 + i.astype(t0.dtype) * one
            if k:
                y, frame = push_forward(flow, t, y, frame)
                frame, lengths = orthonormalize(frame)
            else:
                y, lengths = flow(t, y), jnp.zeros(0, y.dtype)
            return (y, frame), (y, jnp.log(lengths) / ((t + one) - t))

        start = y0, orthonormalize(frame)[0] if k else frame
        steps = jnp.arange(self.turning + self.count)
        _, (visited, rates) = lax.scan(advance, start, steps)
        return visited[self.turning :], jnp.mean(rates[self.turning :], axis=0)


def _checked_weight(name: str, value: Any) -> np.ndarray:
    weight = real_numbers(name, value)
    if not np.all((weight >= 0) & np.isfinite(weight)):
        raise ValueError(
            f"`{name}={value}` was given; it needs finite numbers that are not negative: the loss "
            f"would have no least value. Write `{name}=1.0`."
        )
    return weight


class _Moments(NamedTuple):
    """Of states in units of the largest sample: single precision has no squares of 1e-20 or 1e20."""

    unit: Float[Array, " n"]
    mean: Float[Array, " n"]
    covariance: Float[Array, "n n"]
    scatter: Float[Array, " n"]


def _moments(
    points: Float[Array, "points n"], weight: Float[Array, " points"]
) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    weight = weight / jnp.sum(weight)
    mean = jnp.sum(weight[:, None] * points, axis=0)
    centered = points - mean[None]
    return mean, jnp.einsum("p,pi,pj->ij", weight, centered, centered)


def _moments_of(ys: Float[Array, "runs times n"], mask: Bool[Array, "runs times"]) -> _Moments:
    """Those of data, and their scatter.

    A state that is constant has none, and its own size stands in, as in `default_scale`.
    """
    ys, mask = ys.reshape(-1, ys.shape[-1]), mask.reshape(-1, 1)
    rounding = unit_of_rounding(ys, mask, 0)
    unit = jnp.max(jnp.where(mask, jnp.abs(ys), 0), axis=0)
    unit = jnp.where(unit > 0, unit, 1)
    mean, covariance = _moments(jnp.where(mask, ys / unit[None], 0), mask[:, 0].astype(ys.dtype))
    scatter, size = jnp.sqrt(jnp.diagonal(covariance)), jnp.abs(mean)
    varies = scatter > 4 * rounding * size
    scatter = jnp.where(varies, scatter, jnp.where(size > 0, size, 1))
    return _Moments(unit, mean, covariance, scatter)


def _statistics(
    visited: Float[Array, "starts count n"], good: Bool[Array, " starts"], target: _Moments
) -> Float[Array, ""]:
    """How far mean and covariance are from those of the data, in units of the data's scatter."""
    unit, mean_data, covariance_data, scatter = (x.astype(visited.dtype) for x in target)
    points = jnp.where(good[:, None, None], visited / unit[None, None], 0)
    weight = jnp.repeat(jnp.where(jnp.any(good), good, True), visited.shape[1])
    mean, covariance = _moments(points.reshape(-1, unit.size), weight.astype(visited.dtype))
    error = (mean - mean_data) / scatter
    spread = (covariance - covariance_data) / (scatter[:, None] * scatter[None])
    return jnp.sum(error**2) + jnp.sum(spread**2)
