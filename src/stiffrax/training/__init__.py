"""Fitting models to data."""

from ._fit_least_squares import (
    LeastSquaresFit as LeastSquaresFit,
    fit_least_squares as fit_least_squares,
)
from ._prune import PrunedFit as PrunedFit, prune_and_refit as prune_and_refit
