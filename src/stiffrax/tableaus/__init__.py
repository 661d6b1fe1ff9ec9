"""Coefficients of implicit Runge-Kutta methods, computed in extended precision."""

from ._methods import gauss as gauss, lobatto_iiia as lobatto_iiia, radau_iia as radau_iia
from ._order_conditions import order_conditions as order_conditions
from ._simplifying_assumptions import (
    quadrature_conditions as quadrature_conditions,
    stage_conditions as stage_conditions,
    transposed_stage_conditions as transposed_stage_conditions,
)
from ._stability import (
    is_a_stable as is_a_stable,
    stability_angle as stability_angle,
    stability_at_infinity as stability_at_infinity,
    stability_function as stability_function,
)
from ._tableau import Tableau as Tableau
from ._transform import SplitTransform as SplitTransform
