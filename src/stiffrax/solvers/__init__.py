"""Implicit Runge-Kutta methods as diffrax solvers."""

from ._collocation_interpolation import CollocationInterpolation as CollocationInterpolation
from ._consistent_initial_values import consistent_initial_values as consistent_initial_values
from ._counted_loop import counted_loop as counted_loop
from ._gauss import (
    GaussLegendre2 as GaussLegendre2,
    GaussLegendre4 as GaussLegendre4,
    GaussLegendre6 as GaussLegendre6,
)
from ._implicit_runge_kutta import (
    AbstractImplicitRungeKutta as AbstractImplicitRungeKutta,
    stage_system as stage_system,
)
from ._learnable_runge_kutta import (
    DENSE_DEGREE as DENSE_DEGREE,
    LearnableRungeKutta as LearnableRungeKutta,
)
from ._mass_matrix_term import MassMatrixTerm as MassMatrixTerm
from ._radau import (
    BackwardEuler as BackwardEuler,
    RadauIIA3 as RadauIIA3,
    RadauIIA5 as RadauIIA5,
    RadauIIA9 as RadauIIA9,
    RadauIIA13 as RadauIIA13,
)
from ._segments import (
    predict_segment as predict_segment,
    segment_predictions as segment_predictions,
)
from ._tangent_flow import (
    AdaptiveFlow as AdaptiveFlow,
    FixedStepFlow as FixedStepFlow,
    MapFlow as MapFlow,
    orthonormalize as orthonormalize,
    push_forward as push_forward,
    stretching_rates as stretching_rates,
)
from ._trapezoid import Trapezoid as Trapezoid
from ._variable_order import RadauIIA as RadauIIA
