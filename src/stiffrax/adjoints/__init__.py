"""Gradients of solves, as diffrax adjoints."""

from ._continuous_adjoints import (
    GaussAdjoint as GaussAdjoint,
    ImexAdjoint as ImexAdjoint,
    InterpolatingAdjoint as InterpolatingAdjoint,
    QuadratureAdjoint as QuadratureAdjoint,
)
from ._exact_adjoints import (
    DiscreteAdjoint as DiscreteAdjoint,
    ForwardSensitivity as ForwardSensitivity,
)
