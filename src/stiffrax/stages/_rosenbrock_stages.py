"""The stages of a Rosenbrock step: their equations, and how these are solved."""

from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

from ..linear_algebra import (
    largest_size,
    library_matmul,
    small_matmul,
    stage_sum,
    weighted_sum,
    with_derivative,
)
from ..tableaus import RosenbrockTableau
from ._checked_factors import checked_factors
from ._lanes import linearization_point
from ._mass import Mass
from ._stage_system import FlatField
from ._stopping_rules import ErrorTolerance
from ._structure import AbstractStructure, zero_if_finite

# Increments of so many units of rounding of what they are made of come of a singular matrix. Chosen,
# not measured: of a matrix that is singular in exact numbers rounding leaves a few units.
_LOST = 100


@final
class RosenbrockSystem(eqx.Module):
    """One step's equations for the increments `U`, those of `AbstractRosenbrock`.

    `mass` is `None` where `M` is the identity.
    """

    tableau: RosenbrockTableau = eqx.field(static=True)
    structure: AbstractStructure
    field: FlatField
    t0: Shaped[Array, ""]
    dt: Shaped[Array, ""]
    h: Float[Array, ""]
    y0: Float[Array, " n"]
    mass: Mass | None = None

    @property
    def times(self) -> Float[Array, " s"]:
        """Times of the stages."""
        return self.t0 + self.tableau.c.astype(self.t0.dtype) * self.dt

    def time_derivative(self) -> Float[Array, " n"] | None:
        """`f_t` at the start of the step; `None` where `f` does not read the time."""
        if not self.field.depends_on_time:
            return None
        one = jnp.ones_like(self.t0)
        return jax.jvp(lambda t: self.field(t, self.y0), (self.t0,), (one,))[1]

    def of_time(self, f_t: Float[Array, " n"]) -> Float[Array, " n"]:
        """`h^2 f_t`; not by the square of `h`, which has the direction of time."""
        return self.h * self.dt.astype(f_t.dtype) * f_t

    def times_mass(self, x: Float[Array, "*k n"]) -> Float[Array, "*k n"]:
        """`M` times each row."""
        return x if self.mass is None else self.mass.times(x)

    def states(self, U: Float[Array, "s n"]) -> Float[Array, "s n"]:
        """The states of the stages."""
        return self.y0[None] + small_matmul(jnp.asarray(self.tableau.A, U.dtype), U)

    def times_jacobian(self, U: Float[Array, "s n"]) -> Float[Array, "s n"]:
        """`h J U_i`, by one forward-mode sweep a row, or a column of `J` where these are fewer."""
        if self.y0.size < self.tableau.num_stages:
            J = self.field.jacobian(self.t0, self.y0)
            return self.h * library_matmul(U, J.T)

        def push(u: Array) -> Array:
            return jax.jvp(lambda y: self.field(self.t0, y), (self.y0,), (u,))[1]

        return self.h * jax.vmap(push)(U)

    def at_start(self, U: Float[Array, "s n"]) -> Float[Array, "s n"]:
        """`h J U_i + d_i h^2 f_t`, by derivatives at the start of the step."""
        rows, f_t = self.times_jacobian(U), self.time_derivative()
        if f_t is None:
            return rows
        return rows + jnp.asarray(self.tableau.d, U.dtype)[:, None] * self.of_time(f_t)[None]

    def residual(self, U: Float[Array, "s n"]) -> Float[Array, "s n"]:
        """Their left sides less the right ones."""
        tableau, s = self.tableau, self.tableau.num_stages
        couplings = jnp.asarray(np.eye(s) * tableau.shift - tableau.C, U.dtype)
        slopes = self.h * jax.vmap(self.field)(self.times, self.states(U))
        return self.times_mass(small_matmul(couplings, U)) - self.at_start(U) - slopes


@final
class RosenbrockSolution(eqx.Module):
    """The increments of a step, and what they were found with; outside of differentiation.

    `bend`: what a Newton iteration would move a stage by, of the one that it moves the farthest
    beyond the method's `largest_bend`, or zero.
    `finite`: whether increments and end are, and not lost in the rounding of a singular matrix;
    `starts`: whether what a step of any size is made of is finite.
    """

    U: Float[Array, "s n"]
    bend: Float[Array, " n"]
    finite: Bool[Array, ""]
    starts: Bool[Array, ""]
    factors: Any


def solve_rosenbrock(
    system: RosenbrockSystem, tolerance: ErrorTolerance | None = None
) -> RosenbrockSolution:
    """Factors the matrix and goes through the stages.

    In a loop, which evaluates the field in one place: written out the stages take up to twice as
    long to compile, and no less to run. What a Newton iteration would do is seen there as well: for
    all stages at once, a step is an eighth more to compile.
    """
    tableau, structure, h, y0 = system.tableau, system.structure, system.h, system.y0
    J = structure.jacobian(system.field, system.t0, y0)
    f_t = system.time_derivative()
    at = system.field, system.t0, y0
    factors = checked_factors(tableau.shift, h, J, structure, system.mass, at)
    coefficients = tableau.A, tableau.C, tableau.c, tableau.d
    A, C, c, d = (jnp.asarray(x, y0.dtype) for x in coefficients)
    times = jnp.asarray(tableau.c, system.t0.dtype)
    size, unit = largest_size(y0), 1.0 if system.mass is None else system.mass.largest
    limit = _LOST * jnp.finfo(y0.dtype).eps

    def stage(i: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        U, first, bend, excess, large = carry
        way = stage_sum(A[i], U)
        slope = system.field(system.t0 + times[i] * system.dt, y0 + way)
        rhs = h * slope + system.times_mass(stage_sum(C[i], U))
        if f_t is not None:
            rhs = rhs + d[i] * system.of_time(f_t)
        first = jnp.where(i == 0, slope, first)
        if tolerance is None:
            u = structure.solve(factors, rhs[None])[0]
        else:
            # What is left of `h f` without its expansion at the start of the step, in which the
            # matrix itself stands for `h J`. At the first stage, which is the start, it is zero.
            rest = h * (slope - first) - tableau.shift * system.times_mass(way)
            if f_t is not None:
                rest = rest - c[i] * system.of_time(f_t)
            u, move = structure.solve_rows(factors, jnp.stack([rhs, rest]))
            move = way + move
            moved, gone = map(tolerance.scaled_norm, (move, way))
            new = moved - tableau.largest_bend * gone
            bend = jnp.where(new > excess, move, bend)
            excess = jnp.where(new > excess, new, excess)
        is_large = limit * largest_size(u) > jnp.maximum(size, largest_size(rhs) / unit)
        # The first such stage is the one that is seen: later ones are of its size.
        large = jnp.where(is_large & (large == num_stages), i, large)
        return lax.dynamic_update_slice_in_dim(U, u[None], i, 0), first, bend, excess, large

    num_stages = tableau.num_stages
    zeros, zero = jnp.zeros((num_stages, y0.size), y0.dtype), jnp.zeros_like(y0)
    carry = zeros, zero, zero, jnp.zeros((), y0.dtype), num_stages
    U, first, bend, _, large = lax.fori_loop(0, num_stages, stage, carry)
    u = U[jnp.minimum(large, num_stages - 1)]
    # Or small numbers are in other units than large ones. (A branch is twice as much to compile.)
    lost = (large < num_stages) & ~_is_determined(system, factors, J, u)
    # The slope without the step, which may be what is not finite, or too large.
    parts = sum(0 * x for x in (y0, first, f_t) if x is not None)
    starts = jnp.all(jnp.isfinite(parts + sum(map(zero_if_finite, jax.tree.leaves(J)))))
    end = y0 + weighted_sum(tableau.m, U) + sum(0 * u for u in U)
    finite = jnp.all(jnp.isfinite(end)) & ~lost
    return RosenbrockSolution(U, bend, finite, starts, factors)


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
    change = structure.solve(factors, rounding[None])[0]
    return jnp.any((size == largest_size(size)) & (_LOST * jnp.abs(change) < size))


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
