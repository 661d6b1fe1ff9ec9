"""Gradients of solves, as diffrax adjoints."""

from ._discrete_adjoint import DiscreteAdjoint as DiscreteAdjoint
