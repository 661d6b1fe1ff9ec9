"""A model or data that do not belong to a loss are named before anything is solved."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.losses import check_data, check_model

DATA = srx.Trajectories.from_arrays(np.linspace(0, 1, 4), np.ones((4, 2)))
LOSSES = [srx.SegmentLoss(srx.RadauIIA3()), srx.TrajectoryLoss(srx.RadauIIA3())]


def three(t, y, args):
    return jnp.zeros(3)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_function_of_another_number_of_states_is_named(loss):
    with pytest.raises(
        ValueError, match=r"returns an array of shape \(3,\) for `y` of shape \(2,\)"
    ):
        loss(three, DATA)


every_loss = pytest.mark.parametrize(
    "loss",
    [
        *LOSSES,
        srx.HomotopyLoss(LOSSES[1], coupling=1.0),
        srx.InvariantLoss([0.0], interval=0.1, time=1.0, burn_in=0.5),
        srx.JacobianLoss(np.zeros((1, 4, 2, 2))),
        srx.NeighborhoodLoss(1),
        srx.RoughnessPenalty(),
        srx.fit_least_squares,
        lambda model, data: srx.prune_and_refit(model, data, criterion="bic"),
        srx.TrajectoryLoss(srx.RadauIIA3()).predict,
    ],
    ids=lambda loss: getattr(loss, "__name__", type(loss).__name__),
)


@every_loss
def test_a_constraint_is_no_rate_of_change_to_any_loss(loss):
    model = srx.ConstrainedField(
        lambda t, y, args: -y[:1], lambda t, y, args: jnp.sum(y) - 1, num_states=2
    )
    with pytest.raises(ValueError, match="The model is of the form M y' = f"):
        loss(model, DATA)


@every_loss
@pytest.mark.parametrize(
    "options",
    [
        {"initial_state": jnp.ones(2)},
        {"observe": lambda t, y, args: {"y1": 2 * y[0], "y2": y[1]}},
        {"sd": 0.1},
        {"parameters": {"k": srx.positive(1.0)}},
        {"jump_ts": [0.5]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_system_is_refused_where_more_than_its_field_is_given(loss, options):
    with pytest.raises(ValueError, match=f"`System` with `{next(iter(options))}`"):
        loss(srx.System(srx.Polynomial(2, 1), **options), DATA)


def test_a_system_is_no_field_of_another_that_would_lose_what_it_has():
    inner = srx.System(srx.Polynomial(2, 1), jnp.ones(2), sd=0.1)
    with pytest.raises(ValueError, match="`field` is a `System` with `initial_state`, `sd`"):
        srx.System(inner)
    check_model(srx.System(srx.System(srx.Polynomial(2, 1))), DATA)


@every_loss
def test_data_that_name_the_states_in_another_order_are_refused(loss):
    data = dataclasses.replace(DATA, names=("B", "A"))
    network = srx.ReactionNetwork(["A -> B"], rates=[1.0])
    with pytest.raises(ValueError, match=r"states \('A', 'B'\), and the data have \('B', 'A'\)"):
        loss(network, data)


def test_a_field_that_reads_conditions_is_said_to_be_none_without():
    with pytest.raises(ValueError, match="fails, called as .* no attribute 'start'"):
        check_model(lambda t, y, args: -args.start * y, DATA)


def test_names_that_nobody_chose_stand_for_any_others():
    check_model(srx.ReactionNetwork(["A -> B"]), DATA)
    check_model(
        srx.from_sympy(srx.to_sympy(srx.Polynomial(2, 1))),
        dataclasses.replace(DATA, names=("B", "A")),
    )
    with pytest.raises(ValueError, match=r"\('y2', 'y1'\), and the data have \('y1', 'y2'\)"):
        check_model(srx.ReactionNetwork(["y2 -> y1"]), DATA)
    with pytest.raises(ValueError, match=r"\('A', 'B'\), and the data have \('A', 'C'\)"):
        check_model(srx.ReactionNetwork(["A -> B"]), dataclasses.replace(DATA, names=("A", "C")))


def test_a_model_that_returns_no_array_is_named_without_inner_types():
    with pytest.raises(ValueError, match="The model returns a tuple for `y` of shape"):
        srx.fit_least_squares(lambda t, y, args: (y[0], y[1]), DATA)


@pytest.mark.parametrize("data", [srx.Measurements.from_trajectories(DATA), np.ones((4, 2))])
def test_data_of_another_kind_are_named_with_the_way_to_trajectories(data):
    # Not through a loss: there the type checks of the tests are before it.
    with pytest.raises(ValueError, match=r"`data` is a .*Write .*`data.to_trajectories\(\)`"):
        check_data(data)
