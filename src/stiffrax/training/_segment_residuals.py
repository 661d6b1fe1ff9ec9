"""Least-squares residuals of one-step predictions, compressed to as many numbers as parameters."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..data import Segments, Trajectories
from ..solvers import predict_segment

# Rows of a block: large enough for the library, small enough to stay in the cache.
_SEGMENTS_AT_ONCE = 256


@final
class StepResidual(eqx.Module):
    """`(model, segment) -> y1 - prediction`, by fixed steps of a solver."""

    solver: diffrax.AbstractSolver
    substeps: int = eqx.field(static=True)

    def __call__(self, model: Any, segment: Segments) -> Float[Array, " n"]:
        t0, t1, y0, y1 = (jnp.asarray(x) for x in segment[:4])
        return y1 - predict_segment(self.solver, model, None, self.substeps, t0, t1, y0, y1)


def slope_residual(model: Any, segment: Segments) -> Float[Array, " n"]:
    r"""The data's increment against the model's mean slope *on the data*: linear in coefficients.

    $$y_1 - y_0 - \frac{h}{2} (f(t_0, y_0) + f(t_1, y_1))$$
    """
    t0, t1, y0, y1 = (jnp.asarray(x) for x in segment[:4])
    return y1 - y0 - (t1 - t0) / 2 * (model(t0, y0, None) + model(t1, y1, None))


def padded_segments(data: Trajectories) -> Segments:
    """All segments in blocks of equal size, `(blocks, segments, ...)`; the padding is masked."""
    segments = data.segments()
    count = len(segments.t0)
    size = min(count, _SEGMENTS_AT_ONCE)
    extra = -count % size

    def block(x: Any) -> Array:
        x = np.asarray(x)
        x = np.concatenate([x, np.repeat(x[:1], extra, axis=0)])
        return jnp.asarray(x.reshape(-1, size, *x.shape[1:]))

    blocks = Segments(*(block(x) for x in segments))
    present = np.arange(blocks.mask.size).reshape(blocks.mask.shape) < count
    return blocks._replace(mask=blocks.mask & jnp.asarray(present))


@final
class CompressedResiduals(eqx.Module):
    r"""Residuals `r(theta)` and their Jacobian, as the triangular factor of `[J, r]`.

    $$[J, r] = Q \begin{pmatrix} C & c \\ 0 & \rho \end{pmatrix}$$

    `(c, rho)` has the norm of `r`, and `C` and `c` its Gauss-Newton model; a least-squares solver
    that is given these `p + 1` residuals does what it would do with the thousands they stand for.
    Jacobian rows are taken segment by segment in reverse mode: `n` solves with the factors of one
    segment, whatever the number of parameters.

    A segment whose step cannot be solved counts with a residual of `failure` in every state and no
    derivative: a fit is driven away from parameters at which steps fail.

    A module, so that all fits of one model to data of one size share their compiled programs.
    """

    residual: Callable[[Any, Segments], Array]
    segments: Segments
    scale: Float[Array, " n"]
    failure: float = 1.0

    def _one(self, model: Any, segment: Segments) -> tuple[Array, Array]:
        residual = self.residual(model, segment) / self.scale
        failed = ~jnp.all(jnp.isfinite(residual)) & segment.mask
        residual = jnp.where(failed, self.failure, residual)
        return jnp.where(segment.mask, residual, 0), failed

    def rows(self, model: Any, block: Segments) -> tuple[Array, Array, Array]:
        """`r`, `J` and failures of a block: `(segments, n)`, `(segments, n, p)`, `(segments,)`."""
        trainable, static = eqx.partition(model, eqx.is_inexact_array)
        theta, unravel = ravel_pytree(trainable)

        def both(segment: Segments) -> tuple[Array, Array, Array]:
            def one(theta: Array) -> tuple[Array, Array]:
                return self._one(eqx.combine(unravel(theta), static), segment)

            residual, pull, failed = jax.vjp(one, theta, has_aux=True)
            (jacobian,) = jax.vmap(pull)(jnp.eye(residual.size, dtype=residual.dtype))
            return residual, jnp.where(jnp.isfinite(jacobian), jacobian, 0), failed

        return jax.vmap(both)(block)

    @eqx.filter_jit
    def values(self, model: Any) -> Float[Array, "blocks segments n"]:
        """Every scaled residual, without derivatives."""
        return lax.map(jax.vmap(lambda segment: self._one(model, segment)[0]), self.segments)

    @eqx.filter_jit
    def triangle(self, model: Any) -> tuple[Float[Array, "q q"], Int[Array, ""]]:
        """The triangular factor of `[J, r]`, by Cholesky from sums over blocks, and the failures.

        The product of a tall matrix with itself is one library call a block; a QR factorization of
        the blocks (tried first) takes several times as long, 40 times on a machine with other work.
        The squared condition number costs accuracy of the step only, never of the gradient.
        """
        theta, _ = ravel_pytree(eqx.filter(model, eqx.is_inexact_array))
        size = theta.size + 1

        def add(sums: tuple[Array, Array], block: Segments) -> tuple[tuple[Array, Array], None]:
            gram, failures = sums
            residual, jacobian, failed = self.rows(model, block)
            jacobian = jacobian.reshape(-1, theta.size)
            rows = jnp.concatenate([jacobian, residual.reshape(-1, 1)], axis=1)
            gram = gram + jnp.matmul(rows.T, rows, precision=lax.Precision.HIGHEST)
            return (gram, failures + jnp.sum(failed)), None

        init = jnp.zeros((size, size), theta.dtype), jnp.asarray(0)
        (gram, failures), _ = lax.scan(add, init, self.segments)
        return _factor(gram), failures


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
