"""What an estimation of parameters found, and how well it is known."""

from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..data import Measurements
from ..losses import Simulation, check_measurements
from ._box_trust_region import Box, Found
from ._likelihood_model import LikelihoodModel
from ._new_runs import check_runs_known
from ._parameter_errors import ParameterErrors
from ._profile import Profile, profile_searches

# A parameter is at a bound where it is closer than rounding: a search ends on it, and not near it.
# A part of the way between both would hold values that the data tell well, of a generous box.
_AT_BOUND = 4


@final
class Estimate(NamedTuple):
    """One parameter.

    **Attributes:**

    - `value`: in the unit of the parameter.
    - `standard_error`: of the value, or of its natural logarithm on a logarithmic scale; infinite
        where the data say nothing, NaN at a bound.
    - `lower`, `upper`: 95 % interval from the standard error, within the bounds.
    - `bound`: `"lower"` or `"upper"` where the parameter ended at one, else empty.

    ```python
    >>> import stiffrax as srx
    >>> rate = srx.Estimate(2.0, 0.1, lower=1.6, upper=2.4, bound="")
    >>> rate.lower < rate.value < rate.upper
    True

    ```
    """

    value: float
    standard_error: float
    lower: float
    upper: float
    bound: str


@final
class Band(NamedTuple):
    """What a fit predicts, and how well that is known.

    **Attributes:**

    - `ts`: `(runs, times)`.
    - `values`, `lower`, `upper`: `(runs, times, columns)`, in the unit of each column.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> line = np.ones((1, 2, 1))
    >>> srx.Band(np.array([[0.0, 1.0]]), line, 0.9 * line, 1.1 * line).values.shape
    (1, 2, 1)

    ```
    """

    ts: Float[np.ndarray, "runs times"]
    values: Float[np.ndarray, "runs times columns"]
    lower: Float[np.ndarray, "runs times columns"]
    upper: Float[np.ndarray, "runs times columns"]


@final
class ParameterFit:
    """What [`stiffrax.fit_parameters`][] found.

    **Arguments:** (from `fit_parameters`)

    - `model`: evaluates the cost.
    - `box`: bounds and scales.
    - `starts`: the searches, the best first.

    **Attributes:**

    - `system`: the system with the best parameters.
    - `data`: the measurements.
    - `cost`: its negative log-likelihood, with what was added to it.
    - `estimates`: an [`stiffrax.Estimate`][] for each parameter by name.
    - `x`: the best parameters in that order, logarithms where the scale is logarithmic.
    - `covariance`: of `x`, from the Fisher information; NaN for what is at a bound or unknown.
    - `starts`: all searches, the best first: `x`, `cost`, `steps`, `num_failed_steps`, `stopped`,
        and how many `hops` were made and `hops_gained` led to a lower minimum.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 9)
    >>> data = srx.Measurements.from_arrays(ts, np.exp(-ts)[:, None], names=["A"], sd=0.01)
    >>> start = srx.bounded([0.5], 0.0, 2.0)
    >>> system = srx.System(lambda t, y, args: -y, start, states=["A"])
    >>> found = srx.fit_parameters(system, data, srx.LikelihoodLoss())
    >>> print(f"{found.values['initial_state[0]']:.4f}", found.converged)
    1.0000 True

    ```
    """

    def __init__(self, model: LikelihoodModel, box: Box, starts: list[Found]):
        self._model, self._box, self.data = model, box, model.data
        self.starts = tuple(starts)
        best = self.starts[0]
        self.x, self.cost = best.x, best.cost
        self.system = model.vector.system(best.x)
        rows = model.rows(self.system, best.evaluation, best.x)
        rows = rows._replace(values=rows.values * box.scale)
        # How much the data depend on each.
        self._acting = np.max(np.abs(rows.values), axis=0, initial=0.0)
        self._free = np.flatnonzero([not self._bound(i) for i in range(len(box.scale))])
        # Of all, each as if it could move to both sides.
        self._errors = ParameterErrors(rows)
        size = len(self.x)
        self.covariance, self._reach = np.full((size, size), np.nan), np.full(size, np.nan)
        if self._free.size:
            self._set_errors(ParameterErrors(rows.free(self._free)))
        self.estimates = {name: self._estimate(i) for i, name in enumerate(model.vector.names)}

    @classmethod
    def of(cls, model: LikelihoodModel, box: Box, found: list[Found | None]) -> "ParameterFit":
        """From all searches, of which some may not have begun.

        **Raises:** `ValueError` if every one began where a solve fails; `KeyboardInterrupt` if it
        came before anything was solved.
        """
        begun = sorted((one for one in found if one is not None), key=lambda one: one.cost)
        solved = bool(begun) and np.isfinite(begun[0].cost)
        if not solved and any(one is None or one.stopped == "interrupted" for one in found):
            raise KeyboardInterrupt
        if not solved:
            raise ValueError(
                f"In none of {len(found)} starts could the system be solved. Look at "
                "`loss.first_failure(system, data)`, narrow the bounds, or raise the loss's "
                "`max_steps`."
            )
        return cls(model, box, begun)

    @property
    def converged(self) -> bool:
        """Whether the best search ended at a minimum with everything solved."""
        return self.starts[0].stopped == "converged"

    @property
    def values(self) -> dict[str, float]:
        """The best value of each parameter, in its unit."""
        return {name: one.value for name, one in self.estimates.items()}

    @property
    def num_at_best(self) -> int:
        """How many searches ended within 0.1 of the best cost."""
        return sum(one.cost <= self.cost + 0.1 for one in self.starts)

    def _set_errors(self, errors: ParameterErrors) -> None:
        """Of the parameters that are at no bound."""
        scale = self._box.scale[self._free]
        own = errors.covariance() * np.outer(scale, scale)
        self.covariance[np.ix_(self._free, self._free)] = own
        quantile = errors.quantile(np.eye(len(scale)), 0.95)
        self._reach[self._free] = quantile * np.sqrt(np.diagonal(own))

    def _bound(self, i: int) -> str:
        eps: Any = np.finfo(jnp.result_type(float)).eps
        for name, bound in (("lower", self._box.lower[i]), ("upper", self._box.upper[i])):
            near = _AT_BOUND * eps * max(abs(bound), abs(self.x[i]))
            if np.isfinite(bound) and abs(self.x[i] - bound) <= near:
                return name
        return ""

    def _estimate(self, i: int) -> Estimate:
        vector, error = self._model.vector, float(np.sqrt(self.covariance[i, i]))
        ends = self.x[i] + self._reach[i] * np.array([-1.0, 1.0])
        ends = np.where(np.isnan(ends), [-np.inf, np.inf], ends)
        ends = np.clip(ends, self._box.lower[i], self._box.upper[i])
        change = lambda v: float(np.exp(v)) if vector.log[i] else float(v)  # noqa: E731
        with np.errstate(over="ignore"):
            lower, upper = map(change, ends)
            return Estimate(change(self.x[i]), error, lower, upper, self._bound(i))

    def profile(
        self, *names: str, level: float = 0.95, max_steps: int = 50, progress: bool | None = None
    ) -> dict[str, Profile]:
        """The profile likelihood of parameters, all without names.

        Each parameter is moved away from its best value in both directions, all others fitted anew,
        until the likelihood ratio leaves the level, or a bound is met.

        **Arguments:**

        - `names`: of parameters, or the ends of them: `"k_on"` for `"field.k_on"`.
        - `level`: of the interval.
        - `max_steps`: the most steps of each fit on the way.
        - `progress`: shows a bar; by default on a terminal with tqdm installed.

        **Returns:** a [`stiffrax.Profile`][] for each name.

        **Raises:** `ValueError` for a name that is none.
        """
        vector = self._model.vector
        index = [vector.index(name) for name in names] if names else list(range(len(vector)))
        return profile_searches(
            self._model,
            self._box,
            self.starts[0],
            index,
            rises=[self._errors.rise(i, level) for i in index],
            errors=np.sqrt(np.diagonal(self.covariance)),
            max_steps=max_steps,
            progress=progress,
        )

    def simulate(self, data: Measurements | None = None) -> Simulation:
        """What the best system predicts at the rows of the data, or of others.

        **Raises:** `ValueError` for another run, where the system tells runs apart by their number.
        """
        return self._on(data).predict(self.x)

    def _on(self, data: Measurements | None) -> LikelihoodModel:
        """The model of other data, if the fit can say something of their runs."""
        if data is None or data is self.data:
            return self._model
        data = check_measurements(data)
        check_runs_known(self._model, self.x, data, self._acting)
        return self._model.on(data)

    def band(self, level: float = 0.95, *, points: int | None = None) -> Band:
        """What is predicted, with a band from the errors of the parameters, linearized.

        **Arguments:**

        - `level`: of the band.
        - `points`: so many equal steps from the start of each run to its last row; the rows of the
            data without.

        **Returns:** a [`stiffrax.Band`][]. The band is of the prediction, without the noise; it is
        infinite where that depends on what the data do not tell. A parameter at a bound counts as if
        it could move to both sides.
        """
        data = self.data if points is None else self.data.resampled(points)
        values, slopes = self._model.on(data).sensitivities(self.x)
        slopes = slopes * self._box.scale
        deviation = np.sqrt(self._errors.variance(slopes))
        reach = self._errors.quantile(slopes, level) * deviation
        return Band(np.asarray(data.ts), values, values - reach, values + reach)

    def spread(self) -> Float[np.ndarray, "runs times columns"]:
        """The standard deviation of every cell: given, or estimated; relative in log-normal noise."""
        return np.asarray(self._model.judge(self.x).spread)

    def error_bars(self) -> Float[np.ndarray, "runs times columns"]:
        """The standard deviation of every cell in the unit of its column."""
        noises = self._model.likelihood.by_column(self.data)
        sizes = [
            np.abs(self.data.values[..., j]) if noise.on_logarithms else np.ones(())
            for j, noise in enumerate(noises)
        ]
        return np.stack([self.spread()[..., j] * size for j, size in enumerate(sizes)], axis=-1)

    def residuals(self) -> Float[np.ndarray, " cells"]:
        """Residuals over their standard deviations of all measured cells but those runs start from."""
        return np.asarray(self._model.judge(self.x).residuals)

    def log_density(self, x: Float[Array, " p"]) -> Float[Array, ""]:
        """The logarithm of the likelihood, and of priors added to the loss, for samplers.

        Without priors it is a posterior density that is flat in `x` between the bounds; beyond them,
        and where a solve fails, it is minus infinity. A function that is added to the loss is minus
        the logarithm of a density of `x`; priors of PEtab that are densities of a parameter with a
        logarithmic scale are made one. It takes `jit`, `vmap`, `grad` and `jacfwd`; reverse mode is
        that of the loss's adjoint. A standard deviation that is put in by formula is no parameter:
        for its posterior write it as one, `sd=srx.positive(...)`.

        **Arguments:**

        - `x`: parameters in the order of `estimates`, logarithms where the scale is logarithmic;
            `fit.x` is the best.
        """
        x = jnp.asarray(x)
        inside = jnp.all((x >= self._box.lower) & (x <= self._box.upper))
        # Nothing is solved beyond the bounds: the solve would be as long as the stiffest of a batch.
        within = jnp.clip(x, self._box.lower, self._box.upper)
        cost = self._model.cost(within) - self._model.log_volume(within)
        return jnp.where(inside & ~jnp.isnan(cost), -cost, -jnp.inf)

    def __repr__(self) -> str:
        rows = [f"{'parameter':24} {'value':>12} {'std. error':>11}   95 % interval"]
        for name, one in self.estimates.items():
            interval = f"{one.lower:.4g} to {one.upper:.4g}"
            bound = f"  at its {one.bound} bound" if one.bound else ""
            rows.append(
                f"{name:24} {one.value:12.5g} {one.standard_error:11.3g}   {interval}{bound}"
            )
        stopped = [one.stopped for one in self.starts]
        ends = ", ".join(f"{stopped.count(kind)} {kind}" for kind in dict.fromkeys(stopped))
        made, gained = (
            sum(getattr(one, k) for one in self.starts) for k in ("hops", "hops_gained")
        )
        hops = f" Of {made} hops {gained} led to a lower minimum." if made else ""
        rows.append(
            f"cost {self.cost:.6g}, best of {len(self.starts)} starts ({ends}), {self.num_at_best} "
            f"within 0.1 of it.{hops} Errors on a logarithmic scale are relative."
        )
        return "\n".join(rows)
