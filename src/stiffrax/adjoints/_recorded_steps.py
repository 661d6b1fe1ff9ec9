"""Recorded steps as a function of what gradients are wanted of."""

import abc

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from ..diffrax_loop import Step


class AbstractRecordedSteps(eqx.Module):
    """The steps of a solve as a function of their starts and of parameters.

    `parameters` are the leaves of terms, arguments and, where it is trained, the solver whose
    cotangents are wanted; `others` are the rest, and `state` is an example state.
    """

    parameters: eqx.AbstractVar[PyTree]
    others: eqx.AbstractVar[PyTree]
    state: eqx.AbstractVar[PyTree[Array]]

    @property
    @abc.abstractmethod
    def num_powers(self) -> int:
        """The degree of the polynomials within the steps."""

    @abc.abstractmethod
    def chunk_cotangents(
        self,
        steps: Step,
        used: Bool[Array, " k"],
        nodes: Float[Array, "k n"],
        polynomials: Float[Array, "k s n"] | None,
        end: Float[Array, " n"],
        recurrence: str,
    ) -> tuple[Float[Array, " n"], PyTree]:
        """From the cotangent of the end of consecutive steps to those of start and parameters.

        **Arguments:**

        - `steps`: the steps, in order of time.
        - `used`: where not, a step only passes on what it gets.
        - `nodes`: cotangents that enter at the starts of the steps.
        - `polynomials`: those of the polynomials of the steps, if anything there was saved.
        - `end`: that of the end of the last step.
        - `recurrence`: how the steps are composed, a name in `RECURRENCES`.
        """
