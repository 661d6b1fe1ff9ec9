"""Coefficients of implicit Runge-Kutta methods, computed in extended precision."""

from ._coefficients import Method as Method
from ._from_known import learnable_tableau as learnable_tableau
from ._learnable_tableau import (
    AbstractLearnableTableau as AbstractLearnableTableau,
    LearnableTableau as LearnableTableau,
)
from ._methods import gauss as gauss, lobatto_iiia as lobatto_iiia, radau_iia as radau_iia
from ._order_conditions import order_conditions as order_conditions
from ._order_projection import (
    order_projection as order_projection,
    order_residuals as order_residuals,
)
from ._random_tableau import random_tableau as random_tableau
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
from ._stability_penalty import stability_penalty as stability_penalty
from ._stable_tableau import StableTableau as StableTableau
from ._tableau import Tableau as Tableau
from ._transform import SplitTransform as SplitTransform
