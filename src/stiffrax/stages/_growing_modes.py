"""Growing modes that a step does not resolve."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._trees import nonzero
from ..diffrax_loop import scaled_error
from ..linear_algebra import largest_size


def grows_unresolved(
    powers: tuple[Float[Array, " n"], ...],
    scale: Float[Array, " n"] | float,
    largest: float | None = None,
    bend: tuple[Float[Array, " n"], ...] = (),
    largest_of_bend: float = 1.0,
) -> Bool[Array, ""]:
    r"""Whether a step is too large for a growing mode: $h \lambda > \gamma$.

    An A-stable method takes a mode of $h \lambda = +1000$ to nearly zero, as it takes one of -1000,
    and its filtered estimate is as small: the step is accepted where the solution grows by
    $e^{1000}$, and a solve walks through a singularity behind which there is no solution. Only the
    sign of the filter tells the two apart:

    $$P = \gamma (\gamma M - h J)^{-1} M: \qquad v = \frac{\gamma}{\gamma - h \lambda} v$$

    With `x` the stiff part of an estimate (in which slow modes are gone), `P x` points against `x`
    where a growing mode rules. Once is no proof: where fast and slow modes are close to parallel,
    what is left of the slow one may do so too. Another `P` then leaves it alone, and turns a growing
    mode again. (By one change of sign, Robertson's problem takes up to twice as many steps.)

    **Arguments:**

    - `powers`: `x`, `P x` and `P^2 x`. (Differences of powers of `I - P` have no digits left where
      $h \lambda$ is large.)
    - `largest`: of $h \lambda / \gamma$ that the method resolves, if that is less than one: before
      its pole a Rosenbrock method lets a mode grow by a multiple of what it should, or turns it.
    - `bend`: another direction and `P` of it, which may not grow by more than `largest_of_bend`.
    """
    # All in one array: each sum by itself would be compiled by itself.
    scaled = jax.vmap(lambda row: scaled_error(row, scale))(jnp.stack(powers + bend))
    size = nonzero(largest_size(scaled))
    # Products of what is divided by a large number often could underflow.
    unit = scaled / size[:, None]
    along = jnp.sum(unit[:-1] * unit[1:], axis=-1)
    wrong = (along[0] < 0) & (along[1] < 0)
    if largest is not None:
        square = jnp.sum(unit[:-1] * unit[:-1], axis=-1)
        # Of `P x` and `P` of it, which are rows 1 and 2, and of the bend, which is row 3.
        limits = {1: largest, 3: largest_of_bend} if bend else {1: largest}
        for i, limit in limits.items():
            # By the quotient of Rayleigh of `P`, which is one over `1 - h lambda / gamma`.
            wrong = wrong | (along[i] * (size[i + 1] / size[i]) * (1 - limit) > square[i])
    return wrong


def stiff_powers(
    slow: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    error: Float[Array, " n"],
    times: int,
    written_out: bool = False,
) -> tuple[Float[Array, " n"], tuple[Float[Array, " n"], ...]]:
    """`(I - P)^times` of an error, in which slow modes are gone, with `P` the function `slow`.

    **Returns:** it; the power before it and, one and two times, `P` of that.
    """

    def once(_: Any, powers: Any) -> Any:
        _, _, error = powers
        removed = slow(error)
        return error, removed, error - removed

    # Written out, the powers of a stage polynomial take up to a tenth longer to compile and no less
    # to run; those of a Rosenbrock step, which is shorter, a tenth less to run.
    powers = (error, error, error)
    before, removed, stiff = lax.fori_loop(0, times, once, powers, unroll=written_out)
    return stiff, (before, removed, slow(removed))
