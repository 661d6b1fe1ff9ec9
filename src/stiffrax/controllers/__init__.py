"""Step-size control that knows the iteration, and a record of it."""

from ._predictive import PredictiveController as PredictiveController
from ._recording import RecordingController as RecordingController, StepHistory as StepHistory
