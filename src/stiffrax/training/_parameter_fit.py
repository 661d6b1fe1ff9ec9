"""What an estimation of parameters found, and how well it is known."""

import dataclasses
import functools
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from .._arguments import check_count
from ..data import Conditions, Measurements, common_units
from ..losses import Simulation, check_columns, check_measurements
from ._box_trust_region import Box, Found
from ._likelihood_model import LikelihoodModel
from ._new_runs import check_runs_known
from ._parameter_errors import Band, ParameterErrors, check_level, prediction_band
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
    - `covariance`: of `x`, from the Fisher information; NaN for what is at a bound; of
        what is unknown infinite on the diagonal, and NaN beside it.
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
        # Beside a column in units too large what others tell would be lost as rounding.
        self._scale = box.lowered(best.evaluation.triangle, np.abs(best.x)).scale
        rows = rows._replace(values=rows.values * self._scale)
        # How much the data depend on each.
        self._acting = np.max(np.abs(rows.values), axis=0, initial=0.0)
        self._free = np.flatnonzero([not self._bound(i) for i in range(len(box.scale))])
        # The errors of all parameters, as if each could move to both sides.
        self._errors = ParameterErrors(rows)
        size = len(self.x)
        self.covariance, self._reach = np.full((size, size), np.nan), np.full(size, np.nan)
        if self._free.size:
            self._set_errors(ParameterErrors(rows.free(self._free)))
        self.estimates = {name: self._estimate(i) for i, name in enumerate(model.vector.names)}

    @classmethod
    def of(cls, model: LikelihoodModel, box: Box, found: list[Found | None]) -> "ParameterFit":
        """From all searches, of which some may not have begun.

        **Raises:** `ValueError` if every one began where a solve fails, or a derivative is not finite;
        `KeyboardInterrupt` if it came before anything was solved.
        """
        begun = sorted((one for one in found if one is not None), key=lambda one: one.cost)
        solved = bool(begun) and np.isfinite(begun[0].cost)
        if not solved and any(one is None or one.stopped == "interrupted" for one in found):
            raise KeyboardInterrupt
        for one in () if solved else [x for x in begun if not x.evaluation.num_failed]:
            if not np.isfinite(one.evaluation.cost):
                raise ValueError(
                    f"The cost is {one.evaluation.cost} where the search starts, although the system "
                    "can be solved. Start where what is added to the likelihood is finite."
                )
            raise ValueError(
                f"The derivative of {model.lost_derivative(one.x)} is not finite where the "
                "search starts, although the system can be solved. A root, a norm or a power has "
                "none at zero: write for example `jnp.sqrt(y + 1e-12)`, or start elsewhere."
            )
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
        scale = self._scale[self._free]
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
        shown = np.array([self.x[i], *ends])
        with np.errstate(over="ignore"):
            shown = np.exp(shown) if vector.log[i] else shown
        value, lower, upper = shown.tolist()
        return Estimate(value, error, lower, upper, self._bound(i))

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

        **Raises:** `ValueError` for a name that is none, a level that is not between 0 and 1, and a
        count below one.
        """
        check_level(level)
        check_count("max_steps", max_steps)
        vector = self._model.vector
        index = [vector.index(name) for name in names] if names else list(range(len(vector)))
        return profile_searches(
            self._model,
            self._box._replace(scale=self._scale),
            self.starts[0],
            index,
            rises=[self._errors.rise(i, level) for i in index],
            errors=np.sqrt(np.diagonal(self.covariance)),
            max_steps=max_steps,
            progress=progress,
        )

    def simulate(self, data: Measurements | None = None) -> Simulation:
        """What the best system predicts at the rows of the data, or of others: a `Simulation`.

        **Raises:** `ValueError` for another run, where the system tells runs apart by their number.
        """
        return self._on(data).predict(self.x)

    def _on(self, data: Measurements | None) -> LikelihoodModel:
        if data is None or data is self.data:
            return self._model
        data = check_measurements(data)
        common_units([self.data, data])
        check_columns(self.system, self.data, data)
        check_runs_known(self._model, self.x, data, self._acting)
        return self._model.on(data)

    def band(
        self,
        level: float = 0.95,
        *,
        data: Measurements | None = None,
        points: int | None = None,
        log_time: bool = False,
    ) -> Band:
        """What is predicted, with a band from the errors of the parameters, linearized.

        **Arguments:**

        - `level`: of the band.
        - `data`: other runs, under other conditions; those of the fit without.
        - `points`: so many equal steps from the start of each run to its last row, besides its rows;
            the rows alone without.
        - `log_time`: equal steps on a logarithmic axis of time.

        **Returns:** a [`stiffrax.Band`][]. The band is of the prediction, without the noise; it is
        infinite where that depends on what the data do not tell. A parameter at a bound counts as if
        it could move to both sides.

        **Raises:** `ValueError` for a level that is not between 0 and 1, `log_time` without `points`,
        and another run, where the system tells runs apart by their number.
        """
        check_level(level)
        if log_time and points is None:
            raise ValueError(
                "`log_time=True` was given without `points`, whose times it spaces. Write for example "
                "`points=200` beside it."
            )
        model = self._on(data)
        if points is not None:
            model = model.on(model.data.resampled(points, log_time=log_time))
        return prediction_band(model, self.x, self._errors, self._scale, level)

    @functools.cached_property
    def noise(self) -> dict[str, float]:
        """The standard deviation of each column of which it was estimated; relative if log-normal.

        It is the most likely one, put in by formula, which the errors of the parameters correct for
        their number.
        """
        return self._model.noise(self.system, self.x)

    def spread(self, data: Measurements | None = None) -> Float[np.ndarray, "runs times columns"]:
        """The standard deviation of every cell: given, or estimated; relative in log-normal noise.

        **Arguments:**

        - `data`: other [`stiffrax.Measurements`][], whose unknown ones are those of this fit; its own
            data without.

        **Raises:** `ValueError` for a column whose noise nothing says.
        """
        return np.asarray(self._judging(data).judge(self.x).spread)

    def error_bars(
        self, data: Measurements | None = None
    ) -> Float[np.ndarray, "runs times columns"]:
        """The standard deviation of every cell in the unit of its column, for `data` as `spread`."""
        measured, by_factor, spread = self._measured(data)
        return spread * np.where(by_factor, np.abs(measured), 1.0)

    def error_limits(
        self, data: Measurements | None = None
    ) -> tuple[Float[np.ndarray, "runs times columns"], Float[np.ndarray, "runs times columns"]]:
        """One standard deviation below and above what was measured: by a factor in log-normal noise."""
        measured, by_factor, spread = self._measured(data)
        with np.errstate(over="ignore"):
            factor = np.exp(np.where(by_factor, spread, 0.0))
        lower = np.where(by_factor, measured / factor, measured - spread)
        return lower, np.where(by_factor, measured * factor, measured + spread)

    def score(self, data: Measurements) -> float:
        """The negative log-likelihood of other data, such as runs held out, with the noise of this fit.

        `loss(fit.system, data)` estimates unknown standard deviations anew, from how far the
        predictions are off: a poor model is punished little. What was added to the loss is left out.
        The lower the better; of data sets of several sizes compare it over the number of cells.

        **Arguments:**

        - `data`: [`stiffrax.Measurements`][] with columns that the fit had, or with `sd`.

        **Returns:** a number, infinite if a run cannot be solved.

        **Raises:** `ValueError` for a column whose noise nothing says, and for another run, where the
        system tells runs apart by their number.
        """
        return self._judging(data).score(self.x)

    def conditions(self, run: Any = 0) -> Conditions:
        """The `args` that the functions of the fitted system see in a run, by its name or its index.

        With them the system can be solved and read by hand: `diffrax.ODETerm(paramax.unwrap(
        fit.system))`, which leaves out a mass, jumps and doses, and
        `srx.to_sympy(fit.system, args=fit.conditions("a"))`.
        """
        shared = paramax.unwrap(self.system).parameters
        return dataclasses.replace(self.data.conditions(run), parameters=shared)

    def _judging(self, data: Measurements | None) -> LikelihoodModel:
        model = self._on(data)
        if model is self._model:
            return model
        return model.on(self._model.with_noise(model.data, self.noise))

    def _measured(self, data: Measurements | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What was measured, whether its noise is on logarithms, and its spread."""
        model = self._judging(data)
        noises = model.likelihood.by_column(model.data)
        by_factor = np.array([noise.on_logarithms for noise in noises])
        return np.asarray(model.data.values), by_factor, np.asarray(model.judge(self.x).spread)

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
        # At a bound `clip` has half the derivative.
        within = jnp.where(inside, x, jnp.clip(x, self._box.lower, self._box.upper))
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
        for name, sd in self.noise.items():
            rows.append(f"{f'noise of {name}':24} {sd:12.5g} {'by formula':>11}")
        stopped = [one.stopped for one in self.starts]
        ends = ", ".join(f"{stopped.count(kind)} {kind}" for kind in dict.fromkeys(stopped))
        made, gained = (
            sum(getattr(one, k) for one in self.starts) for k in ("hops", "hops_gained")
        )
        hops = f" Of {made} hops {gained} led to a lower minimum." if made else ""
        if not self.converged:
            rows.append(
                f"The best search ended by {stopped[0]!r} and not at a minimum, where alone errors and "
                "intervals hold."
            )
        rows.append(
            f"cost {self.cost:.6g}, best of {len(self.starts)} starts ({ends}), {self.num_at_best} "
            f"within 0.1 of it.{hops} Errors on a logarithmic scale are relative."
        )
        return "\n".join(rows)
