"""The engine: one stage system for every implicit Runge-Kutta method."""

from ._block_diagonal import BlockDiagonal as BlockDiagonal
from ._checked_factors import are_missing as are_missing, units_of as units_of
from ._controller_tolerances import ControllerTolerances as ControllerTolerances
from ._growing_modes import (
    grows_unresolved as grows_unresolved,
    stiff_powers as stiff_powers,
)
from ._linearization import (
    LEAST_SIZE_TO_REUSE as LEAST_SIZE_TO_REUSE,
    Linearization as Linearization,
    LinearizationWork as LinearizationWork,
    no_linearization as no_linearization,
    solve_with_reuse as solve_with_reuse,
)
from ._mass import Mass as Mass, flat_mass as flat_mass, is_operator as is_operator
from ._matrix_free import MatrixFree as MatrixFree
from ._newton import SimplifiedNewton as SimplifiedNewton, StoppingRule as StoppingRule
from ._probes import refuse_missing as refuse_missing
from ._rosenbrock_stages import (
    RosenbrockSolution as RosenbrockSolution,
    RosenbrockSystem as RosenbrockSystem,
    rosenbrock_increments as rosenbrock_increments,
    solve_rosenbrock as solve_rosenbrock,
)
from ._rounded_products import round_products as round_products
from ._rounding_noise import explained_by_rounding as explained_by_rounding
from ._slope_solve import SlopeSolution as SlopeSolution, solve_slopes as solve_slopes
from ._sparse_stages import (
    SparseStages as SparseStages,
    StageEquations as StageEquations,
    factor_sparse_stages as factor_sparse_stages,
    sparse_mass_matrix as sparse_mass_matrix,
    sparse_stage_jacobians as sparse_stage_jacobians,
)
from ._sparsity import Banded as Banded, Sparsity as Sparsity
from ._stacked_solve import stacked_mass_matrix as stacked_mass_matrix
from ._stage_polynomial import (
    StagePolynomial as StagePolynomial,
    estimate_error as estimate_error,
    evaluate_polynomial as evaluate_polynomial,
    interior_error as interior_error,
    no_polynomial as no_polynomial,
    predict as predict,
    stage_polynomial as stage_polynomial,
    stiff_part as stiff_part,
)
from ._stage_solve import (
    StageMethod as StageMethod,
    StageSolution as StageSolution,
    solve_linearized as solve_linearized,
    solve_stages as solve_stages,
    stop_gradient as stop_gradient,
)
from ._stage_system import (
    FlatField as FlatField,
    SlopeSystem as SlopeSystem,
    StageSystem as StageSystem,
    flat_field as flat_field,
    slope_field as slope_field,
    stage_system as stage_system,
)
from ._stopping_rules import (
    ErrorTolerance as ErrorTolerance,
    accepts_error as accepts_error,
    error_controlled_rule as error_controlled_rule,
    error_tolerance as error_tolerance,
    given_tolerance_rule as given_tolerance_rule,
    most_iterations as most_iterations,
    next_eta as next_eta,
    plain_tolerance as plain_tolerance,
    rounding_rule as rounding_rule,
    weighed_rule as weighed_rule,
    worst_component as worst_component,
)
from ._structure import (
    AbstractStructure as AbstractStructure,
    Dense as Dense,
    SingleFactors as SingleFactors,
    SplitFactors as SplitFactors,
    factor_shifted as factor_shifted,
    factorize as factorize,
)
