"""Step-size control that knows the iteration."""

from ._predictive import PredictiveController as PredictiveController
