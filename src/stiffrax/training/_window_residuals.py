"""Residuals of the predictions of one window, and their derivatives."""

import functools
import math
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax import lax
from jaxtyping import Array, Float, Int

from .._trees import euclidean_norm
from ..linear_algebra import small_inverse
from ..solvers import predict_segment, scan_window
from ._sample_windows import Windows

# No numbers of a weak type, which would be a program of their own.
_whole, _real = (functools.partial(jnp.asarray, dtype=kind) for kind in (int, float))
# Gauss-Newton from the measured start, which is off by the noise: two would do. Chosen, not
# measured.
_START_ITERATIONS = 3


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
    form): noise of the first sample is then an error like any other.

    With a `coupling` above zero the next segment of a window does not start from the prediction but
    from a point between it and the sample,

    $$y \leftarrow (1 - coupling) \, y + coupling \, y_k$$

    (an observer with that gain): at one each segment starts from its sample, at zero the window is
    predicted from its start alone.

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

    def rows(self, model_of: Callable, theta: Array, window: Windows) -> tuple[Array, Array]:
        """`[J, r]` of one window, `(rows, p + 1)`, and the number of its failures."""
        start = self._start(model_of(theta), window)
        residual, J, S, failures = self._linearized(model_of, theta, window, start)
        J, S = (x.reshape(-1, x.shape[-1]) for x in (J, S))
        rows = jnp.concatenate([J, residual.reshape(-1, 1)], axis=1)
        if self.free_starts:
            S, solve = _projection(S)
            rows = rows - S @ (solve @ rows)
        return rows, failures

    def _start(self, model: Any, window: Windows) -> Array:
        if not self.free_starts:
            return window.ys[0]

        def improve(start: Array, _: Any) -> tuple[Array, None]:
            residual, _J, S, _failures = self._linearized(
                lambda _: model, jnp.zeros(0), window, start
            )
            S = S.reshape(-1, start.size)
            size = euclidean_norm(S, 0)
            S, solve = _projection(S)
            new = start - (solve @ residual.reshape(-1)) / jnp.where(size > 0, size, 1)
            return jnp.where(jnp.all(jnp.isfinite(new)), new, start), None

        return lax.scan(improve, window.ys[0], None, _START_ITERATIONS)[0]

    def _linearized(
        self, model_of: Callable, theta: Array, window: Windows, start: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Residuals `(rows, n)`, their derivatives by `theta` and the start, and the failures."""
        n, eye = start.size, jnp.eye(start.size, dtype=start.dtype)

        def advance(carry: tuple[Array, Array, Array], part: Any) -> tuple[Array, Array, Array]:
            y, by_theta, by_start = carry
            step = lambda theta, y: self.step(model_of(theta), y, *part)  # noqa: E731
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


def failed_rows(values: Any) -> Any:
    """Which samples could not be predicted, from what `WindowResiduals.values` returns."""
    return np.isnan(np.asarray(values)).any(axis=-1)


def _between(x: Array, y: Array, part: Array) -> Array:
    """`x`, `y`, or what lies between, in their precision; exact at both ends."""
    part = part.astype(x.dtype)
    return (1 - part) * x + part * y


def _first_weight(window: Windows) -> Float[Array, " n"]:
    return jnp.where(window.mask[0], window.weight[0], 0)


def _projection(S: Float[Array, "rows n"]) -> tuple[Array, Array]:
    """`S` with unit columns, and what gives its least-squares solution: `(S^T S)^-1 S^T`."""
    size = euclidean_norm(S, 0)
    S = S / jnp.where(size > 0, size, 1)[None]
    # A start that nothing depends on needs the shift, and sums of rounded products one above it.
    shift = max(1e-12, 10 * float(jnp.finfo(S.dtype).eps))
    gram = S.T @ S + shift * jnp.eye(S.shape[1], dtype=S.dtype)
    return S, small_inverse(gram) @ S.T
