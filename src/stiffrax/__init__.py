"""stiffrax: neural ODEs that learn stiff and chaotic systems, as parts of diffrax."""

from importlib.metadata import version as _version

from . import problems as problems, tableaus as tableaus
from .adjoints import DiscreteAdjoint as DiscreteAdjoint
from .data import Trajectories as Trajectories
from .models import (
    AbstractLinearModel as AbstractLinearModel,
    Library as Library,
    PartiallyKnown as PartiallyKnown,
    PiNet as PiNet,
    Polynomial as Polynomial,
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
    RadauIIA3 as RadauIIA3,
    RadauIIA5 as RadauIIA5,
    RadauIIA9 as RadauIIA9,
    RadauIIA13 as RadauIIA13,
    Trapezoid as Trapezoid,
    segment_predictions as segment_predictions,
)
from .stages import SimplifiedNewton as SimplifiedNewton, SmallInverse as SmallInverse
from .training import (
    LeastSquaresFit as LeastSquaresFit,
    PrunedFit as PrunedFit,
    fit_least_squares as fit_least_squares,
    prune_and_refit as prune_and_refit,
)

__version__ = _version("stiffrax")
