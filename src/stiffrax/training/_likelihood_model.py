"""The cost of parameters with its Gauss-Newton model, for many parameters in one program."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..data import Measurements
from ..losses import LaplaceNoise, LikelihoodLoss, Simulation, evaluate_loss, weighted_terms
from ._lockstep import Evaluation
from ._parameter_errors import Rows
from ._parameter_vector import ParameterVector, filled

# The part of rows with kinks that stays: searches take a third of the steps that they take with 1.
_LEFT = 0.3


@final
class Judgement(NamedTuple):
    """The standard deviation of every cell at one point, and residuals over it."""

    spread: Float[Array, "runs times columns"]
    residuals: Float[Array, " cells"]


@final
class LikelihoodModel:
    r"""Evaluates the negative log-likelihood and the terms added to it, at many points together.

    Rows of the Gauss-Newton model are those of Fisher scoring: one for each measured cell, and one
    more where its standard deviation depends on parameters. What is added to the likelihood, such as
    priors, comes in with its second derivatives, those that are positive.
    """

    def __init__(self, vector: ParameterVector, loss: Any, data: Measurements):
        self.vector, self.loss, self.data = vector, loss, data
        likelihood, others = _split(loss)
        data = likelihood.check(vector.given, data)
        self.likelihood = likelihood.for_data(data)
        cells = np.flatnonzero(self.likelihood.counted(vector.given, data))
        self._cells, self._column = cells, cells % data.num_columns
        laplace = [isinstance(x, LaplaceNoise) for x in self.likelihood.by_column(data)]
        kinked = np.array(laplace)[self._column]
        self._parts = _Parts(
            *(vector.given, vector.places, self.likelihood, others, data),
            *map(jnp.asarray, (cells, vector.scale, vector.guessed)),
            kinked=kinked if kinked.any() else None,
        )
        self._width = 1  # of the batch evaluated last, whose program is there

    def __call__(self, points: Float[np.ndarray, "width p"]) -> list[Evaluation]:
        """The evaluation of each point."""
        self._width = len(points)
        found = self._parts.evaluate(jnp.asarray(points))
        columns = map(np.asarray, (found.cost, found.rows, found.num_failed))
        kinks: Any = [None] * len(points)
        if found.kinks is not None:
            kinks = np.asarray(found.kinks, float)[:, self._parts.kinked]
        return [
            Evaluation(float(cost), np.asarray(triangle, float), int(num_failed), own)
            for cost, triangle, num_failed, own in zip(*columns, kinks, strict=True)
        ]

    def on(self, data: Measurements) -> "LikelihoodModel":
        """The same of other data."""
        return self if data is self.data else LikelihoodModel(self.vector, self.loss, data)

    def judge(self, x: Float[np.ndarray, " p"]) -> Judgement:
        """The spread and the residuals of all cells at one point."""
        return self._parts.judge(jnp.asarray(x))

    def predict(self, x: Float[np.ndarray, " p"]) -> Simulation:
        """What one point predicts, for which no spread need be known."""
        return self._parts.predict(jnp.asarray(x))

    def sensitivities(self, x: Float[np.ndarray, " p"]) -> tuple[np.ndarray, np.ndarray]:
        """What is predicted, `(runs, times, columns)`, and its derivatives by all parameters."""
        found, slopes = self._parts.sensitivities(jnp.asarray(x))
        return np.asarray(found), np.asarray(slopes)

    def rows(self, system: Any, evaluation: Evaluation, x: Float[np.ndarray, " p"]) -> Rows:
        """What is told at one point; the triangle where no row need be told apart."""
        triangle = evaluation.triangle[:, :-1]
        estimated = np.flatnonzero(self.likelihood.estimates(system, self.data))
        if not self._parts.others and self._parts.kinked is None:
            if not estimated.size:
                return Rows(triangle, np.full(len(triangle), -1), np.zeros(0, int))
            if self.data.num_columns == 1:
                return Rows(triangle, np.zeros(len(triangle), int), np.array([len(self._column)]))
        values = np.asarray(self._evaluated(x).told[0], float)[:, :-1]
        column = np.full(len(values), -1)
        for number, j in enumerate(estimated):
            column[np.flatnonzero(self._column == j)] = number
        cells = np.array([np.sum(self._column == j) for j in estimated], int)
        return Rows(values, column, cells)

    def lost_derivative(self, x: Float[np.ndarray, " p"]) -> str:
        """The first derivative that is not finite at a point that can be solved."""
        told = np.asarray(self._evaluated(x).told[0], float)[:, :-1]
        lost = np.argwhere(~np.isfinite(told))
        if not lost.size:
            return "the cost"
        row, i = lost[0]
        by = f" by {self.vector.names[i]!r}"
        if row >= len(self._cells):
            return "a spread or a term of the loss" + by
        shape = np.shape(self.data.values)
        run, k, j = np.unravel_index(self._cells[row], shape)
        time, name = np.asarray(self.data.ts)[run, k], self.data.names[j]
        return f"column {name!r} at time {time:g} of run {self.data.run_names[run]!r}" + by

    def _evaluated(self, x: Float[np.ndarray, " p"]) -> "_Model":
        return self._parts.evaluate(jnp.repeat(jnp.asarray(x)[None], self._width, axis=0))

    def noise(self, system: Any, x: Float[np.ndarray, " p"]) -> dict[str, float]:
        """The standard deviations that are put in by formula at one point, by column."""
        estimated = self.likelihood.estimates(system, self.data)
        if not any(estimated):
            return {}
        found = np.asarray(self._evaluated(x).noise[0], float)
        named = zip(self.data.names, found, estimated, strict=True)
        return {name: float(sd) for name, sd, own in named if own}

    def with_noise(self, data: Measurements, noise: Mapping[str, float]) -> Measurements:
        """Other data whose unknown standard deviations are those that a fit of these found."""
        sd, values, mask = (np.array(x) for x in (data.sd, data.values, data.mask))
        own = self.likelihood.for_data(data)
        noises, estimated = own.by_column(data), own.estimates(self.vector.given, data)
        for j in np.flatnonzero(estimated):
            name = data.names[j]
            if name not in noise:
                raise ValueError(
                    f"Column {name!r} has no standard deviation, and the fit estimated those of "
                    f"{sorted(noise)} alone. Write `sd={{{name!r}: ...}}` where the data are read."
                )
            # Rows that runs start from may be zero: they are no residuals.
            relative = noises[j].on_logarithms & (values[..., j] > 0)
            size = np.where(relative, values[..., j], 1.0)
            unknown = mask[..., j] & (sd[..., j] == 0)
            sd[..., j] = np.where(unknown, noise[name] * size, sd[..., j])
        return dataclasses.replace(data, sd=sd)

    def score(self, x: Float[np.ndarray, " p"]) -> float:
        """The negative log-likelihood alone at one point, infinite where a solve fails."""
        return float(self._parts.score(jnp.asarray(x)))

    def log_volume(self, x: Float[Array, " p"]) -> Any:
        """The logarithm of the volume, in what terms are densities of, of a unit of `x`."""
        system = self.vector.system(x)
        terms = (f for _, f in self._parts.others)
        return sum((f.log_volume(system) for f in terms if hasattr(f, "log_volume")), 0.0)

    def cost(self, x: Float[Array, " p"]) -> Float[Array, ""]:
        """The negative log-likelihood with what is added to it; infinite where a solve fails."""
        system = self.vector.system(x)
        values = [self.likelihood(system, self.data)]
        for weight, term in self._parts.others:
            found = evaluate_loss(term, system, self.data)
            values.append(found._replace(value=weight * found.value).or_infinity)
        return functools.reduce(jnp.add, values)


class _Model(NamedTuple):
    """The cost and its model at one point, whose rows are those of each cell first, or at many.

    Rows that are `told` are those of Fisher scoring alone; `noise` is that of columns; `kinks` would
    be those of an `Evaluation` if all noise were Laplace's.
    """

    cost: Array
    rows: Array
    num_failed: Array
    told: Array
    noise: Array
    kinks: Any


class _Parts(eqx.Module):
    """All that an evaluation depends on besides the parameters."""

    given: Any
    places: list[Any]
    likelihood: LikelihoodLoss
    others: list[tuple[Any, Any]]
    data: Measurements
    cells: Int[Array, " cells"]
    scale: Float[Array, " p"]
    guessed: Bool[Array, " p"]
    kinked: Any

    def system(self, x: Float[Array, " p"]) -> Any:
        return filled(self.given, x, self.places)

    def simulate(self, x: Float[Array, " p"]) -> Simulation:
        """The predictions at one point, differentiable forward."""
        return self.likelihood.simulate(self.system(x), self.data, diffrax.ForwardMode())

    predict = eqx.filter_jit(simulate)

    @eqx.filter_jit
    def sensitivities(self, x: Float[Array, " p"]) -> tuple[Array, Array]:
        def values(x: Array) -> tuple[Array, Array]:
            found = self.simulate(x).values
            return found, found

        slopes, found = jax.jacfwd(values, has_aux=True)(x)
        return found, slopes

    @eqx.filter_jit
    def judge(self, x: Float[Array, " p"]) -> Judgement:
        system, found = self.system(x), self.simulate(x)
        judged = self.likelihood.with_impossible_failed(system, found, self.data)
        spread = self.likelihood.spread(system, judged, self.data)
        residuals = self.likelihood.residuals(system, judged, self.data)
        return Judgement(spread, residuals.ravel()[self.cells])

    @eqx.filter_jit
    def score(self, x: Float[Array, " p"]) -> Array:
        system, found = self.system(x), self.simulate(x)
        found = self.likelihood.with_impossible_failed(system, found, self.data)
        cost = jnp.sum(self.likelihood.terms(system, found, self.data).cost)
        return jnp.where(jnp.any(found.failed), jnp.inf, cost)

    @eqx.filter_jit
    def evaluate(self, points: Float[Array, "width p"]) -> _Model:
        """The cost and its model at many points; of the rows their triangle."""
        found = jax.vmap(self._model)(points)
        return found._replace(rows=jnp.linalg.qr(found.rows, mode="r"))

    def _model(self, x: Float[Array, " p"]) -> _Model:
        def predict(x: Array) -> tuple[tuple[Array, Array], Simulation]:
            found = self.simulate(x)
            return (found.values, found.sd), found

        (by_value, by_sd), found = jax.jacfwd(predict, has_aux=True)(x)
        system = self.system(x)
        found = self.likelihood.with_impossible_failed(system, found, self.data)
        terms = self.likelihood.terms(system, found, self.data)
        total, num_failed = jnp.sum(self._of_cells(terms.cost)), jnp.sum(found.failed)
        rows = self._rows_of_cells(terms, found.sd, by_value, by_sd)
        told = list(rows)
        kinks = None
        if self.kinked is not None:
            away = self._of_cells(self.likelihood.residuals(system, found, self.data))
            away = -math.sqrt(2) * away[:, None]
            kinks = jnp.append(rows[0][:, :-1], away, 1)
            # Fisher's curvature is that of the kinks, which the search sees themselves.
            flat = _LEFT * jnp.maximum(jnp.abs(away), 1) ** -0.5
            flat = jnp.where(self.kinked[:, None], flat, 1)
            rows[0] = jnp.append(rows[0][:, :-1] * flat, rows[0][:, -1:] / flat, 1)
        scale = jnp.where(self.guessed, jnp.maximum(self.scale, jnp.abs(x)), self.scale)
        for weight, term in self.others:
            other = _rows_of_term(functools.partial(self._other, term, weight), x, scale)
            total, num_failed = total + other.value, num_failed + other.num_failed
            rows.append(other.raised)
            told.append(other.told)
        square = jnp.zeros((x.size + 1, x.size + 1))
        spread = self.likelihood.spread(system, found, self.data)
        unknown = jnp.asarray(self.data.sd) == 0
        noise = jnp.max(jnp.where(unknown, spread, 0), axis=(0, 1))
        stacked, told = (jnp.concatenate([*x, square]) for x in (rows, told))
        return _Model(total, stacked, num_failed, told, noise, kinks)

    def _of_cells(self, x: Array) -> Array:
        return x.reshape(-1, *x.shape[3:])[self.cells]

    def _rows_of_cells(self, terms: Any, sd: Array, by_value: Array, by_sd: Array) -> list[Array]:
        """Of each cell a row by its prediction, then one by its spread, where the system gives that."""
        cells = map(self._of_cells, (*terms[1:], sd, by_value, by_sd))
        c_value, row_value, c_spread, row_spread, sd, by_value, by_sd = cells
        by_system = sd > 0
        by_log_sd = by_sd / jnp.where(by_system, sd, 1)[:, None]
        c_spread = jnp.where(by_system, c_spread, 0)
        return [
            jnp.append(row_value[:, None] * by_value, c_value[:, None], 1),
            jnp.append(row_spread[:, None] * by_log_sd, c_spread[:, None], 1),
        ]

    def _other(self, term: Callable[..., Any], weight: Any, x: Array) -> tuple[Array, Array]:
        found = evaluate_loss(term, self.system(x), self.data)
        return weight * found.value, found.num_failed


class _TermRows(NamedTuple):
    """The value and failures of a term, rows whose squares are its model, and those it tells itself."""

    value: Array
    num_failed: Array
    raised: Array
    told: Array


def _rows_of_term(
    term: Callable[[Array], tuple[Array, Array]], x: Array, scale: Array
) -> _TermRows:
    (value, num_failed), gradient = jax.value_and_grad(term, has_aux=True)(x)
    gradient = gradient * scale
    hessian = jax.hessian(lambda x: term(x)[0])(x) * jnp.outer(scale, scale)
    # In units in which all of its priors, sharp or not, have curvatures of about one.
    unit = jnp.sqrt(jnp.abs(jnp.diagonal(hessian)) + 1e-3 * jnp.abs(gradient) + 1e-8)
    curvature, modes = jnp.linalg.eigh(hessian / (unit[:, None] * unit[None]))
    rounding = x.size * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(curvature))
    told = jnp.where(curvature > rounding, curvature, 0)
    # Along a mode of no curvature the gradient needs some, or no row could hold it.
    along = modes.T @ (gradient / unit)
    raised = jnp.maximum(told, jnp.where(along != 0, 1e-8 + 1e-3 * jnp.abs(along), 0))
    c = along / jnp.sqrt(jnp.where(raised > 0, raised, 1))

    def rows(kept: Array) -> Array:
        told = jnp.sqrt(kept)[:, None] * modes.T * (unit / scale)[None]
        return jnp.append(told, c[:, None], axis=1)

    return _TermRows(value, num_failed, rows(raised), rows(told))


def _split(loss: Any) -> tuple[LikelihoodLoss, list[tuple[Any, Any]]]:
    """The likelihood among the terms of a sum, and the others with their weights."""
    terms = weighted_terms(loss)
    likelihoods = [(w, f) for w, f in terms if isinstance(f, LikelihoodLoss)]
    if len(likelihoods) != 1 or likelihoods[0][0] != 1:
        raise ValueError(
            f"`fit_parameters` needs one `LikelihoodLoss` of weight one, and what is added to it; "
            f"{len(likelihoods)} were given. Write `srx.LikelihoodLoss() + penalty`."
        )
    others = [(w, f) for w, f in terms if not isinstance(f, LikelihoodLoss)]
    return likelihoods[0][1], others
