# A folder is loaded when one of its names is first asked for: a program that only solves loads
# nothing that trains.
from . import (
    diagnostics as diagnostics,
    plots as plots,
    problems as problems,
    tableaus as tableaus,
)
from .adjoints import (
    DiscreteAdjoint as DiscreteAdjoint,
    ForwardSensitivity as ForwardSensitivity,
    GaussAdjoint as GaussAdjoint,
    ImexAdjoint as ImexAdjoint,
    InterpolatingAdjoint as InterpolatingAdjoint,
    QuadratureAdjoint as QuadratureAdjoint,
)
from .controllers import (
    PredictiveController as PredictiveController,
    RecordingController as RecordingController,
    StepHistory as StepHistory,
)
from .data import (
    Dose as Dose,
    KnownInput as KnownInput,
    Measurements as Measurements,
    Scaling as Scaling,
    SmoothingSpline as SmoothingSpline,
    Trajectories as Trajectories,
)
from .losses import (
    AbstractErrorMeasure as AbstractErrorMeasure,
    AbstractLoss as AbstractLoss,
    HomotopyLoss as HomotopyLoss,
    InvariantLoss as InvariantLoss,
    JacobianLoss as JacobianLoss,
    LossValue as LossValue,
    NeighborhoodLoss as NeighborhoodLoss,
    ScaledMAE as ScaledMAE,
    ScaledMSE as ScaledMSE,
    SegmentLoss as SegmentLoss,
    TrajectoryLoss as TrajectoryLoss,
)
from .models import (
    AbstractLinearModel as AbstractLinearModel,
    ConstrainedField as ConstrainedField,
    CoupledField as CoupledField,
    Library as Library,
    PartiallyKnown as PartiallyKnown,
    PiNet as PiNet,
    Polynomial as Polynomial,
    ScaledField as ScaledField,
)
from .recovery import (
    Comparison as Comparison,
    compare as compare,
    from_sympy as from_sympy,
    from_text as from_text,
    to_latex as to_latex,
    to_sympy as to_sympy,
    to_text as to_text,
)
from .solvers import (
    AbstractImplicitRungeKutta as AbstractImplicitRungeKutta,
    BackwardEuler as BackwardEuler,
    CollocationInterpolation as CollocationInterpolation,
    GaussLegendre2 as GaussLegendre2,
    GaussLegendre4 as GaussLegendre4,
    GaussLegendre6 as GaussLegendre6,
    LearnableRungeKutta as LearnableRungeKutta,
    MassMatrixTerm as MassMatrixTerm,
    RadauIIA as RadauIIA,
    RadauIIA3 as RadauIIA3,
    RadauIIA5 as RadauIIA5,
    RadauIIA9 as RadauIIA9,
    RadauIIA13 as RadauIIA13,
    Trapezoid as Trapezoid,
    consistent_initial_values as consistent_initial_values,
    segment_predictions as segment_predictions,
)
from .stages import (
    AbstractStructure as AbstractStructure,
    Banded as Banded,
    BlockDiagonal as BlockDiagonal,
    Dense as Dense,
    MatrixFree as MatrixFree,
    SimplifiedNewton as SimplifiedNewton,
    SmallInverse as SmallInverse,
    Sparsity as Sparsity,
)
from .training import (
    Fit as Fit,
    GrowingHorizon as GrowingHorizon,
    History as History,
    HomotopySchedule as HomotopySchedule,
    LeastSquaresFit as LeastSquaresFit,
    PrunedFit as PrunedFit,
    Steer as Steer,
    fit as fit,
    fit_homotopy as fit_homotopy,
    fit_least_squares as fit_least_squares,
    project_order as project_order,
    prune_and_refit as prune_and_refit,
    rescale_gradient as rescale_gradient,
)

__version__: str
