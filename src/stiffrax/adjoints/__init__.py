"""Gradients of solves, as diffrax adjoints."""

from ._discrete_adjoint import DiscreteAdjoint as DiscreteAdjoint
from ._forward_sensitivity import ForwardSensitivity as ForwardSensitivity
from ._gauss_adjoint import GaussAdjoint as GaussAdjoint
from ._imex_adjoint import ImexAdjoint as ImexAdjoint
from ._interpolating_adjoint import InterpolatingAdjoint as InterpolatingAdjoint
from ._quadrature_adjoint import QuadratureAdjoint as QuadratureAdjoint
