"""The equations of recorded Rosenbrock steps, transposed and solved stage by stage."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from .._flat_state import flatten_state
from ..diffrax_loop import Step
from ..linear_algebra import library_matmul
from ..solvers import AbstractRosenbrock
from ..stages import RosenbrockSystem, rosenbrock_increments, solve_rosenbrock, stop_gradient
from ._affine_steps import COMPOSITIONS
from ._recorded_steps import (
    AbstractRecordedSteps,
    Chunk,
    Pulled,
    Pushed,
    StepMaps,
    StepTangents,
    Times,
    at_times,
    times_of,
)


@final
class _SolvedStep(eqx.Module):
    """A step with its increments and the factors of its matrix."""

    step: Step
    U: Float[Array, "*k s n"]
    factors: Any


@final
class RosenbrockEquations(AbstractRecordedSteps):
    r"""The equations of recorded Rosenbrock steps.

    Cotangents `G_i` of the increments `U_i` are pulled back to the start of the step, last stage
    first, with the one matrix of the step; `J_i` is the Jacobian of the vector field at stage `i`,

    $$\left(\tfrac{1}{\gamma} M - h J\right)^T V_i = G_i + \sum_{j>i} C_{ji} M^T V_j
      + \sum_{j>i} a_{ji} h J_j^T V_j, \qquad
      \bar y_0 = \bar y_1 + \sum_i h J_i^T V_i
        + \frac{\partial}{\partial y_0} \sum_i V_i^T (h J U_i + d_i h^2 f_t).$$

    Each product with `J_i` serves twice, which derivatives of the step as a map do not see: they
    take it once for the stages and once more for the start. Tangents are pushed through the maps.

    `parameters` are the leaves of `(terms, args)` whose cotangents are wanted, `others` the rest.
    """

    solver: AbstractRosenbrock
    parameters: PyTree
    others: PyTree
    state: PyTree[Array]

    @property
    def _maps(self) -> StepMaps:
        return StepMaps(self.parameters, self.others, self.state, self.solver)

    @property
    def is_sparse(self) -> bool:
        """Whether the structure of the solver has a pattern."""
        return self._maps.is_sparse

    @property
    def num_powers(self) -> int:
        """The degree of the dense output."""
        return self._maps.num_powers

    def largest_map(self, *, back: bool) -> int:
        """Few: a unit cotangent costs a sweep of the vector field a stage. (Timed on one core for a
        gradient: at three states as long as one by one, at ten twice, at 40 four times as long.)"""
        return 3 if back else self._maps.largest_map(back=back)

    def pushed(
        self,
        chunk: Chunk,
        start: Float[Array, " n"],
        along: StepTangents,
        *,
        interior: bool,
    ) -> Pushed:
        """That of the steps as maps."""
        return self._maps.pushed(chunk, start, along, interior=interior)

    def system(self, parameters: PyTree, step: Step) -> RosenbrockSystem:
        """The equations of one step."""
        terms, args = eqx.combine(parameters, self.others)
        _, restore = flatten_state(self.state)
        return self.solver.step_equations(terms, step.t0, step.t1, restore(step.y0), args)[0]

    def _solved(self, step: Step) -> tuple[_SolvedStep, Bool[Array, ""]]:
        """With whether there are factors: in a step of no length the matrix of a singular mass has no
        inverse, and the step passes on what it gets."""
        system = self.system(self.parameters, step)
        solution = solve_rosenbrock(stop_gradient(system))
        U = jnp.where(solution.finite, rosenbrock_increments(system, solution), 0)
        return _SolvedStep(step, U, solution.factors), solution.finite

    def _equations(self, steps: Step, U: Float[Array, "k s n"]) -> Callable[..., Array]:
        """`-R` at every stage, as a function of all but the starts of the steps."""

        def equations(parameters: PyTree, times: Times) -> Array:
            at = at_times(steps, times)
            return -jax.vmap(lambda step, U: self.system(parameters, step).residual(U))(at, U)

        return equations

    def _right_sides(self, end: Array, polynomial: Array | None) -> Float[Array, "s n"]:
        tableau = self.solver.tableau
        G = jnp.asarray(tableau.m, end.dtype)[:, None] * end[None]
        if polynomial is None:
            return G
        return G + library_matmul(jnp.asarray(tableau.polynomial, end.dtype), polynomial)

    def _pull(
        self, solved: _SolvedStep, G: Float[Array, "s n"]
    ) -> tuple[Float[Array, " n"], Float[Array, "s n"]]:
        """What the stages of one step add to the cotangent of its start, and their `V`."""
        system, U = self.system(self.parameters, solved.step), solved.U
        solve = _transposed_solve(system, solved.factors)
        A, C = (jnp.asarray(x, G.dtype) for x in (system.tableau.A, system.tableau.C))

        def stage(later: tuple[Array, Array], given: tuple) -> tuple[tuple[Array, Array], None]:
            V, slopes = later  # Rows of this stage, and of those before it, are zero.
            i, a, c, t, y, g = given
            rhs = g + _times_mass_transposed(system, library_matmul(c, V))
            v = solve(rhs + library_matmul(a, slopes))
            slope = system.h * jax.vjp(lambda y: system.field(t, y), y)[1](v)[0]
            put = lax.dynamic_update_slice_in_dim
            return (put(V, v[None], i, 0), put(slopes, slope[None], i, 0)), None

        given = jnp.arange(len(G)), A.T, C.T, system.times, system.states(U), G
        none = jnp.zeros_like(G), jnp.zeros_like(G)
        (V, slopes), _ = lax.scan(stage, none, given, reverse=True)
        at_start = jax.vjp(lambda y0: replace(system, y0=y0).at_start(U), system.y0)[1]
        return jnp.sum(slopes, axis=0) + at_start(V)[0], V

    def pulled(
        self,
        chunk: Chunk,
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        *,
        times: bool,
    ) -> Pulled:
        """The equations transposed, for all unit cotangents of the ends in one batch, which make a
        step an affine map, or by `"solve"` for the one that comes, step by step; then one batch for
        the parameters."""
        solved, finite = eqx.filter_vmap(self._solved)(chunk.steps)
        used = chunk.used & finite
        if chunk.recurrence == "solve":
            start, V = self._pulled_in_turn(solved, used, nodes, polynomials)
        else:
            compose = COMPOSITIONS[chunk.recurrence]
            start, V = self._pulled_as_maps(solved, used, nodes, polynomials, compose)
        at = self.parameters, times_of(chunk.steps, wanted=times)
        _, pull = jax.vjp(self._equations(chunk.steps, solved.U), *at)
        return start, StepTangents(*pull(jnp.where(used[:, None, None], V, 0)))

    def _pulled_as_maps(
        self,
        solved: _SolvedStep,
        used: Array,
        nodes: Array,
        polynomials: Array | None,
        compose: Callable[..., tuple[Array, Array]],
    ) -> tuple[Float[Array, " n"], Float[Array, "k s n"]]:
        k, n = len(used), nodes.shape[1]
        identity = jnp.eye(n, dtype=nodes.dtype)
        units = jax.vmap(lambda unit: self._right_sides(unit, None), out_axes=-1)(identity)
        G = jnp.broadcast_to(units, (k, *units.shape))
        if polynomials is not None:
            none = jnp.zeros(n, nodes.dtype)
            column = jax.vmap(lambda p: self._right_sides(none, p))(polynomials)
            G = jnp.concatenate([G, column[..., None]], axis=-1)

        def columns(solved: _SolvedStep, G: Array) -> tuple[Array, Array]:
            return jax.vmap(lambda g: self._pull(solved, g), -1, -1)(G)

        starts, V = eqx.filter_vmap(columns)(solved, G)
        P = identity[None] + jnp.where(used[:, None, None], starts[..., :n], 0)
        q = nodes[:-1]
        if polynomials is not None:
            q = q + jnp.where(used[:, None], starts[..., n], 0)
        start, ends = compose(P, q, nodes[-1])
        along = jnp.einsum("ksnr,kr->ksn", V[..., :n], ends, precision=lax.Precision.HIGHEST)
        return start, along if polynomials is None else along + V[..., n]

    def _pulled_in_turn(
        self, solved: _SolvedStep, used: Array, nodes: Array, polynomials: Array | None
    ) -> tuple[Float[Array, " n"], Float[Array, "k s n"]]:
        dynamic, static = eqx.partition(solved, eqx.is_array)

        def body(end: Array, given: tuple) -> tuple[Array, Array]:
            dynamic, used, node, polynomial = given
            solved = eqx.combine(dynamic, static)
            start, V = self._pull(solved, self._right_sides(end, polynomial))
            return node + jnp.where(used, end + start, end), V

        return lax.scan(body, nodes[-1], (dynamic, used, nodes[:-1], polynomials), reverse=True)


def _times_mass_transposed(system: RosenbrockSystem, v: Float[Array, " n"]) -> Float[Array, " n"]:
    # Not by `Mass.times`, whose product has no transpose.
    if system.mass is None:
        return v
    entries = system.mass.entries
    if system.mass.is_diagonal:
        return entries * v
    return library_matmul(entries.T, v)


def _transposed_solve(system: RosenbrockSystem, factors: Any) -> Callable[[Array], Array]:
    structure, zeros = system.structure, jnp.zeros_like(system.y0)

    def solve(_: Any, b: Array) -> Array:
        return structure.solve(factors, b[None])[0]

    def transposed(_: Any, b: Array) -> Array:
        return jax.vjp(lambda x: solve(None, x), zeros)[1](b)[0]

    def product(v: Array) -> Array:
        pull = jax.vjp(lambda y: system.field(system.t0, y), system.y0)[1]
        return system.tableau.shift * _times_mass_transposed(system, v) - system.h * pull(v)[0]

    return lambda b: lax.custom_linear_solve(product, b, transposed, solve)
