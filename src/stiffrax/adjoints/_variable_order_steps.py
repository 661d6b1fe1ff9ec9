"""Recorded steps of several methods."""

from collections.abc import Callable
from typing import cast, final

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from ..solvers import RadauIIA
from ._recorded_steps import AbstractRecordedSteps, Chunk, Pulled, Pushed, StepTangents, times_of
from ._step_equations import StepEquations


@final
class VariableOrderSteps(AbstractRecordedSteps):
    """Steps by the members of `RadauIIA`, each run of one member by the equations of that member.

    A batch of steps is gone over once for every run in it, of which there are few: a member takes ten
    steps before a higher one is tried. The other steps of the batch only pass on what they get.
    """

    solver: RadauIIA
    parameters: PyTree
    others: PyTree
    state: PyTree[Array]

    @property
    def members(self) -> list[StepEquations]:
        """The steps as those of each member."""
        rest = self.parameters, self.others, self.state
        return [StepEquations(member, *rest) for member in self.solver.members]

    @property
    def num_powers(self) -> int:
        """The degree of the polynomials, of the member of highest order."""
        return self.members[-1].num_powers

    @property
    def is_sparse(self) -> bool:
        """Whether the structure of the solver has a pattern."""
        return self.members[0].is_sparse

    def pushed(
        self,
        chunk: Chunk,
        start: Float[Array, " n"],
        along: StepTangents,
        *,
        interior: bool,
    ) -> Pushed:
        """Run by run ahead."""
        used, member = chunk.used, cast(Array, chunk.steps.member)
        index, count = jnp.arange(used.size), jnp.sum(used)
        rows = self.num_powers, start.size

        def by(equations: StepEquations) -> Callable[..., tuple[Array, Array | None]]:
            def push(first: Array, last: Array, start: Array) -> tuple[Array, Array | None]:
                run = _run_of(chunk, first, last)
                nodes, polynomials = equations.pushed(run, start, along, interior=interior)
                if polynomials is not None:
                    missing = rows[0] - polynomials.shape[1]
                    polynomials = jnp.pad(polynomials, ((0, 0), (0, missing), (0, 0)))
                return nodes, polynomials

            return push

        branches = [by(equations) for equations in self.members]

        def body(carry: tuple) -> tuple:
            first, nodes, polynomials = carry
            here = member[first]
            last = jnp.min(jnp.where((index >= first) & (member != here), index, count))
            found, new = lax.switch(here, branches, first, last, nodes[-1])
            nodes = jnp.where((jnp.arange(used.size + 1) > first)[:, None], found, nodes)
            if interior:
                inside = ((index >= first) & (index < last))[:, None, None]
                polynomials = jnp.where(inside, new, polynomials)
            return last, nodes, polynomials

        nodes = jnp.broadcast_to(start, (used.size + 1, start.size))
        polynomials = jnp.zeros((used.size, *rows), start.dtype) if interior else None
        carry = jnp.zeros_like(count), nodes, polynomials
        _, nodes, polynomials = lax.while_loop(lambda carry: carry[0] < count, body, carry)
        return nodes, polynomials

    def pulled(
        self,
        chunk: Chunk,
        nodes: Float[Array, "k_plus_1 n"],
        polynomials: Float[Array, "k s n"] | None,
        *,
        times: bool,
    ) -> Pulled:
        """Run by run back."""
        used, member = chunk.used, cast(Array, chunk.steps.member)
        index, count = jnp.arange(used.size), jnp.sum(used)

        def by(equations: StepEquations) -> Callable[..., tuple[Array, StepTangents]]:
            def pull(first: Array, last: Array, end: Array) -> tuple[Array, StepTangents]:
                run = _run_of(chunk, first, last)
                given = jnp.where(run.used[:, None], nodes[:-1], 0)
                within = None
                if polynomials is not None:
                    within = polynomials[:, : equations.num_powers]
                    within = jnp.where(run.used[:, None, None], within, 0)
                given = jnp.concatenate([given, end[None]])
                return equations.pulled(run, given, within, times=times)

            return pull

        branches = [by(equations) for equations in self.members]

        def body(carry: tuple) -> tuple:
            last, end, bar = carry
            here = member[last - 1]
            first = jnp.max(jnp.where((index < last) & (member != here), index + 1, 0))
            start, new = lax.switch(here, branches, first, last, end)
            return first, start, jax.tree.map(jnp.add, bar, new)

        # Steps that were not taken pass on what they get.
        end = nodes[-1] + jnp.sum(jnp.where(used[:, None], 0, nodes[:-1]), axis=0)
        still = jax.tree.map(jnp.zeros_like, times_of(chunk.steps, wanted=times))
        bar = StepTangents(jax.tree.map(jnp.zeros_like, self.parameters), still)
        _, start, bar = lax.while_loop(lambda carry: carry[0] > 0, body, (count, end, bar))
        return start, bar


def _run_of(chunk: Chunk, first: Array, last: Array) -> Chunk:
    """The steps of one run at their places; elsewhere the nearest of them, which are not used."""
    index = jnp.arange(chunk.used.size)
    rows = jnp.clip(index, first, last - 1)
    steps = jax.tree.map(lambda x: x[rows], chunk.steps)
    return Chunk(steps, (index >= first) & (index < last), chunk.recurrence)
