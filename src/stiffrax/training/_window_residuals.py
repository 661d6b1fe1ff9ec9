"""Least-squares residuals of predictions, compressed to as many numbers as parameters."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..solvers import predict_segment
from ..stages import small_inverse
from ._sample_windows import Windows

# Gauss-Newton from the measured start, which is off by the noise: two would do.
_START_ITERATIONS = 3


@final
class SegmentStep(eqx.Module):
    """From `y` at `ta` to `tb` by fixed steps of a solver; the sample `yb` guides the iteration."""

    solver: diffrax.AbstractSolver
    substeps: int = eqx.field(static=True)

    def __call__(
        self, model: Any, y: Array, ta: Array, tb: Array, ya: Array, yb: Array
    ) -> Float[Array, " n"]:
        del ya
        return predict_segment(self.solver, model, None, self.substeps, ta, tb, y, yb)


def mean_slope_step(
    model: Any, y: Array, ta: Array, tb: Array, ya: Array, yb: Array
) -> Float[Array, " n"]:
    r"""By the model's mean slope *on the data*, which is linear in the coefficients.

    $$y + \frac{h}{2} (f(t_a, y_a) + f(t_b, y_b))$$
    """
    return y + (tb - ta) / 2 * (model(ta, ya, None) + model(tb, yb, None))


@final
class CompressedResiduals(eqx.Module):
    r"""Residuals `r(theta)` and their Jacobian, as the triangular factor of `[J, r]`.

    $$[J, r] = Q \begin{pmatrix} C & c \\ 0 & \rho \end{pmatrix}$$

    `(c, rho)` has the norm of `r`, and `C` and `c` its Gauss-Newton model; a least-squares solver
    that is given these `p + 1` residuals does what it would do with the thousands they stand for.
    A segment is linearized in reverse mode, by `n` solves with its own factors, whatever the number
    of parameters, and the segments of a window are chained.

    With free starts each window starts where its samples, the first one among them, fit best, and
    the derivative is projected onto what the start cannot follow (variable projection, in Kaufman's
    form): noise of the first sample is then an error like any other.

    A segment whose step cannot be solved counts with a residual of `failure` in every state and no
    derivative: a fit is driven away from parameters at which steps fail.

    A module, so that all fits of one model to data of one size share their compiled programs.
    """

    step: Callable[..., Array]
    windows: Windows
    free_starts: bool = eqx.field(static=True)
    failure: float = 1.0

    @eqx.filter_jit
    def values(self, model: Any) -> Float[Array, "blocks windows rows n"]:
        """Every weighted residual, without derivatives; with free starts that of the start first."""

        def one(window: Windows) -> Array:
            start = self._start(model, window)

            def advance(y: Array, segment: Any) -> tuple[Array, Array]:
                y = self.step(model, y, *segment)
                return y, y

            predicted = _chain(advance, lambda _, start: start, start, window)
            return self._residual(predicted, window, start)[0]

        return lax.map(jax.vmap(one), self.windows)

    def triangle(self, model: Any, passes: int = 1) -> tuple[Float[Array, "q q"], Int[Array, ""]]:
        """The triangular factor of `[J, r]`, by Cholesky from sums over blocks, and the failures.

        The product of a tall matrix with itself is one library call a block; a QR factorization of
        the blocks (tried first) takes several times as long, 40 times on a machine with other work.
        The squared condition number costs accuracy of the step only, never of the gradient. A
        second pass (Cholesky QR, twice) gives it back: the factor of `[J, r] R^-1` times `R`.
        """
        return self._triangle(model, jnp.asarray(passes))

    @eqx.filter_jit
    def _triangle(
        self, model: Any, passes: Int[Array, ""]
    ) -> tuple[Float[Array, "q q"], Int[Array, ""]]:
        trainable, static = eqx.partition(model, eqx.is_inexact_array)
        theta, unravel = ravel_pytree(trainable)
        size = theta.size + 1

        def rows(window: Windows) -> tuple[Array, Array]:
            return self._rows(lambda theta: eqx.combine(unravel(theta), static), theta, window)

        def one_pass(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            # The residual may vanish: its entry on the diagonal must not divide.
            before = carry[0].at[-1, -1].set(1)

            def orthogonal(R: Array) -> Array:
                return jax.scipy.linalg.solve_triangular(before.T, R.T, lower=True).T

            def add(sums: tuple[Array, Array], block: Windows) -> tuple[tuple[Array, Array], None]:
                gram, failures = sums
                R, failed = jax.vmap(rows)(block)
                R = lax.cond(k > 0, orthogonal, lambda R: R, R.reshape(-1, size))
                gram = gram + jnp.matmul(R.T, R, precision=lax.Precision.HIGHEST)
                return (gram, failures + jnp.sum(failed)), None

            init = jnp.zeros((size, size), theta.dtype), jnp.asarray(0)
            (gram, failures), _ = lax.scan(add, init, self.windows)
            return jnp.matmul(_factor(gram), before, precision=lax.Precision.HIGHEST), failures

        init = jnp.eye(size, dtype=theta.dtype), jnp.asarray(0)
        return lax.fori_loop(0, passes, one_pass, init)

    def _rows(self, model_of: Callable, theta: Array, window: Windows) -> tuple[Array, Array]:
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
        """The state from which the window is predicted."""
        if not self.free_starts:
            return window.ys[0]

        def improve(start: Array, _: Any) -> tuple[Array, None]:
            residual, _J, S, _failures = self._linearized(
                lambda _: model, jnp.zeros(0), window, start
            )
            S = S.reshape(-1, start.size)
            size = jnp.linalg.norm(S, axis=0)
            S, solve = _projection(S)
            new = start - (solve @ residual.reshape(-1)) / jnp.where(size > 0, size, 1)
            return jnp.where(jnp.all(jnp.isfinite(new)), new, start), None

        return lax.scan(improve, window.ys[0], None, _START_ITERATIONS)[0]

    def _linearized(
        self, model_of: Callable, theta: Array, window: Windows, start: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Residuals `(rows, n)`, their derivatives by `theta` and the start, and the failures."""
        n, eye = start.size, jnp.eye(start.size, dtype=start.dtype)
        one_segment = len(window.ts) == 2

        def advance(carry: tuple[Array, Array, Array], segment: Any) -> tuple[Any, Any]:
            y, by_theta, by_start = carry
            step = lambda theta, y: self.step(model_of(theta), y, *segment)  # noqa: E731
            y, pull = jax.vjp(step, theta, y)
            B, A = jax.vmap(pull)(eye)
            carry = y, B if one_segment else A @ by_theta + B, A @ by_start
            return carry, carry

        begin = start, jnp.zeros((n, theta.size), start.dtype), eye
        predicted, by_theta, by_start = _chain(
            advance, lambda carry, start: (start, *carry[1:]), begin, window
        )
        residual, usable, failures = self._residual(predicted, window, start)

        def rows(derivative: Array) -> Array:
            derivative = -derivative * window.weight[1:, :, None]
            return jnp.where(usable[:, None, None] & jnp.isfinite(derivative), derivative, 0)

        J, S = rows(by_theta), rows(by_start)
        if self.free_starts:
            J = jnp.concatenate([jnp.zeros_like(J[:1]), J])
            S = jnp.concatenate([-jnp.diag(_first_weight(window))[None], S])
        return residual, J, S, failures

    def _residual(
        self, predicted: Array, window: Windows, start: Array
    ) -> tuple[Array, Array, Array]:
        """Weighted residuals `(rows, n)`, where they depend on the model, and the failures."""
        present = window.mask[1:]
        failed = present & ~jnp.all(jnp.isfinite(predicted), axis=-1)
        residual = (window.ys[1:] - predicted) * window.weight[1:]
        residual = jnp.where(failed[:, None], self.failure, residual)
        residual = jnp.where(present[:, None], residual, 0)
        if self.free_starts:
            first = (window.ys[0] - start) * _first_weight(window)
            residual = jnp.concatenate([first[None], residual])
        return residual, present & ~failed, jnp.sum(failed)


def _first_weight(window: Windows) -> Float[Array, " n"]:
    return jnp.where(window.mask[0], window.weight[0], 0)


def _chain(advance: Callable, restart: Callable, carry: Any, window: Windows) -> Any:
    """What `advance(carry, (ta, tb, ya, yb))` returns for each segment of a window in turn."""
    ts, ys, mask = window.ts, window.ys, window.mask
    start = jax.tree.leaves(carry)[0]
    present, column = mask[1:], mask[1:, None]
    # Where no sample is, the first segment is solved once more, which is as healthy as any.
    segments = (
        jnp.where(present, ts[:-1], ts[0]),
        jnp.where(present, ts[1:], ts[1]),
        jnp.where(column, ys[:-1], ys[0]),
        jnp.where(column, ys[1:], ys[1]),
    )

    def guarded(carry: Any, row: Any) -> tuple[Any, Any]:
        segment, present = row
        again = restart(carry, start)
        carry = jax.tree.map(lambda x, y: jnp.where(present, x, y), carry, again)
        return advance(carry, segment)

    if len(ts) == 2:
        first = jax.tree.map(lambda x: x[0], segments)
        return jax.tree.map(lambda x: x[None], guarded(carry, (first, present[0]))[1])
    return lax.scan(guarded, carry, (segments, present))[1]


def _projection(S: Float[Array, "rows n"]) -> tuple[Array, Array]:
    """`S` with unit columns, and what gives its least-squares solution: `(S^T S)^-1 S^T`."""
    size = jnp.linalg.norm(S, axis=0)
    S = S / jnp.where(size > 0, size, 1)
    # A start that nothing depends on needs the shift.
    gram = S.T @ S + 1e-12 * jnp.eye(S.shape[1], dtype=S.dtype)
    return S, small_inverse(gram) @ S.T


def _factor(gram: Float[Array, "q q"]) -> Float[Array, "q q"]:
    """Upper triangular `R` with `R^T R = gram`, the last row and column being the residual's."""
    size = jnp.sqrt(jnp.diagonal(gram))
    size = jnp.where(size > 0, size, 1)
    unit = gram / (size[:, None] * size)
    eps = jnp.finfo(gram.dtype).eps
    p = len(gram) - 1
    # Parameters that nothing depends on, and those that depend on each other, need the shift.
    L = jnp.linalg.cholesky(unit[:p, :p] + 100 * eps * jnp.eye(p, dtype=gram.dtype))
    c = jax.scipy.linalg.solve_triangular(L, unit[:p, p], lower=True)
    rho = jnp.sqrt(jnp.maximum(unit[p, p] - jnp.sum(c**2), 0))
    top = jnp.concatenate([L.T, c[:, None]], axis=1)
    bottom = jnp.zeros((1, p + 1), gram.dtype).at[0, p].set(rho)
    return jnp.concatenate([top, bottom]) * size
