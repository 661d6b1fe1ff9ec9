"""Stopping rules of the stage iteration."""

import functools as ft
from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax import lax
from jax.tree_util import Partial
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree, Scalar

from .._flat_state import flatten_state, has_complex, magnitudes, real_dtype
from ..diffrax_loop import scaled_error
from ..linear_algebra import largest_of_rows, largest_size
from ..tableaus import Tableau
from ._newton import StoppingRule, at_rounding_level, is_root_mean_square, written_out_norm

# The part of the tolerance within which an iteration may stall. A contraction of 0.9, the least
# that counts as a stall, makes a third of the tolerance of it.
_STALL = 0.03
# An absolute tolerance of the size of the relative one leaves the judgement to that: with one here,
# six of nine solves with 1e-6 for both took 2 to 30 % more or fewer steps, and one, of Robertson's
# problem, left its solution.
_MOSTLY = 0.1


def _size(y0: Float[Array, " n"], Z: Float[Array, "m n"]) -> Float[Array, " n"]:
    size = jnp.maximum(jnp.abs(y0), largest_of_rows(jnp.abs(y0[None] + Z)))
    dtype = jnp.finfo(y0.dtype)
    # With `eps` alone a state of 1e-10 of the largest was off by 11 % in single precision, with none
    # a displacement back to zero would overflow there.
    floor = jnp.maximum(dtype.eps**2 * largest_size(size), dtype.tiny / dtype.eps)
    return jnp.maximum(size, floor)


def _within_rounding(y0: Float[Array, " n"], dZ: Array, Z: Array) -> Array:
    return at_rounding_level(dZ, (y0, y0[None] + Z))


def rounding_rule(y0: Float[Array, " n"]) -> StoppingRule:
    """Converges every component to a few units of rounding of its own size.

    For fixed steps, where no tolerance is known and the derivative is taken at the root.
    """
    # `Partial`, not closures: JAX must see the arrays that a rule holds.
    return StoppingRule(
        weights=Partial(_size, y0),
        kappa=4 * float(jnp.finfo(y0.dtype).eps),
        noise=Partial(_within_rounding, y0),
        size=largest_size(jnp.abs(y0)),
        rounded=Partial(_size, y0),
    )


def _given_weights(y0: Array, rtol: Array, atol: Array, Z: Array) -> Array:
    return atol + rtol * jnp.maximum(jnp.abs(y0), largest_of_rows(jnp.abs(y0[None] + Z)))


def given_tolerance_rule(state: PyTree[ArrayLike], rtol: Any, atol: Any) -> StoppingRule:
    """Converges within tolerances, of the state's shape, that the user gave to the root finder."""
    y0, _ = flatten_state(state)
    rtol, atol = (lax.stop_gradient(_flat_of(state, lambda _, x=x: x)) for x in (rtol, atol))
    return StoppingRule(
        weights=Partial(_given_weights, y0, rtol, atol),
        noise=Partial(_within_rounding, y0),
        rounded=Partial(_size, y0),
    )


@final
class ErrorTolerance(eqx.Module):
    r"""The controller's tolerances, made stricter by `ratio` for the embedded estimate.

    The estimate is of order `s + 1` in the step size, the solution's error of order `order + 1`:
    asking the estimate for `ratio` times the tolerance asks the solution for the tolerance itself.

    $$ratio = 0.1\, r^{(s + 1) / (order + 1) - 1}, \qquad r = \max(rtol, \min_i atol_i / (10 |y_i|))$$

    with `r` at most one, and without the 10 where `rtol` is zero. (A power of `atol` itself would
    depend on the units of the state; one of an `rtol` far below `atol / |y|` loosens the estimate by
    as much as nobody asked for.)

    Methods of one and two stages need so many steps that the sum of their errors is what counts,
    which is of order `order`: for them the exponent is `min(1.5, 0.9 (s + 1) / order) - 1`.

    `relative` is `ratio` times `r`; `rtol` is one number, or one for each component.
    """

    scale: Float[Array, " n"]
    rtol: Float[Array, "..."]
    relative: Float[Array, ""]
    ratio: Float[Array, ""]
    norm: Callable[[Array], Array]

    def scaled_norm(self, error: Float[Array, " n"]) -> Float[Array, ""]:
        """The norm in which an error of one is just acceptable."""
        return self.norm(scaled_error(error, self.scale))


def _is_given(norm: Any) -> bool:
    return isinstance(norm, StateNorm) and norm.given is not optx.rms_norm


@final
class StateNorm(eqx.Module):
    """The norm that a controller has for its states, of a flat one; of several rows the largest."""

    given: Callable[[PyTree], Scalar]
    restore: Callable[[Array], PyTree] = eqx.field(static=True)

    def __call__(self, flat: Float[Array, "*m n"]) -> Float[Array, ""]:
        if flat.ndim == 2:
            return largest_size(jax.vmap(self)(flat))
        # As the controller takes it: of absolute values.
        return jnp.asarray(self.given(magnitudes(self.restore(flat))), flat.dtype)


def accepts_error(
    error: Float[Array, " n"] | None,
    y0: Float[Array, " n"],
    y1: Float[Array, " n"],
    tolerance: ErrorTolerance | None,
) -> Bool[Array, ""] | None:
    """Whether a controller accepts a step with this error; not known but for what is not finite
    where nobody has filled in its tolerances."""
    if error is None:
        return None
    if tolerance is None:
        return jnp.all(jnp.isfinite(error))
    y1 = jnp.where(jnp.any(jnp.isnan(y1)), y0, y1)
    growth = jnp.maximum(jnp.abs(y1) - jnp.abs(y0), 0)
    scale = tolerance.scale + tolerance.rtol * growth
    return tolerance.norm(scaled_error(error * tolerance.ratio, scale)) < 1


def worst_component(
    error: Float[Array, " n"] | None, tolerance: ErrorTolerance | None
) -> Int[Array, ""]:
    """The component whose error is the largest, in units of its tolerance where that is known."""
    if error is None:
        return jnp.asarray(0)
    return jnp.argmax(jnp.abs(error if tolerance is None else scaled_error(error, tolerance.scale)))


def error_tolerance(
    tableau: Tableau, y0: PyTree[ArrayLike], rtol: Any, atol: Any, norm: Callable[[Array], Array]
) -> ErrorTolerance:
    """Scales `atol + rtol |y0|`, and how much stricter or looser the estimate is judged."""
    given = plain_tolerance(y0, rtol, atol, norm)
    exponent = tableau.error_order / (tableau.order + 1)
    if tableau.num_stages <= 2:
        exponent = min(1.5, 0.9 * tableau.error_order / tableau.order)
    ratio = 0.1 * given.relative ** (exponent - 1)
    scale, rtol, relative = (ratio * x for x in (given.scale, given.rtol, given.relative))
    return ErrorTolerance(scale, rtol, relative, ratio, given.norm)


def _flat_of(y0: PyTree[ArrayLike], value: Callable[[ArrayLike], Any]) -> Float[Array, " n"]:
    """`value` of each leaf of a state, as a flat state has it."""

    def leaf(y: ArrayLike) -> Array:
        # In the precision of the state, whatever that of the tolerances.
        size = (value(y) + 0 * jnp.abs(y)).astype(real_dtype(y))
        # Both parts of a complex entry have the tolerance of its size.
        return lax.complex(size, size) if jnp.iscomplexobj(y) else size

    return flatten_state(jax.tree.map(leaf, y0))[0]


def plain_tolerance(
    y0: PyTree[ArrayLike], rtol: Any, atol: Any, norm: Callable[[Array], Array]
) -> ErrorTolerance:
    """The tolerances as they were given, for an estimate that is compared with them as it is."""
    flat_of = ft.partial(_flat_of, y0)
    scale = flat_of(lambda y: atol + rtol * jnp.abs(y))
    one = jnp.ones((), scale.dtype)
    rtol = flat_of(lambda _: rtol) if jnp.ndim(rtol) else jnp.asarray(rtol, scale.dtype)
    # The largest component in units of its absolute tolerance.
    largest = largest_size(scaled_error(flat_of(jnp.abs), flat_of(lambda _: atol)))
    least = 1 / largest_size(1 / rtol) if rtol.ndim else rtol
    absolute = jnp.where(largest > 1, 1 / largest, 1)
    relative = jnp.where(least > 0, jnp.maximum(least, _MOSTLY * absolute), absolute)
    norm, is_default = written_out_norm(norm), is_root_mean_square(norm)
    if has_complex(y0) or not is_default:
        norm = StateNorm(optx.rms_norm if is_default else norm, flatten_state(y0)[1])
    return ErrorTolerance(scale, rtol, relative, one, norm)


def most_iterations(tableau: Tableau) -> int:
    """Iterations after which a step is better made smaller: 7, and 2.5 a stage beyond three."""
    return 7 + max(0, round(2.5 * (tableau.num_stages - 3)))


def _constant(scale: Array, Z: Array) -> Array:
    del Z
    return scale


def _below(scale: Array, bound: Array, dZ: Array, Z: Array) -> Array:
    del Z
    return jnp.all(jnp.abs(dZ) <= bound * scale[None])


def error_controlled_rule(tableau: Tableau, tolerance: ErrorTolerance, eta: Array) -> StoppingRule:
    r"""Converges to a fraction of the (transformed) error tolerance that shrinks with the stages.

    $$\kappa = \max(10 u / rtol', \min(0.03, rtol'^{(s - 1) / (s + 1)}))$$

    With a constant instead of the last term, methods of high order return garbage and call it
    success: their error estimate cannot see an iteration error of its own size.

    An iteration that stalls within a small part of the tolerance, the transformed one and the one
    that was given, has converged: rounding in the vector field may be above \kappa.
    """
    scale, s = tolerance.scale, tableau.num_stages
    eps = jnp.finfo(scale.dtype).eps
    rtol = jnp.maximum(tolerance.relative, eps)
    kappa = jnp.maximum(10 * eps / rtol, jnp.minimum(0.03, rtol ** ((s - 1) / (s + 1))))
    stall = _STALL * jnp.minimum(1, 1 / tolerance.ratio)
    return StoppingRule(
        weights=Partial(_constant, scale),
        kappa=kappa,
        eta=jnp.maximum(eta, eps) ** 0.8,
        noise=Partial(_below, scale, jnp.maximum(10 * eps / rtol, stall)),
        patience=0.99,
        max_iterations=most_iterations(tableau),
        least_eta=0.03,
        norm=tolerance.norm if _is_given(tolerance.norm) else None,
    )


def _divided(weights: Callable, by: Array, Z: Array) -> Array:
    return weights(Z) / by


def _noise_of_weighed(noise: Callable, by: Array, dZ: Array, Z: Array) -> Array:
    return noise(by[None] * dZ, Z)


def weighed_rule(rule: StoppingRule, by: Float[Array, " n"]) -> StoppingRule:
    """The rule, with the displacement of each component multiplied by `by`."""
    weights, noise = Partial(_divided, rule.weights, by), Partial(_noise_of_weighed, rule.noise, by)
    return replace(rule, weights=weights, noise=noise)


def next_eta(theta: Float[Array, ""], eta: Float[Array, ""]) -> Float[Array, ""]:
    """The first iteration's estimate for the next step.

    One iteration teaches nothing new, so that the old estimate is trusted less each time: with the
    same one for ever, a single lucky contraction would excuse every later step from iterating.
    """
    contraction = jnp.minimum(theta, 0.99)
    eps = jnp.finfo(eta.dtype).eps
    aged = jnp.maximum(eta, eps) ** 0.8
    return jnp.where(jnp.isnan(theta), aged, contraction / (1 - contraction))
