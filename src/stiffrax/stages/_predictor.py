"""The starting guess of a step: the last step's collocation polynomial, continued."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..tableaus import Tableau
from ._products import small_matmul
from ._short_sums import weighted_sum
from ._stage_system import StageSystem

# Beyond this growth the polynomial says nothing about the next step.
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
        coefficients = coefficients + slope[:, None] * system.hf0
    return coefficients


def evaluate_polynomial(coefficients: Array, theta: Array) -> Array:
    """`sum_j p_j theta^j` (no constant term) for each theta: `theta.shape + (n,)`."""
    value = jnp.zeros((*theta.shape, *coefficients.shape[1:]), coefficients.dtype)
    theta = theta.reshape(*theta.shape, *(1,) * (coefficients.ndim - 1))
    for p in coefficients[::-1]:
        value = (value + p) * theta
    return value


def predict(
    tableau: Tableau, polynomial: StagePolynomial, h: Float[Array, ""], made_jump: Array | bool
) -> Float[Array, "m n"]:
    """Stage increments continued from the last step; zero after a jump or a wild step change."""
    growth = h / polynomial.h
    theta = 1 + growth * tableau.nodes.astype(h.dtype)
    end = weighted_sum(np.ones(len(polynomial.coefficients)), polynomial.coefficients)
    guess = evaluate_polynomial(polynomial.coefficients, theta) - end
    use = polynomial.known & (growth < _LARGEST_GROWTH) & ~jnp.asarray(made_jump)
    return jnp.where(use, guess, 0)
