"""The stages of a Rosenbrock step."""

from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._trees import recompute_where
from ..linear_algebra import (
    largest_size,
    library_matmul,
    small_matmul,
    stage_sum,
    with_derivative,
)
from ._checked_factors import checked_factors
from ._lanes import linearization_point
from ._rosenbrock_system import RosenbrockSystem

# Increments of so many units of rounding of what they are made of come of a singular matrix. Chosen,
# not measured: of a matrix that is singular in exact numbers rounding leaves a few units.
_LOST = 100


@final
class RosenbrockSolution(eqx.Module):
    """The increments of a step, and what they were found with; outside of differentiation.

    `ways`: from the start to the stages; `moves`: what a Newton iteration would move these by.
    `finite`: whether increments and end are, and not lost in the rounding of a singular matrix;
    `starts`: whether what a step of any size is made of is finite.
    """

    U: Float[Array, "s n"]
    ways: Float[Array, "s n"]
    moves: Float[Array, "s n"]
    finite: Bool[Array, ""]
    starts: Bool[Array, ""]
    factors: Any


def solve_rosenbrock(system: RosenbrockSystem) -> RosenbrockSolution:
    """Factors the matrix and goes through the stages.

    In a loop, which evaluates the field in one place: written out the stages take up to twice as
    long to compile, and no less to run.
    """
    tableau, structure, h, y0 = system.tableau, system.structure, system.h, system.y0
    J = structure.jacobian(system.field, system.t0, y0)
    f_t = system.time_derivative()
    at = system.field, system.t0, y0
    factors = checked_factors(tableau.shift, h, J, structure, system.mass, at)
    A, C, d = (jnp.asarray(x, y0.dtype) for x in (tableau.A, tableau.C, tableau.d))
    times = system.times

    def put(rows: Array, row: Array, i: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(rows, row, i, 0)

    size, unit = largest_size(y0), 1.0 if system.mass is None else system.mass.largest
    limit = _LOST * jnp.finfo(y0.dtype).eps

    def stage(i: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        U, slopes, large = carry
        slope = system.field(times[i], y0 + stage_sum(A[i], U))
        rhs = h * slope + system.times_mass(stage_sum(C[i], U))
        if f_t is not None:
            rhs = rhs + d[i] * system.of_time(f_t)
        u = structure.solve(factors, rhs[None])
        is_large = limit * largest_size(u[0]) > jnp.maximum(size, largest_size(rhs) / unit)
        # The first such stage is the one that is seen: later ones are of its size.
        large = jnp.where(is_large & (large == num_stages), i, large)
        return put(U, u, i), put(slopes, slope[None], i), large

    num_stages = tableau.num_stages
    zeros = jnp.zeros((num_stages, y0.size), y0.dtype)
    U, slopes, large = lax.fori_loop(0, num_stages, stage, (zeros, zeros, num_stages))
    u = U[jnp.minimum(large, num_stages - 1)]
    is_large = large < num_stages
    # Or small numbers are in other units than large ones.
    lost = recompute_where(is_large, lambda: ~_is_determined(system, factors, J, u), is_large)
    # The slope without the step, which may be what is not finite, or too large.
    entries = [y0, slopes[0], *jax.tree.leaves(J)]
    entries += [] if f_t is None else [f_t]
    starts = jnp.all(jnp.isfinite(jnp.concatenate([x.reshape(-1) for x in entries])))
    finite = jnp.all(jnp.isfinite(U)) & ~lost
    ways = small_matmul(A, U)
    moves = _moves(system, factors, ways, slopes, f_t)
    return RosenbrockSolution(U, ways, moves, finite, starts, factors)


def _is_determined(
    system: RosenbrockSystem, factors: Any, J: Any, u: Float[Array, " n"]
) -> Bool[Array, ""]:
    """Whether rounding of the matrix leaves digits of the largest component of a solution `u`."""
    structure, mass, size = system.structure, system.mass, jnp.abs(u)
    hJ = structure.scaled(system.h, J)
    slopes = jax.tree.map(jnp.abs, structure.as_sparse(hJ, u.size)) @ size
    absolute = mass if mass is None else replace(mass, entries=jnp.abs(mass.entries))
    shifted = system.tableau.shift * (size if absolute is None else absolute.times(size))
    rounding = jnp.finfo(u.dtype).eps * (slopes + shifted)
    change, k = structure.solve(factors, rounding[None])[0], jnp.argmax(size)
    return _LOST * jnp.abs(change[k]) < size[k]


def _moves(
    system: RosenbrockSystem, factors: Any, ways: Array, slopes: Array, f_t: Array | None
) -> Float[Array, "s n"]:
    r"""What one simplified Newton iteration would move each stage by.

    That is $(\tfrac{1}{\gamma} M - h J)^{-1}$ times what is left of `h f` at the stage without its
    expansion at the start of the step, in which the matrix itself stands for `h J`.
    """
    # The difference first: at the first stage, which is the start, it must be zero.
    bends = system.h * (slopes - slopes[:1]) - system.tableau.shift * system.times_mass(ways)
    if f_t is not None:
        c = jnp.asarray(system.tableau.c, ways.dtype)[:, None]
        bends = bends - c * system.of_time(f_t)[None]
    return ways + system.structure.solve_rows(factors, bends)


def _solve_linearized(
    system: RosenbrockSystem, U: Float[Array, "s n"], rhs: Float[Array, "s n"]
) -> Float[Array, "s n"]:
    """Solves dR/dU V = rhs: forward substitution, with the same matrix in every stage."""
    tableau, structure, s = system.tableau, system.structure, system.tableau.num_stages
    frozen = jax.tree.map(lambda x: lax.stop_gradient(x) if eqx.is_array(x) else x, system)
    at = frozen.field, frozen.t0, frozen.y0
    J = structure.jacobian(*at)
    factors = checked_factors(tableau.shift, frozen.h, J, structure, frozen.mass, at)

    def times_mass(v: Array) -> Array:
        # Not by `Mass.times`, whose product has no transpose.
        if system.mass is None:
            return v
        entries = system.mass.entries
        return entries * v if system.mass.is_diagonal else library_matmul(entries, v)

    def product(v: Array) -> Array:
        return tableau.shift * times_mass(v) - system.times_jacobian(v[None])[0]

    def solve(_: Any, b: Array) -> Array:
        return structure.solve(factors, b[None])[0]

    def transposed(_: Any, b: Array) -> Array:
        return jax.vjp(lambda x: solve(None, x), jnp.zeros_like(b))[1](b)[0]

    def stage(V: Array, given: tuple[Array, ...]) -> tuple[Array, None]:
        i, a, C, t, y, b = given
        moved = library_matmul(a, V)
        slope = jax.jvp(lambda y: system.field(t, y), (y,), (moved,))[1]
        b = b + times_mass(library_matmul(C, V)) + system.h * slope
        v = lax.custom_linear_solve(product, b, solve, transposed)
        return V.at[i].set(v), None

    A, C = (jnp.asarray(x, U.dtype) for x in (tableau.A, tableau.C))

    def substituted(rhs: Array) -> Array:
        given = jnp.arange(s), A, C, system.times, system.states(U), rhs
        return lax.scan(stage, jnp.zeros_like(U), given)[0]

    # The derivative of what is linear: JAX before 0.8 transposes such loops only as it makes them.
    return jax.jvp(substituted, (jnp.zeros_like(rhs),), (rhs,))[1]


def _derivative(primals: Any, tangents: Any) -> Any:
    system, found, ok = primals
    U = _increments(system, found, ok)
    point, U_point = linearization_point(system, U, ok)
    # Without a step the matrix of a failed lane is that of the mass, and none of its derivatives is
    # anything but a number.
    point = replace(point, h=jnp.where(ok, point.h, 0))
    if point.mass is not None:
        entries = point.mass.entries
        one = jnp.ones_like(entries) if entries.ndim == 1 else jnp.eye(len(entries))
        mass = replace(point.mass, entries=jnp.where(ok, entries, one.astype(entries.dtype)))
        point = replace(point, mass=mass)
    change = eqx.filter_jvp(lambda system: system.residual(U_point), (point,), (tangents[0],))[1]
    change = jnp.where(ok, change, 0)
    return U, jnp.where(ok, _solve_linearized(point, U_point, -change), 0)


def _found(system: RosenbrockSystem, U: Array, ok: Array) -> Array:
    del system, ok
    return U


_increments = with_derivative("rosenbrock_increments", _found, _derivative)


def rosenbrock_increments(
    system: RosenbrockSystem, solution: RosenbrockSolution
) -> Float[Array, "s n"]:
    """The increments, differentiable in everything that `system` holds.

    The derivative is exact: that of the Jacobian and of the time derivative, which the step
    contains, are second derivatives of the vector field, taken as products. A step that failed has
    the derivative zero and does not disturb others in its batch.
    """
    return _increments(system, lax.stop_gradient(solution.U), solution.finite)
