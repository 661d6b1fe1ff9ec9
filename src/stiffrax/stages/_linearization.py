"""Jacobians and factors that outlive a step."""

from dataclasses import replace
from typing import Any, final

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._trees import select
from ..tableaus import Tableau
from ._mass import Mass
from ._stage_solve import StageMethod, StageSolution, iterate_newton
from ._stage_system import FlatField, StageSystem
from ._structure import AbstractStructure, SplitFactors, factorize

# A contraction up to which an old Jacobian is as good as a new one: THET of RADAU5 (Hairer and Wanner).
_GOOD_CONTRACTION = 1e-3
# A change of the step size up to which old factors are used. Chosen, not measured: the same step but
# for rounding.
_SAME_STEP = 1e-6
# From this number of states on a linearization is kept from step to step: below, a Jacobian and its
# factors cost less than to decide about them. Between HIRES (8 states), where that holds, and POLLU
# (20), where it does not; the number itself is chosen, not measured.
LEAST_SIZE_TO_REUSE = 16


@final
class Linearization(eqx.Module):
    """A Jacobian, and the factors of the Newton matrix made of it for the step `h`.

    `serves`: the last iteration with it converged fast enough for it to be used again.
    """

    jacobian: Any
    factors: Any
    h: Float[Array, ""]
    serves: Bool[Array, ""]


@final
class LinearizationWork(eqx.Module):
    """Jacobians, factorizations and iterations of one step."""

    jacobians: Int[Array, ""]
    factorizations: Int[Array, ""]
    iterations: Int[Array, ""]


def no_linearization(
    tableau: Tableau,
    field: FlatField,
    t: Array,
    y: Float[Array, " n"],
    structure: AbstractStructure,
    mass: Mass | None = None,
) -> Linearization:
    """The state before the first step."""
    jacobian = eqx.filter_eval_shape(structure.jacobian, field, t, y)
    factors = eqx.filter_eval_shape(_factors, tableau, jacobian, structure, mass)
    jacobian, factors = (_zeros(_arrays(x)) for x in (jacobian, factors))
    return Linearization(jacobian, factors, jnp.zeros((), y.dtype), jnp.asarray(False))


def _factors(
    tableau: Tableau, hJ: Any, structure: AbstractStructure, mass: Mass | None
) -> SplitFactors:
    return factorize(tableau.transform, hJ, structure, mass, tableau.gamma)


def _is_array(x: Any) -> bool:
    return eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct)


def _arrays(tree: Any) -> Any:
    return eqx.filter(tree, _is_array)


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)


def _renewed(
    system: StageSystem,
    old: Linearization,
    structure: AbstractStructure,
    new_jacobian: Array,
    new_factors: Array,
) -> Linearization:
    """The parts that are asked for computed anew; nothing where no lane of a batch asks."""
    jacobian = lax.cond(
        eqxi.unvmap_any(new_jacobian),
        lambda: structure.jacobian(system.field, system.t0, system.y0),
        lambda: old.jacobian,
    )
    jacobian = select(new_jacobian, jacobian, old.jacobian)
    factors = lax.cond(
        eqxi.unvmap_any(new_factors),
        lambda: _arrays(
            _factors(system.tableau, structure.scaled(system.h, jacobian), structure, system.mass)
        ),
        lambda: old.factors,
    )
    h = jnp.where(new_factors, system.h, old.h)
    return Linearization(jacobian, select(new_factors, factors, old.factors), h, old.serves)


def solve_with_reuse(
    system: StageSystem,
    guess: Float[Array, "m n"],
    method: StageMethod,
    kept: Linearization,
    made_jump: Any,
    structure: AbstractStructure,
) -> tuple[StageSolution, SplitFactors, Linearization, LinearizationWork]:
    """Iterates with what the last steps left, renewed where it does not serve.

    An iteration that fails with an old Jacobian is repeated with a new one in the same step: the
    step is not to shrink for what the Jacobian is to blame for.
    """
    static = eqx.filter(
        eqx.filter_eval_shape(_factors, system.tableau, kept.jacobian, structure, system.mass),
        _is_array,
        inverse=True,
    )

    def with_factors(linearization: Linearization) -> SplitFactors:
        return eqx.combine(linearization.factors, static)

    def attempt(linearization: Linearization) -> StageSolution:
        return iterate_newton(system, guess, replace(method, factors=with_factors(linearization)))

    def cond_fun(carry: Any) -> Array:
        pending, *_ = carry
        return pending

    def body_fun(carry: Any) -> Any:
        _, new_jacobian, new_factors, linearization, _, work = carry
        linearization = _renewed(system, linearization, structure, new_jacobian, new_factors)
        solution = attempt(linearization)
        work = LinearizationWork(
            work.jacobians + new_jacobian.astype(int),
            work.factorizations + new_factors.astype(int),
            work.iterations + solution.iterations,
        )
        again = ~solution.converged & (work.jacobians == 0)
        return again, again, again, linearization, solution, work

    new_jacobian = ~kept.serves | jnp.asarray(made_jump)
    change = jnp.abs(system.h - kept.h)
    new_factors = new_jacobian | ~(change <= _SAME_STEP * jnp.abs(kept.h))
    struct = eqx.filter_eval_shape(attempt, kept)
    nothing = _zeros(struct)
    zero = jnp.asarray(0)
    work = LinearizationWork(zero, zero, zero)
    init = (jnp.asarray(True), new_jacobian, new_factors, kept, nothing, work)
    *_, linearization, solution, work = lax.while_loop(cond_fun, body_fun, init)
    # Two iterations are what a new Jacobian needs as well.
    slow = (solution.iterations > 2) & (solution.theta > _GOOD_CONTRACTION)
    serves = solution.converged & ~slow
    factors = with_factors(linearization)
    linearization = eqx.tree_at(lambda x: x.serves, linearization, serves)
    return solution, factors, linearization, work
