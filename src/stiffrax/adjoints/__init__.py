"""Gradients of solves, as diffrax adjoints."""

from ._continuous_adjoints import (
    GaussAdjoint as GaussAdjoint,
    ImexAdjoint as ImexAdjoint,
    InterpolatingAdjoint as InterpolatingAdjoint,
    QuadratureAdjoint as QuadratureAdjoint,
)
from ._differentiable_solve import AbstractSolveAdjoint as AbstractSolveAdjoint
from ._discrete_adjoint import (
    DiscreteAdjoint as DiscreteAdjoint,
    default_adjoint as default_adjoint,
)
from ._forward_sensitivity import ForwardSensitivity as ForwardSensitivity
