"""Implicit Runge-Kutta methods as diffrax solvers."""

from ._consistent_start import (
    consistent_initial_values as consistent_initial_values,
    on_constraints as on_constraints,
)
from ._flows import (
    AdaptiveFlow as AdaptiveFlow,
    FixedStepFlow as FixedStepFlow,
    MapFlow as MapFlow,
    orthonormalize as orthonormalize,
    push_forward as push_forward,
    stretching_rates as stretching_rates,
)
from ._implicit_runge_kutta import AbstractImplicitRungeKutta as AbstractImplicitRungeKutta
from ._learnable_runge_kutta import (
    DENSE_DEGREE as DENSE_DEGREE,
    LearnableRungeKutta as LearnableRungeKutta,
)
from ._mass_matrix_term import MassMatrixTerm as MassMatrixTerm
from ._methods import (
    BackwardEuler as BackwardEuler,
    GaussLegendre2 as GaussLegendre2,
    GaussLegendre4 as GaussLegendre4,
    GaussLegendre6 as GaussLegendre6,
    RadauIIA3 as RadauIIA3,
    RadauIIA5 as RadauIIA5,
    RadauIIA9 as RadauIIA9,
    RadauIIA13 as RadauIIA13,
    Trapezoid as Trapezoid,
)
from ._rosenbrock import AbstractRosenbrock as AbstractRosenbrock
from ._rosenbrock_methods import (
    Rodas3P as Rodas3P,
    Rodas4P as Rodas4P,
    Rodas5P as Rodas5P,
    Rosenbrock23 as Rosenbrock23,
)
from ._segments import (
    predict_healthy as predict_healthy,
    predict_lanes as predict_lanes,
    predict_segment as predict_segment,
    scan_window as scan_window,
    segment_predictions as segment_predictions,
)
from ._step_memory import CollocationInterpolation as CollocationInterpolation
from ._terms import (
    mass_of as mass_of,
    may_be_singular as may_be_singular,
    refuse_products as refuse_products,
    system_of_terms as system_of_terms,
)
from ._variable_order import RadauIIA as RadauIIA
