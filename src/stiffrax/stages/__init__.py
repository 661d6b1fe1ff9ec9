"""The engine: one stage system for every implicit Runge-Kutta method."""

from ._banded import Banded as Banded
from ._block_diagonal import BlockDiagonal as BlockDiagonal
from ._error_estimate import (
    error_filter as error_filter,
    estimate_error as estimate_error,
    interior_error as interior_error,
    stiff_part as stiff_part,
)
from ._linearization import (
    Linearization as Linearization,
    LinearizationWork as LinearizationWork,
    no_linearization as no_linearization,
    solve_with_reuse as solve_with_reuse,
)
from ._mass import Mass as Mass, flat_mass as flat_mass, is_operator as is_operator
from ._matrix_free import MatrixFree as MatrixFree
from ._newton import SimplifiedNewton as SimplifiedNewton, StoppingRule as StoppingRule
from ._predictor import (
    StagePolynomial as StagePolynomial,
    evaluate_polynomial as evaluate_polynomial,
    no_polynomial as no_polynomial,
    predict as predict,
    stage_polynomial as stage_polynomial,
)
from ._short_sums import largest_of_rows as largest_of_rows, weighted_sum as weighted_sum
from ._single_factors import SingleFactors as SingleFactors
from ._slope_solve import SlopeSolution as SlopeSolution, solve_slopes as solve_slopes
from ._slope_system import SlopeSystem as SlopeSystem
from ._small_inverse import SmallInverse as SmallInverse, small_inverse as small_inverse
from ._sparsity import Sparsity as Sparsity
from ._split_factors import (
    SplitFactors as SplitFactors,
    factor_shifted as factor_shifted,
    factorize as factorize,
)
from ._stacked_mass_solve import stacked_mass_matrix as stacked_mass_matrix
from ._stage_solve import (
    StageMethod as StageMethod,
    StageSolution as StageSolution,
    solve_linearized as solve_linearized,
    solve_stages as solve_stages,
    stop_gradient as stop_gradient,
)
from ._stage_system import (
    FlatField as FlatField,
    StageSystem as StageSystem,
    flat_field as flat_field,
    slope_field as slope_field,
)
from ._step_report import (
    ReportingNorm as ReportingNorm,
    StepReport as StepReport,
    StepWork as StepWork,
)
from ._stopping_rules import (
    ErrorTolerance as ErrorTolerance,
    check_tolerance as check_tolerance,
    error_controlled_rule as error_controlled_rule,
    error_tolerance as error_tolerance,
    given_tolerance_rule as given_tolerance_rule,
    most_iterations as most_iterations,
    next_eta as next_eta,
    rounding_rule as rounding_rule,
    weighed_rule as weighed_rule,
)
from ._structure import AbstractStructure as AbstractStructure, Dense as Dense
