"""Recorded steps as a function of what derivatives are wanted of."""

import abc
from dataclasses import replace
from typing import TypeAlias, final

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree, Shaped

from ..diffrax_loop import Step

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
    `recorded_steps`. Where a step is a map of its start that JAX can differentiate,
    `StepMaps` is that subclass; one of its own pays where linear systems can be shared, as
    `StepEquations` does for implicit Runge-Kutta methods.

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
