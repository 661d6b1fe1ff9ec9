"""Systems that a solver of lineax solves."""

from typing import Any

import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, Inexact

from ._products import largest_size
from ._scaled_inverse import power_of_two


def library_solve(
    solver: lx.AbstractLinearSolver, factors: Any, b: Inexact[Array, " l"], options: Any = None
) -> Inexact[Array, " n"]:
    """Solves for a right-hand side of any size; no number where the solver says that it failed.

    Of size one: lineax' GMRES takes a residual below an absolute size for zero, and finds no
    increment, which would pass for convergence. Powers of two change no digit of a direct solver.
    """
    size = largest_size(jnp.abs(lax.stop_gradient(b)))
    most = jnp.finfo(size.dtype).maxexp - 2
    exponent = jnp.clip(jnp.floor(jnp.log2(size)), -most, most)
    exponent = jnp.where(jnp.isfinite(exponent), exponent, 0).astype(int)
    down, up = (power_of_two(e, size.dtype).astype(b.dtype) for e in (-exponent, exponent))
    x, result, _ = solver.compute(factors, down * b, {} if options is None else options)
    return jnp.where(result == lx.RESULTS.successful, up * x, jnp.nan)
