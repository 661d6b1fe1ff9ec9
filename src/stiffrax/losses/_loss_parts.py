"""Whether what a loss is made of is of the right kind, said where it is made."""

from typing import Any

import diffrax

from .._arguments import check_instance
from ._error_measures import AbstractErrorMeasure

_KINDS = {
    "solver": (diffrax.AbstractSolver, "a solver", "solver=stiffrax.RadauIIA5()"),
    "measure": (AbstractErrorMeasure, "a measure of errors", "measure=stiffrax.ScaledMAE()"),
    "adjoint": (diffrax.AbstractAdjoint, "an adjoint", "adjoint=stiffrax.DiscreteAdjoint()"),
    "controller": (
        diffrax.AbstractStepSizeController | None,
        "a step size controller of diffrax or stiffrax",
        "controller=diffrax.PIDController(rtol=1e-6, atol=1e-9)",
    ),
}


def check_parts(**parts: Any) -> None:
    """Refuses parts of another kind than their name says."""
    for name, part in parts.items():
        check_instance(name, part, *_KINDS[name])
    inner = parts.get("controller")
    while isinstance(inner, diffrax.ClipStepSizeController):
        inner = inner.controller
    if isinstance(inner, diffrax.ConstantStepSize):
        raise ValueError(
            "`controller=ConstantStepSize()` was given, and a loss has no size of its steps. Write "
            "`stiffrax.SegmentLoss(solver, substeps=4)`, or "
            "`controller=diffrax.PIDController(rtol=1e-6, atol=1e-9)`."
        )
