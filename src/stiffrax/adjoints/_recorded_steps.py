"""Recorded steps as a function of what derivatives are wanted of, and as maps of their start."""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from .._flat_state import flatten_state
from ..diffrax_loop import Step
from ..solvers import DENSE_DEGREE, AbstractRosenbrock
from ._affine_steps import COMPOSITIONS

# Of both ends of each step; `None` where no derivatives of them are wanted.
Times: TypeAlias = tuple[Shaped[Array, "*k"], Shaped[Array, "*k"]] | None


def times_of(steps: Step, *, wanted: bool) -> Times:
    """The times of one step or of many, if they are wanted."""
    return (steps.t0, steps.t1) if wanted else None


def at_times(steps: Step, times: Times) -> Step:
    """The same steps as a function of times, if there are any."""
    return steps if times is None else replace(steps, t0=times[0], t1=times[1])


@final
class StepTangents(eqx.Module):
    """Tangents (or cotangents) of what steps depend on beside their starts."""

    parameters: PyTree
    times: Times


@final
class Chunk(eqx.Module):
    """Consecutive steps in order of time, gone over at once.

    - `used`: where not, a step only passes on what it gets.
    - `recurrence`: how the steps are composed, a name in `RECURRENCES`.
    """

    steps: Step
    used: Bool[Array, " k"]
    recurrence: str = eqx.field(static=True)


# Of the starts of all steps and of the last end, and of the coefficients of their polynomials.
Pushed: TypeAlias = tuple[Float[Array, "k_plus_1 n"], Float[Array, "k s n"] | None]
# Of the start of the chunk, and of what else it depends on.
Pulled: TypeAlias = tuple[Float[Array, " n"], StepTangents]


class AbstractRecordedSteps(eqx.Module):
    """The steps of a solve as a function of their starts, of their times and of parameters.

    This is all that `DiscreteAdjoint` knows of a solver: how a chunk of its steps pushes tangents
    ahead, and pulls cotangents back. Another kind of step joins by a subclass, chosen in
    `recorded_steps`.

    `parameters` are the leaves of terms, arguments and, where it is trained, the solver whose
    derivatives are wanted; `others` are the rest, and `state` is an example state.
    """

    parameters: eqx.AbstractVar[PyTree]
    others: eqx.AbstractVar[PyTree]
    state: eqx.AbstractVar[PyTree[Array]]

    @property
    @abc.abstractmethod
    def num_powers(self) -> int:
        """The degree of the polynomials within the steps."""

    @property
    def is_sparse(self) -> bool:
        """Whether the solver was told a pattern, with which no map of a step is formed."""
        return False

    def largest_map(self, *, back: bool) -> int:
        """The most states for which steps are made affine maps, and not gone through one by one."""
        del back
        # A batch of inverses needs no library factorization to this size (`stiffrax.stages`).
        return 64

    @abc.abstractmethod
    def pushed(
        self,
        chunk: Chunk,
        start: Float[Array, " n"],
        along: StepTangents,
        *,
        interior: bool,
    ) -> Pushed:
        """From the tangent of the start of a chunk, `along` tangents of what else it depends on.

        `interior`: whether polynomials are wanted.
        """

    @abc.abstractmethod
    def pulled(
        self,
        chunk: Chunk,
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        *,
        times: bool,
    ) -> Pulled:
        """The transpose of `pushed`; `times`: whether cotangents of times are wanted."""


@final
class StepMaps(AbstractRecordedSteps):
    """Steps as maps of their start and of `(terms, args)`, and of a solver that is trained.

    `parameters` are the leaves whose cotangents are wanted, `others` the rest; `solver` is one that
    is not trained. Through the maps, not through stage equations: those of the explicit kind have no
    inverse of `A`.
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

    def _end(self, step: Step) -> Callable[..., tuple[Array, Array]]:
        """One step as a function of all that derivatives are wanted of."""
        return lambda parameters, times, y0: self.step(parameters, at_times(step, times), y0)

    def _ends(self, steps: Step) -> Callable[..., tuple[Array, Array]]:

        def ends(parameters: PyTree, times: Times, y0: Array) -> tuple[Array, Array]:
            at = at_times(steps, times)
            return jax.vmap(lambda step, y: self.step(parameters, step, y))(at, y0)

        return ends

    def pushed(
        self,
        chunk: Chunk,
        start: Float[Array, " n"],
        along: StepTangents,
        *,
        interior: bool,
    ) -> Pushed:
        """One batch over the steps: their derivative along all unit tangents of the start, which
        make a step an affine map; then along what they are. By `"solve"` one by one."""
        if chunk.recurrence == "solve":
            return self._pushed_in_turn(chunk, start, along, interior=interior)
        steps, used, still = chunk.steps, chunk.used, jax.tree.map(jnp.zeros_like, along)
        times = times_of(steps, wanted=along.times is not None)
        _, push = jax.linearize(self._ends(steps), self.parameters, times, steps.y0)

        def push_unit(unit: Array) -> Array:
            units = jnp.broadcast_to(unit, steps.y0.shape)
            return push(still.parameters, still.times, units)[0]

        identity = jnp.eye(start.size, dtype=start.dtype)
        P = jnp.where(used[:, None, None], jax.vmap(push_unit, out_axes=2)(identity), identity)
        q = push(along.parameters, along.times, jnp.zeros_like(steps.y0))[0]
        compose = COMPOSITIONS[chunk.recurrence]
        end, starts = compose(P, jnp.where(used[:, None], q, 0), start, back=False)
        polynomials = push(along.parameters, along.times, starts)[1] if interior else None
        return jnp.concatenate([starts, end[None]]), polynomials

    def pulled(
        self,
        chunk: Chunk,
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        *,
        times: bool,
    ) -> Pulled:
        """One batch over the steps: their derivative for all unit cotangents of the end, which
        make a step an affine map; then the sum for the parameters. By `"solve"` one by one."""
        if chunk.recurrence == "solve":
            return self._pulled_in_turn(chunk, nodes, polynomials, times=times)
        steps, used = chunk.steps, chunk.used
        at = self.parameters, times_of(steps, wanted=times), steps.y0
        (y1, p), pull = jax.vjp(self._ends(steps), *at)
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
        start, ends = COMPOSITIONS[chunk.recurrence](P, q, end)
        *bar, _ = pull((jnp.where(used[:, None], ends, 0), p_bar))
        return start, StepTangents(*bar)

    def _pushed_in_turn(
        self, chunk: Chunk, start: Array, along: StepTangents, *, interior: bool
    ) -> tuple[Array, Array | None]:
        def body(start: Array, inputs: tuple) -> tuple[Array, tuple[Array, Array | None]]:
            step, used, times_dot = inputs
            at = self.parameters, times_of(step, wanted=times_dot is not None), step.y0
            dot = along.parameters, times_dot, start
            _, (end, polynomial) = jax.jvp(self._end(step), at, dot)
            return jnp.where(used, end, start), (start, polynomial if interior else None)

        inputs = chunk.steps, chunk.used, along.times
        end, (starts, polynomials) = lax.scan(body, start, inputs)
        return jnp.concatenate([starts, end[None]]), polynomials

    def _pulled_in_turn(
        self, chunk: Chunk, nodes: Array, polynomials: Array | None, *, times: bool
    ) -> tuple[Array, StepTangents]:
        def body(carry: tuple, inputs: tuple) -> tuple[tuple, Any]:
            end, bar = carry
            step, used, node, p_bar = inputs
            at = self.parameters, times_of(step, wanted=times), step.y0
            (_, p), pull = jax.vjp(self._end(step), *at)
            p_bar = jnp.zeros_like(p) if p_bar is None else p_bar
            bar_new, times_bar, start = pull((end, p_bar))
            bar = jax.tree.map(lambda x, new: x + jnp.where(used, new, 0), bar, bar_new)
            return (node + jnp.where(used, start, end), bar), times_bar

        still = jax.tree.map(jnp.zeros_like, self.parameters)
        inputs = chunk.steps, chunk.used, nodes[:-1], polynomials
        (start, bar), times_bar = lax.scan(body, (nodes[-1], still), inputs, reverse=True)
        return start, StepTangents(bar, times_bar)
