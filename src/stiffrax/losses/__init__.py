"""Objectives of training: equinox modules called as `loss(model, data)`."""

from ._error_measures import (
    AbstractErrorMeasure as AbstractErrorMeasure,
    ScaledMAE as ScaledMAE,
    ScaledMSE as ScaledMSE,
    sample_weights as sample_weights,
)
from ._homotopy_loss import HomotopyLoss as HomotopyLoss
from ._invariant_loss import InvariantLoss as InvariantLoss
from ._jacobian_loss import JacobianLoss as JacobianLoss
from ._likelihood_loss import (
    LikelihoodLoss as LikelihoodLoss,
    check_cells_to_fit as check_cells_to_fit,
    check_measurements as check_measurements,
    check_system as check_system,
)
from ._loss import (
    AbstractLoss as AbstractLoss,
    AbstractSummand as AbstractSummand,
    LossValue as LossValue,
    WeightedSum as WeightedSum,
    check_parts as check_parts,
    evaluate_loss as evaluate_loss,
    fix_to_data as fix_to_data,
    losses_of as losses_of,
    weighted_terms as weighted_terms,
)
from ._model_and_data import (
    check_columns as check_columns,
    check_data as check_data,
    check_model as check_model,
    states_of as states_of,
    with_states as with_states,
)
from ._neighborhood_loss import NeighborhoodLoss as NeighborhoodLoss
from ._noise import (
    AbstractNoise as AbstractNoise,
    LaplaceNoise as LaplaceNoise,
    LogNormalNoise as LogNormalNoise,
    NoiseTerms as NoiseTerms,
    NormalNoise as NormalNoise,
    StudentNoise as StudentNoise,
)
from ._roughness_penalty import RoughnessPenalty as RoughnessPenalty
from ._segment_loss import SegmentLoss as SegmentLoss, failed_step as failed_step
from ._simulation import Simulation as Simulation, Simulator as Simulator
from ._trajectory_loss import TrajectoryLoss as TrajectoryLoss
