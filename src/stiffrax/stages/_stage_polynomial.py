"""The polynomial through the stages: continued as a guess, its defect the error estimate."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import equinox.internal as eqxi
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..linear_algebra import small_matmul, weighted_sum
from ..tableaus import Tableau
from ._growing_modes import stiff_powers
from ._stage_system import StageSystem

# Beyond this growth the polynomial says nothing about the next step. Chosen, not measured: a little
# more than the factor 8 by which RADAU5 lets a step grow.
_LARGEST_GROWTH = 10.0


@final
class StagePolynomial(eqx.Module):
    """Coefficients of theta, ..., theta^s of the last step's increment, and that step."""

    coefficients: Float[Array, "s n"]
    h: Float[Array, ""]
    known: Bool[Array, ""]


def no_polynomial(tableau: Tableau, y: Float[Array, " n"]) -> StagePolynomial:
    """The state before the first step."""
    shape = (len(tableau.c), y.size)
    return StagePolynomial(jnp.zeros(shape, y.dtype), jnp.ones((), y.dtype), jnp.asarray(False))


def stage_polynomial(system: StageSystem, Z: Float[Array, "m n"]) -> Float[Array, "s n"]:
    """Coefficients of the collocation polynomial through the stages of a solved step."""
    tableau = system.tableau
    coefficients = small_matmul(jnp.asarray(tableau.polynomial.T, Z.dtype), Z)
    if system.hf0 is not None:
        slope = jnp.asarray(tableau.polynomial_explicit, Z.dtype)
        coefficients = coefficients + slope[:, None] * system.hf0[None]
    return coefficients


def evaluate_polynomial(coefficients: Array, theta: Array) -> Array:
    """`sum_j p_j theta^j` (no constant term) for each theta: `theta.shape + (n,)`."""
    degree, *shape = coefficients.shape
    rows = coefficients.reshape(degree, *(1,) * theta.ndim, *shape)
    value = jnp.zeros((*theta.shape, *shape), coefficients.dtype)
    theta = theta.reshape(*theta.shape, *(1,) * (coefficients.ndim - 1))
    for p in rows[::-1]:
        value = (value + p) * theta
    return value


def predict(
    tableau: Tableau, polynomial: StagePolynomial, h: Float[Array, ""], made_jump: Array | bool
) -> Float[Array, "m n"]:
    """Stage increments continued from the last step; zero after a jump or a wild step change."""
    growth = h / polynomial.h
    theta = 1 + growth * tableau.nodes.astype(h.dtype)
    end = weighted_sum(np.ones(len(polynomial.coefficients)), polynomial.coefficients)
    guess = evaluate_polynomial(polynomial.coefficients, theta) - end[None]
    use = polynomial.known & (growth < _LARGEST_GROWTH) & ~jnp.asarray(made_jump)
    return jnp.where(use, guess, 0)


def estimate_error(
    system: StageSystem,
    Z: Float[Array, "m n"],
    hf0: Float[Array, " n"],
    apply_filter: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    scaled_norm: Callable[[Float[Array, " n"]], Float[Array, ""]] | None,
) -> tuple[Float[Array, " n"], Int[Array, ""]]:
    r"""The defect of the stage polynomial `p` at one end of the step, filtered:

    $$err = (\gamma M - h J)^{-1} (h f_0 - M p'(0)), \qquad p'(0) = - \sum_i d_i Z_i$$

    An estimate that would reject the step is computed once more with `f(t0, y0 + err)` in place of
    `f0`: that removes what bias the filter leaves at infinity, and most false rejections. (The
    classical codes do so on the first step and after a rejection; a diffrax solver cannot know that
    the last step was rejected, since its state is rolled back.) Not so for methods that are not
    L-stable: there the bias is what the method itself leaves undamped, and the only trace of it.

    Where the end of the step is not a stage (Gauss), the defect is that at the end: an error of a
    stiff component at the start is divided by its stiffness there, and its error at the end is not.

    **Returns:** the estimate, and how many evaluations of the vector field it took here.
    """
    tableau = system.tableau
    if not tableau.stiffly_accurate:
        return apply_filter(_defect_at_end(system, Z)), jnp.asarray(1)
    combination = system.times_mass(weighted_sum(tableau.error_weights, Z))
    error = apply_filter(_of_derivatives(system, hf0) + combination)
    if scaled_norm is None or tableau.explicit_first_stage:
        return error, jnp.asarray(0)

    def again(error: Array) -> Array:
        hf = system.h * system.field(system.t0, system.y0 + error)
        return apply_filter(_of_derivatives(system, hf) + combination)

    rejects = ~(scaled_norm(error) < 1)
    refined = lax.cond(eqxi.unvmap_any(rejects), again, lambda error: error, error)
    use = rejects & jnp.all(jnp.isfinite(refined))
    return jnp.where(use, refined, error), rejects.astype(int)


def _of_derivatives(system: StageSystem, hf: Float[Array, " n"]) -> Float[Array, " n"]:
    """Without the rows that are constraints: zero but for rounding, which no small step divides."""
    return hf if system.mass is None else system.mass.in_range(hf)


def _defect_at_end(system: StageSystem, Z: Float[Array, "m n"]) -> Float[Array, " n"]:
    """`h f(t1, y1) - M p'(1)`."""
    tableau = system.tableau
    powers = np.arange(1, tableau.polynomial.shape[1] + 1)
    slope = weighted_sum(powers, stage_polynomial(system, Z))
    y1 = system.y0 + weighted_sum(tableau.d, Z)
    return system.h * system.field(system.t0 + system.dt, y1) - system.times_mass(slope)


def _farthest_from_nodes(tableau: Tableau) -> float:
    """Where in the step a polynomial through its start and the stages is least determined."""
    theta = np.linspace(0, 1, 1001)
    size = np.abs(theta * np.prod(theta[:, None] - tableau.nodes, axis=1))
    # A number of Python: one of NumPy would make single-precision times double.
    return float(theta[np.argmax(size)])


def interior_error(
    system: StageSystem,
    Z: Float[Array, "m n"],
    apply_filter: Callable[[Float[Array, " n"]], Float[Array, " n"]],
) -> Float[Array, " n"]:
    r"""The defect of the stage polynomial where it is least determined, filtered:

    $$(\gamma M - h J)^{-1} (h f(t_0 + \theta h, y_0 + p(\theta)) - M p'(\theta))$$

    For stiff components this is the error of the dense output there, of which the estimate at the
    ends of the step knows nothing; for others it is of the same order in `h`.
    """
    theta = _farthest_from_nodes(system.tableau)
    coefficients = stage_polynomial(system, Z)
    powers = np.arange(1, len(coefficients) + 1)
    value, slope = (
        weighted_sum(w, coefficients) for w in (theta**powers, powers * theta ** (powers - 1))
    )
    t = system.t0 + theta * system.dt
    return apply_filter(system.h * system.field(t, system.y0 + value) - system.times_mass(slope))


def stiff_part(
    system: StageSystem,
    error: Float[Array, " n"],
    apply_filter: Callable[[Float[Array, " n"]], Float[Array, " n"]],
) -> tuple[Float[Array, " n"], tuple[Float[Array, " n"], ...]]:
    r"""What of an estimate lies in stiff components, where the method has lost its order:

    $$(I - \gamma (\gamma M - h J)^{-1} M)^k err, \qquad k = \text{order} + 1 - (s + 1) + 2$$

    Where `h J` is large this is the estimate itself; where it is small, it is of a higher order in
    `h` than the true error, so that it never decides there. (With two powers less it is of the same
    order, and costs a fifth of all steps where `h J` is about one.)

    **Returns:** what `stiff_powers` does.
    """
    times = system.tableau.order + 3 - system.tableau.error_order

    def slow(error: Array) -> Array:
        return system.tableau.gamma * apply_filter(system.times_mass(error))

    return stiff_powers(slow, error, times)
