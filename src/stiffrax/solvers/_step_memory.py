"""What one step of an implicit Runge-Kutta method leaves for the next, and what it is made of."""

from typing import Any, final

import equinox as eqx
from jaxtyping import Array, Bool, Float

from ..stages import (
    Linearization,
    LinearizationWork,
    Mass,
    SplitFactors,
    StageMethod,
    StagePolynomial,
)


@final
class StepMemory(eqx.Module):
    """What one accepted step leaves for the next.

    `theta`: the last contraction, NaN after one iteration. `consistent`: whether the solve started
    where its constraints hold; `None` without any. `mass`: with what is computed of it once.
    """

    polynomial: StagePolynomial
    eta: Float[Array, ""]
    theta: Float[Array, ""]
    linearization: Linearization | None
    consistent: Bool[Array, ""] | None = None
    mass: Mass | None = None


@final
class Attempt(eqx.Module):
    """How a step is solved: with which method, and (where that is known yet) with which work."""

    method: StageMethod
    factors: SplitFactors
    hJ: Any
    linearization: Linearization | None
    work: LinearizationWork | None
