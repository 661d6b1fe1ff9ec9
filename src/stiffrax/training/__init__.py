"""Fitting models to data."""

from ._fit import Fit as Fit, fit as fit
from ._fit_homotopy import HomotopySchedule as HomotopySchedule, fit_homotopy as fit_homotopy
from ._fit_least_squares import (
    LeastSquaresFit as LeastSquaresFit,
    fit_least_squares as fit_least_squares,
)
from ._fit_parameters import fit_parameters as fit_parameters
from ._history import History as History
from ._parameter_errors import Band as Band
from ._parameter_fit import Estimate as Estimate, ParameterFit as ParameterFit
from ._profile import Profile as Profile
from ._project_order import project_order as project_order
from ._prune import PrunedFit as PrunedFit, prune_and_refit as prune_and_refit
from ._solve_in_chunks import solve_in_chunks as solve_in_chunks
from ._term_search import TriedModel as TriedModel
from ._transforms import GrowingHorizon as GrowingHorizon, Steer as Steer
