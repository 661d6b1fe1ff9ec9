"""Coefficients of implicit Runge-Kutta methods, computed in extended precision."""

from ._collocation import SplitTransform as SplitTransform
from ._initial_tableaus import (
    learnable_tableau as learnable_tableau,
    random_tableau as random_tableau,
)
from ._learnable_tableau import (
    AbstractLearnableTableau as AbstractLearnableTableau,
    LearnableTableau as LearnableTableau,
    StableTableau as StableTableau,
)
from ._order_conditions import (
    Method as Method,
    order_conditions as order_conditions,
    order_projection as order_projection,
    order_residuals as order_residuals,
    quadrature_conditions as quadrature_conditions,
    stage_conditions as stage_conditions,
    transposed_stage_conditions as transposed_stage_conditions,
)
from ._rosenbrock_tableau import RosenbrockTableau as RosenbrockTableau
from ._rosenbrock_tableaus import (
    rodas3p as rodas3p,
    rodas4p as rodas4p,
    rodas5p as rodas5p,
    rosenbrock23 as rosenbrock23,
)
from ._stability import (
    is_a_stable as is_a_stable,
    stability_angle as stability_angle,
    stability_at_infinity as stability_at_infinity,
    stability_function as stability_function,
    stability_penalty as stability_penalty,
)
from ._tableau import (
    Tableau as Tableau,
    gauss as gauss,
    lobatto_iiia as lobatto_iiia,
    radau_iia as radau_iia,
)
