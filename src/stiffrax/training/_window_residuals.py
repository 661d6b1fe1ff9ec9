"""Residuals of the predictions of one window, and their derivatives."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._trees import euclidean_norm, nonzero, select
from ..linear_algebra import small_inverse
from ..solvers import predict_segment, scan_window
from ._weighted_samples import Windows

# No numbers of a weak type, which would be a program of their own.
_whole, _real = (functools.partial(jnp.asarray, dtype=kind) for kind in (int, float))
# A free start is found where it can remove no more than this part of the residuals, or than so many
# units of rounding of the samples; the search ends after so many points. Chosen, not measured.
_REMOVABLE, _ROUNDING, _MOST_POINTS = 3e-5, 2.0, 10


@final
class SegmentStep(eqx.Module):
    """From `y` at `ta` to `tb` by one step of a solver; the sample `yb` guides the iteration."""

    solver: diffrax.AbstractSolver

    def __call__(
        self, model: Any, y: Array, ta: Array, tb: Array, ya: Array, yb: Array
    ) -> Float[Array, " n"]:
        del ya
        return predict_segment(self.solver, paramax.unwrap(model), None, 1, ta, tb, y, yb)


def mean_slope_step(
    model: Any, y: Array, ta: Array, tb: Array, ya: Array, yb: Array
) -> Float[Array, " n"]:
    r"""By the model's mean slope *on the data*, which is linear in the coefficients.

    $$y + \frac{h}{2} (f(t_a, y_a) + f(t_b, y_b))$$
    """
    model = paramax.unwrap(model)
    return y + (tb - ta) / 2 * (model(ta, ya, None) + model(tb, yb, None))


@final
class WindowResiduals(eqx.Module):
    r"""Weighted residuals of a window of samples, with their derivatives by parameters and start.

    A step is linearized in reverse mode, by `n` solves with its own factors, whatever the number of
    parameters, and the `substeps` of a segment and the segments of a window are chained.

    With free starts each window starts where its samples, the first one among them, fit best, and
    the derivative is projected onto what the start cannot follow (variable projection, in Kaufman's
    form): noise of the first sample is then an error like any other. The residual is not projected:
    it is that of the start which was found, by which models are compared.

    With a `coupling` above zero the next segment of a window does not start from the prediction but
    from a point between it and the sample,

    $$y \leftarrow (1 - coupling) \, y + coupling \, y_k$$

    A segment whose step cannot be solved, or has no finite derivative, has no residual and takes part
    in no sum: it is counted. The next segment starts from its sample, and fails where a state of it
    has no weight.
    """

    step: Callable[..., Array]
    free_starts: bool = eqx.field(static=True)
    substeps: Int[Array, ""] = eqx.field(converter=_whole, default=1)
    coupling: Float[Array, ""] = eqx.field(converter=_real, default=0.0)

    def values(self, model: Any, window: Windows) -> Float[Array, "rows n"]:
        """Every weighted residual, NaN where there is none; with free starts the start's first."""
        start = self._start(model, window)
        (predicted,) = self._chain(
            lambda y, part: (self.step(model, y[0], *part),), (start,), window
        )
        solved = jnp.all(jnp.isfinite(predicted), axis=-1)
        residual, failed = self._residual(predicted, solved, window, start)
        if self.free_starts:
            failed = jnp.append(False, failed)
        return jnp.where(failed[:, None], jnp.nan, residual)

    def rows(self, model_of: Callable, theta: Array, window: Windows) -> tuple[Array, Array, Array]:
        """`[J, r]` of one window, `(rows, p + 1)`, its derivative by the start, and its failures."""
        start = self._start(model_of(theta), window)
        residual, J, S, failures = self._linearized(model_of, theta, window, start)
        J, S = (x.reshape(-1, x.shape[-1]) for x in (J, S))
        if self.free_starts:
            unit, solve = _projection(S)
            J = J - unit @ (solve @ J)
        return jnp.concatenate([J, residual.reshape(-1, 1)], axis=1), S, failures

    def _start(self, model: Any, window: Windows) -> Array:
        """The first sample, or by Gauss-Newton from there where the samples fit best.

        A step that does not lower the residuals is taken again at a quarter of its length.
        """
        if not self.free_starts:
            return window.ys[0]
        weighted = jnp.where(window.mask[:, None], window.ys * window.weight, 0)
        rounding = _ROUNDING * jnp.finfo(weighted.dtype).eps * euclidean_norm(weighted)

        def goes_on(search: _StartSearch) -> Array:
            return ~search.found & (search.count < _MOST_POINTS)

        def improve(search: _StartSearch) -> _StartSearch:
            trial = search.start + search.part * search.step
            residual, _, S, failures = self._linearized(
                lambda _: model, jnp.zeros(0), window, trial
            )
            S, residual = S.reshape(-1, trial.size), residual.reshape(-1)
            unit, solve = _projection(S)
            removed, norm = solve @ residual, euclidean_norm(residual)
            found = euclidean_norm(unit @ removed) <= jnp.maximum(_REMOVABLE * norm, rounding)
            step = -removed / nonzero(euclidean_norm(S, 0))
            failed = failures.astype(norm.dtype)
            new = _StartSearch(trial, step, jnp.ones_like(norm), failed, norm, found, search.count)
            fewer, as_many = failed < search.failed, failed == search.failed
            better = fewer | (as_many & (norm < search.norm))
            search = select(better, new, search._replace(part=search.part / 4))
            return search._replace(count=search.count + 1)

        first, most = window.ys[0], jnp.full((), jnp.inf, weighted.dtype)
        begin = _StartSearch(
            first,
            jnp.zeros_like(first),
            jnp.ones_like(most),
            most,
            most,
            jnp.array(False),
            _whole(0),
        )
        return lax.while_loop(goes_on, improve, begin).start

    def _linearized(
        self, model_of: Callable, theta: Array, window: Windows, start: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Residuals `(rows, n)`, their derivatives by `theta` and the start, and the failures."""
        n, eye = start.size, jnp.eye(start.size, dtype=start.dtype)

        def advance(carry: tuple[Array, Array, Array], part: Any) -> tuple[Array, Array, Array]:
            y, by_theta, by_start = carry

            def step(theta: Array, y: Array) -> Array:
                return self.step(model_of(theta), y, *part)

            y, pull = jax.vjp(step, theta, y)
            B, A = jax.vmap(pull)(eye)
            return y, A @ by_theta + B, A @ by_start

        begin = start, jnp.zeros((n, theta.size), start.dtype), eye
        everything = self._chain(advance, begin, window)
        solved = [jnp.all(jnp.isfinite(x.reshape(len(x), -1)), axis=1) for x in everything]
        solved = functools.reduce(jnp.logical_and, solved)
        residual, failed = self._residual(everything[0], solved, window, start)
        usable = window.mask[1:] & ~failed

        def rows(derivative: Array) -> Array:
            derivative = -derivative * window.weight[1:, :, None]
            return jnp.where(usable[:, None, None], derivative, 0)

        J, S = (rows(derivative) for derivative in everything[1:])
        if self.free_starts:
            J = jnp.concatenate([jnp.zeros_like(J[:1]), J])
            S = jnp.concatenate([-jnp.diag(_first_weight(window))[None], S])
        return residual, J, S, jnp.sum(failed)

    def _chain(
        self, advance: Callable, begin: tuple[Array, ...], window: Windows
    ) -> tuple[Array, ...]:
        """What `begin`, the state and its derivatives, is at the end of each segment of a window.

        `advance(carry, (ta, tb, ya, yb))` is called for each of the equal parts of a segment.
        """

        def predict(carry: Any, samples: Any, measured: Array) -> tuple[Any, Any]:
            ta, tb, ya, yb = samples

            def one_part(k: Array, carry: Any) -> Any:
                a, b = k / self.substeps, (k + 1) / self.substeps
                ends = (ta, tb), (ya, yb)
                return advance(carry, tuple(_between(*pair, x) for pair in ends for x in (a, b)))

            end = lax.fori_loop(0, self.substeps, one_part, carry)
            return self._coupled(end, yb, measured), end

        measured = window.weight[1:] > 0
        return scan_window(predict, begin, window.ts, window.ys, window.mask, measured)

    def _coupled(self, end: tuple[Array, ...], sample: Array, measured: Array) -> tuple[Array, ...]:
        """The start of the next segment: the end of this one, coupled to the sample."""
        y, *derivatives = end
        part = jnp.where(measured, self.coupling.astype(y.dtype), 0)
        finite = [jnp.all(jnp.isfinite(x)) for x in end]
        part = jnp.where(jnp.all(jnp.stack(finite)), part, jnp.where(measured, 1, jnp.nan))
        # Selected, not only weighted with zero: what failed is not finite.
        drawn = [jnp.where(part == 1, sample, (1 - part) * y + part * sample)]
        for x in derivatives:
            drawn.append(jnp.where((part == 1)[:, None], 0, (1 - part)[:, None] * x))
        return tuple(drawn)

    def _residual(
        self, predicted: Array, solved: Array, window: Windows, start: Array
    ) -> tuple[Array, Array]:
        """Weighted residuals `(rows, n)`, zero where there is none, and which samples failed."""
        residual = (window.ys[1:] - predicted) * window.weight[1:]
        dtype = jnp.finfo(residual.dtype)
        # What lies beyond has no square, nor have sums of them: as good as not solved.
        largest = math.sqrt(float(dtype.max)) * float(dtype.eps)
        solved = solved & jnp.all(jnp.abs(residual) < largest, axis=1)
        failed = window.mask[1:] & ~solved
        residual = jnp.where((window.mask[1:] & solved)[:, None], residual, 0)
        if self.free_starts:
            first = (window.ys[0] - start) * _first_weight(window)
            residual = jnp.concatenate([first[None], residual])
        return residual, failed


class _StartSearch(NamedTuple):
    """The best start so far, its misfit, the Gauss-Newton step from it and how much of it is tried."""

    start: Float[Array, " n"]
    step: Float[Array, " n"]
    part: Float[Array, ""]
    failed: Float[Array, ""]
    norm: Float[Array, ""]
    found: Bool[Array, ""]
    count: Int[Array, ""]


def failed_rows(values: Any) -> Any:
    """Which samples could not be predicted, from what `WindowResiduals.values` returns."""
    return np.isnan(np.asarray(values)).any(axis=-1)


def _between(x: Array, y: Array, part: Array) -> Array:
    """`x`, `y`, or what lies between, in their precision; exact at both ends."""
    part = part.astype(x.dtype)
    return (1 - part) * x + part * y


def _first_weight(window: Windows) -> Float[Array, " n"]:
    return jnp.where(window.mask[0], window.weight[0], 0)


def least_known(dtype: Any) -> float:
    """A singular value of unit columns below which a direction of the start is as good as unknown."""
    # A start that nothing depends on needs a shift, and sums of rounded products one above it.
    return max(1e-12, 10 * float(jnp.finfo(dtype).eps)) ** 0.5


def _projection(S: Float[Array, "rows n"]) -> tuple[Array, Array]:
    """`S` with unit columns, and what gives its least-squares solution: `(S^T S)^-1 S^T`."""
    size = euclidean_norm(S, 0)
    S = S / nonzero(size)[None]
    shift = least_known(S.dtype) ** 2
    gram = S.T @ S + shift * jnp.eye(S.shape[1], dtype=S.dtype)
    return S, small_inverse(gram) @ S.T
