"""A model that names its states is not given others by their place."""

import numpy as np
import paramax
import pytest

import stiffrax as srx
from stiffrax.losses import states_of
from stiffrax.models._checks import check_own_names, own_names

NETWORK = srx.ReactionNetwork(["A -> B"], rates=[1.0])
TS = np.linspace(0.0, 1.0, 6)
MESSAGE = r"names its states \('A', 'B'\), and .* \('B', 'A'\); they are taken by their place"


def still(t, y, args):
    return 0 * y


@pytest.mark.parametrize(
    "model",
    [
        NETWORK,
        paramax.NonTrainable(NETWORK),
        srx.from_sympy(srx.from_text("dA/dt = -A\ndB/dt = A")),
        srx.System(NETWORK),
        srx.ScaledField(NETWORK, [1.0, 1.0], 1.0),
        srx.CoupledField(NETWORK, srx.SmoothingSpline(TS, np.ones((6, 2))), 1.0),
        srx.PartiallyKnown(still, NETWORK),
        srx.PartiallyKnown(NETWORK, srx.Polynomial(2, 1)),
        srx.ConstrainedField(NETWORK, lambda t, y, args: y[0], num_states=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_names_are_found_within_a_model(model):
    assert own_names(model) == ("A", "B")
    check_own_names(model, ("A", "B"), "the data have")
    with pytest.raises(ValueError, match=MESSAGE):
        check_own_names(model, ("B", "A"), "the data have")


def test_a_part_that_sees_some_states_names_these():
    model = srx.PartiallyKnown(still, NETWORK, inputs=(0, 2), outputs=(0, 2), num_states=3)
    assert own_names(model) is None
    check_own_names(model, ("A", "C", "B"), "the data have")
    with pytest.raises(ValueError, match=MESSAGE):
        check_own_names(model, ("B", "C", "A"), "the data have")


def test_parts_that_name_the_states_differently_are_refused():
    known = srx.from_sympy(srx.from_text("dB/dt = A\ndA/dt = -A"))
    with pytest.raises(ValueError, match=MESSAGE):
        srx.PartiallyKnown(known, NETWORK)
    seen = srx.PartiallyKnown(known, NETWORK, inputs=(1, 0), outputs=(1, 0), num_states=2)
    assert own_names(seen) == ("B", "A")


def test_a_system_has_the_names_of_its_field_and_no_others():
    assert srx.System(srx.PartiallyKnown(still, NETWORK)).states == ("A", "B")
    with pytest.raises(ValueError, match=MESSAGE):
        srx.System(NETWORK, states=["B", "A"])


UNNAMED = srx.from_sympy(srx.to_sympy(srx.Polynomial(2, 1, coefficients=np.ones((2, 3)))))


@pytest.mark.parametrize(
    "field", [UNNAMED, srx.PartiallyKnown(still, UNNAMED), srx.ScaledField(UNNAMED, [1, 1], 1.0)]
)
def test_names_that_nobody_chose_stand_for_the_columns(field):
    data = srx.Measurements.from_arrays([0.0, 1.0], np.ones((2, 2)), names=["B", "A"])
    assert states_of(srx.System(field), data) == ("B", "A")


def test_names_that_nobody_chose_are_those_of_states_that_no_column_stands_for():
    one = srx.Measurements.from_arrays([0.0, 1.0], np.ones((2, 1)), names=["y2"])
    assert states_of(srx.System(UNNAMED), one) == ("y1", "y2")
    total = srx.Measurements.from_arrays([0.0, 1.0], np.ones((2, 1)), names=["total"])
    system = srx.System(UNNAMED, observe=lambda t, y, args: {"total": y[0] + y[1]})
    assert states_of(system, total) == ("y1", "y2")


def test_a_part_whose_names_nobody_chose_sees_states_in_any_order():
    crossed = {"inputs": (1, 0), "outputs": (1, 0), "num_states": 2}
    model = srx.PartiallyKnown(still, UNNAMED, **crossed)
    check_own_names(model, ("y1", "y2"), "the data have")
    assert own_names(srx.PartiallyKnown(UNNAMED, UNNAMED, **crossed)) == ("y1", "y2")
    with pytest.raises(ValueError, match="names its states"):
        check_own_names(UNNAMED, ("y2", "y1"), "the data have")


def test_initial_states_by_name_are_read_in_the_order_of_the_field():
    data = srx.Measurements.from_arrays([0.0, 1.0], np.ones((2, 2)), names=["B", "A"])
    assert states_of(srx.System(NETWORK, {"A": 1.0, "B": 0.0}), data) == ("A", "B")
    assert states_of(srx.System(still), data) == ("B", "A")


def test_a_part_of_a_system_without_names_is_compared_with_the_columns():
    field = srx.PartiallyKnown(still, NETWORK, inputs=(0, 1), outputs=(0, 1), num_states=3)
    data = srx.Measurements.from_arrays([0.0, 1.0], np.ones((2, 3)), names=["B", "A", "C"], sd=1.0)
    with pytest.raises(ValueError, match=MESSAGE):
        srx.LikelihoodLoss()(srx.System(field), data)


def test_parts_that_name_the_same_states_differently_are_refused():
    places = {"inputs": (1, 2), "outputs": (1, 2), "num_states": 3}
    known = srx.PartiallyKnown(still, NETWORK, **places)
    assert own_names(srx.PartiallyKnown(known, NETWORK, **places)) is None
    with pytest.raises(ValueError, match="names its states .'B', 'A'., and .* .'A', 'B'."):
        srx.PartiallyKnown(known, srx.ReactionNetwork(["B -> A"], rates=[1.0]), **places)
    # They share the second state alone, which both call A.
    below = srx.ReactionNetwork(["C -> A"], rates=[1.0])
    shared = srx.PartiallyKnown(known, below, inputs=(0, 1), outputs=(0, 1), num_states=3)
    check_own_names(shared, ("C", "A", "B"), "the data have")


def test_equations_of_a_model_that_names_some_states_do_not_exchange_them():
    model = srx.PartiallyKnown(still, NETWORK, inputs=(1, 2), outputs=(1, 2), num_states=3)
    assert str(srx.to_sympy(model, ["C", "A", "B"])) == "(0, -A, A)"
    assert str(srx.to_sympy(model, ["x", "y", "z"])) == "(0, -y, y)"
    for names in (["C", "B", "A"], ["A", "B", "C"]):
        with pytest.raises(ValueError, match=r"'A', 'B'\), as those of number \(1, 2\)"):
            srx.to_sympy(model, names)
