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
    - `scale`: what counts as one in each component.
    - `largest`: of $h \lambda / \gamma$ that the method resolves, if that is less than one: before
      its pole a Rosenbrock method lets a mode grow by a multiple of what it should, or turns it.
    """
    scaled = jax.vmap(lambda power: scaled_error(power, scale))(jnp.stack(powers))
    size = nonzero(largest_size(scaled)[:, None])
    # Products of what is divided by a large number often could underflow.
    unit = scaled / size
    turns = jnp.all(jnp.sum(unit[:-1] * unit[1:], axis=-1) < 0)
    if largest is None:
        return turns
    before, after = scaled[1:] / size[1:2]
    return turns | (jnp.sum(before * after) * (1 - largest) > jnp.sum(before * before))


def grows(
    x: Float[Array, " n"], once: Float[Array, " n"], scale: Float[Array, " n"], gamma: float
) -> Bool[Array, ""]:
    r"""Whether a direction grows, $h \lambda$ above a tenth: by the quotient of Rayleigh of `P`.

    Where a solution ends like $(t_1 - t)^{1/(k + 1)}$ it is $k / (k + 1)$ in a step to the end.

    **Arguments:** `once`: `P x`; the rest as in `grows_unresolved`.
    """
    scaled = jax.vmap(lambda v: scaled_error(v, scale))(jnp.stack([x, once]))
    size = largest_size(scaled[0])
    x, once = scaled / nonzero(size)
    return jnp.sum(x * once) * (1 - gamma / 10) > jnp.sum(x * x)


def stiff_powers(
    slow: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    error: Float[Array, " n"],
    times: int,
    written_out: bool = False,
) -> tuple[Float[Array, " n"], tuple[Float[Array, " n"], ...]]:
    """`(I - P)^times` of an error, in which slow modes are gone, with `P` the function `slow`.

    **Returns:** it; and for `grows_unresolved` the power before it and, one and two times, `P` of
    that.
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
