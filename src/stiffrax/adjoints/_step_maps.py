"""Recorded steps as maps, differentiated by JAX."""

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
from ..solvers import DENSE_DEGREE, AbstractRosenbrock
from ._affine_steps import COMPOSITIONS
from ._recorded_steps import AbstractRecordedSteps, StepTangents


@final
class StepMaps(AbstractRecordedSteps):
    """Steps as maps of their start and of `(terms, args)`, and of a solver that is trained.

    `parameters` are the leaves whose cotangents are wanted, `others` the rest; `solver` is one that
    is not trained. Through the maps, not through stage equations: those of the explicit kind have no
    inverse of `A`. Tangents of Rosenbrock steps are pushed so; to pull cotangents through their
    equations costs less (`RosenbrockEquations`).
    """

    parameters: PyTree
    others: PyTree
    state: PyTree[Array]
    solver: AbstractRosenbrock | None = None

    @property
    def is_sparse(self) -> bool:
        """Whether the structure of the solver has a pattern."""
        structure = None if self.solver is None else self.solver.structure
        return structure is not None and structure.has_pattern

    @property
    def num_powers(self) -> int:
        """The degree of the dense output."""
        return DENSE_DEGREE if self.solver is None else self.solver.tableau.polynomial.shape[1]

    def step(
        self, parameters: PyTree, step: Step, y0: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, "p n"]]:
        """The end of a step, and the polynomial within it."""
        terms, args, *trained = eqx.combine(parameters, self.others)
        solver: Any = trained[0] if trained else self.solver
        _, restore = flatten_state(self.state)
        y1, _, dense_info, _, _ = solver.step(
            terms, step.t0, step.t1, restore(y0), args, None, False
        )
        flat = jax.vmap(lambda tree: flatten_state(tree)[0])
        return flatten_state(y1)[0], flat(dense_info["coefficients"])

    def _ends(self, steps: Step) -> Callable[..., tuple[Array, Array]]:

        def ends(parameters: PyTree, times: Any, y0: Array) -> tuple[Array, Array]:
            t0, t1 = (steps.t0, steps.t1) if times is None else times
            at = replace(steps, t0=t0, t1=t1)
            return jax.vmap(lambda step, y: self.step(parameters, step, y))(at, y0)

        return ends

    def pushed(
        self,
        steps: Step,
        used: Bool[Array, " k"],
        start: Float[Array, " n"],
        along: StepTangents,
        recurrence: str,
        *,
        interior: bool,
    ) -> tuple[Float[Array, "k_plus_1 n"], Float[Array, "k s n"] | None]:
        """One batch over the steps: their derivative along all unit tangents of the start, which
        make a step an affine map; then along what they are. By `"solve"` one by one."""
        if recurrence == "solve":
            return self._pushed_in_turn(steps, used, start, along, interior=interior)
        still = jax.tree.map(jnp.zeros_like, along)
        at = self.parameters, None if along.times is None else (steps.t0, steps.t1)
        _, push = jax.linearize(self._ends(steps), *at, steps.y0)

        def push_unit(unit: Array) -> Array:
            units = jnp.broadcast_to(unit, steps.y0.shape)
            return push(still.parameters, still.times, units)[0]

        identity = jnp.eye(start.size, dtype=start.dtype)
        P = jnp.where(used[:, None, None], jax.vmap(push_unit, out_axes=2)(identity), identity)
        q = push(along.parameters, along.times, jnp.zeros_like(steps.y0))[0]
        end, starts = COMPOSITIONS[recurrence](P, jnp.where(used[:, None], q, 0), start, back=False)
        polynomials = push(along.parameters, along.times, starts)[1] if interior else None
        return jnp.concatenate([starts, end[None]]), polynomials

    def pulled(
        self,
        steps: Step,
        used: Bool[Array, " k"],
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        recurrence: str,
        *,
        times: bool,
    ) -> tuple[Float[Array, " n"], StepTangents]:
        """One batch over the steps: their derivative for all unit cotangents of the end, which
        make a step an affine map; then the sum for the parameters. By `"solve"` one by one."""
        if recurrence == "solve":
            return self._pulled_in_turn(steps, used, nodes, polynomials, times=times)
        at = self.parameters, (steps.t0, steps.t1) if times else None
        (y1, p), pull = jax.vjp(self._ends(steps), *at, steps.y0)
        p_bar = jnp.zeros_like(p) if polynomials is None else polynomials

        def pull_unit(unit: Array) -> Array:
            return pull((jnp.broadcast_to(unit, y1.shape), jnp.zeros_like(p)))[-1]

        nodes, end = nodes[:-1], nodes[-1]
        identity = jnp.eye(end.size, dtype=end.dtype)
        # Rows of the transposed map are indexed by the unit cotangents, after the steps.
        P = jnp.where(used[:, None, None], jax.vmap(pull_unit, out_axes=2)(identity), identity)
        q = nodes
        if polynomials is not None:
            q = q + jnp.where(used[:, None], pull((jnp.zeros_like(y1), p_bar))[-1], 0)
        start, ends = COMPOSITIONS[recurrence](P, q, end)
        *bar, _ = pull((jnp.where(used[:, None], ends, 0), p_bar))
        return start, StepTangents(*bar)

    def _one(self, step: Step) -> Callable[..., tuple[Array, Array]]:
        return lambda parameters, times, y0: self.step(
            parameters, step if times is None else replace(step, t0=times[0], t1=times[1]), y0
        )

    def _pushed_in_turn(
        self, steps: Step, used: Array, start: Array, along: StepTangents, *, interior: bool
    ) -> tuple[Array, Array | None]:
        def body(start: Array, inputs: tuple) -> tuple[Array, tuple[Array, Array | None]]:
            step, used, times_dot = inputs
            at = self.parameters, None if times_dot is None else (step.t0, step.t1), step.y0
            dot = along.parameters, times_dot, start
            _, (end, polynomial) = jax.jvp(self._one(step), at, dot)
            return jnp.where(used, end, start), (start, polynomial if interior else None)

        end, (starts, polynomials) = lax.scan(body, start, (steps, used, along.times))
        return jnp.concatenate([starts, end[None]]), polynomials

    def _pulled_in_turn(
        self, steps: Step, used: Array, nodes: Array, polynomials: Array | None, *, times: bool
    ) -> tuple[Array, StepTangents]:
        def body(carry: tuple, inputs: tuple) -> tuple[tuple, Any]:
            end, bar = carry
            step, used, node, p_bar = inputs
            at = self.parameters, (step.t0, step.t1) if times else None, step.y0
            (_, p), pull = jax.vjp(self._one(step), *at)
            p_bar = jnp.zeros_like(p) if p_bar is None else p_bar
            bar_new, times_bar, start = pull((end, p_bar))
            bar = jax.tree.map(lambda x, new: x + jnp.where(used, new, 0), bar, bar_new)
            return (node + jnp.where(used, start, end), bar), times_bar

        still = jax.tree.map(jnp.zeros_like, self.parameters)
        inputs = steps, used, nodes[:-1], polynomials
        (start, bar), times_bar = lax.scan(body, (nodes[-1], still), inputs, reverse=True)
        return start, StepTangents(bar, times_bar)
