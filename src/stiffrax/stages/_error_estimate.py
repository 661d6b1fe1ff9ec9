"""The embedded error estimate, filtered so that stiff components do not swamp it."""

from collections.abc import Callable

import equinox.internal as eqxi
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._products import small_matmul
from ._small_inverse import small_inverse
from ._split_factors import SplitFactors
from ._stage_system import StageSystem


def error_filter(
    system: StageSystem, hJ: Float[Array, "n n"], factors: SplitFactors
) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
    """`(gamma M - h J)^-1`: the real Newton matrix where there is one, else one more inverse."""
    if len(system.tableau.transform.real):
        return factors.solve_real
    gamma = jnp.asarray(system.tableau.gamma, hJ.dtype)
    inverse = small_inverse(gamma * jnp.eye(hJ.shape[0], dtype=hJ.dtype) - hJ)
    return lambda rhs: small_matmul(inverse, rhs[:, None])[:, 0]


def estimate_error(
    system: StageSystem,
    Z: Float[Array, "m n"],
    hf0: Float[Array, " n"],
    apply_filter: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    scaled_norm: Callable[[Float[Array, " n"]], Float[Array, ""]] | None,
) -> Float[Array, " n"]:
    r"""The defect of the stage polynomial at the start of the step, filtered:

    $$err = (\gamma M - h J)^{-1} (h f_0 + M \sum_i d_i Z_i)$$

    An estimate that would reject the step is computed once more with `f(t0, y0 + err)` in place of
    `f0`: that removes what bias the filter leaves at infinity, and most false rejections. (The
    classical codes do so on the first step and after a rejection; a diffrax solver cannot know that
    the last step was rejected, since its state is rolled back.)
    """
    weights = jnp.asarray(system.tableau.error_weights, Z.dtype)
    combination = jnp.sum(weights[:, None] * Z, axis=0)
    error = apply_filter(hf0 + combination)
    if scaled_norm is None:
        return error

    def again(error: Array) -> Array:
        hf = system.h * system.field(system.t0, system.y0 + error)
        return apply_filter(hf + combination)

    rejects = ~(scaled_norm(error) < 1)
    refined = lax.cond(eqxi.unvmap_any(rejects), again, lambda error: error, error)
    use = rejects & jnp.all(jnp.isfinite(refined))
    return jnp.where(use, refined, error)
