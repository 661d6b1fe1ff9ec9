"""Parameters with scales and bounds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
import pytest

import stiffrax as srx
from stiffrax.models import check_trainable, within_bounds


def test_a_positive_one_is_trained_by_its_logarithm():
    one = srx.positive(2.0, 0.5, 8.0)
    np.testing.assert_allclose([one.raw, one.lower, one.upper], np.log([2.0, 0.5, 8.0]))
    np.testing.assert_allclose(paramax.unwrap(one), 2.0)


def test_a_bounded_one_by_itself():
    assert paramax.unwrap(srx.bounded([1.0, -1.0], -2.0, 2.0)).tolist() == [1.0, -1.0]


def test_a_fixed_one_stays():
    assert paramax.unwrap({"a": srx.fixed(3.0)})["a"] == 3.0


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (srx.positive, (0.0,), "value and bounds on a logarithmic scale are positive"),
        (srx.positive, (1.0, -1.0), "value and bounds on a logarithmic scale are positive"),
        (srx.positive, (1.0, 2.0, 3.0), "it needs lower < upper and a value between them"),
        (srx.bounded, (0.0, 1.0, -1.0), "it needs lower < upper and a value between them"),
    ],
)
def test_values_outside_of_bounds_are_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments)


def test_plain_numbers_of_a_system_are_known_and_those_of_its_field_are_not():
    system = srx.System(lambda t, y, args: -y, jnp.ones(1), sd={"A": 0.1}, states=["A"])
    assert isinstance(system.initial_state, paramax.NonTrainable)
    assert isinstance(system.sd["A"], paramax.NonTrainable)


@pytest.mark.parametrize(
    "number",
    ["0.5", 1j, np.array(1j), [1.0, "2"], [None, "2"], [None, np.timedelta64(5, "s")]],
    ids=repr,
)
def test_text_and_complex_numbers_are_no_parameters(number):
    for make in (srx.positive, srx.bounded):
        with pytest.raises(ValueError, match=r"`(positive|bounded)` is a .* needs real numbers"):
            make(number)


def test_a_bound_is_a_number():
    for make in (srx.positive, srx.bounded):
        with pytest.raises(ValueError, match="bounds are numbers"):
            make(1.0, np.nan)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("make", [srx.positive, srx.bounded])
def test_an_array_of_bounds_is_refused(make):
    with pytest.raises(ValueError, match="Write a parameter for each number"):
        make([1.0, 2.0], lower=np.array([0.1, 0.2]))


def test_a_system_names_a_parameter_that_is_no_number():
    for wrong, message in (("0.5", "real numbers"), (1j, "real numbers"), (np.nan, "is NaN")):
        with pytest.raises(ValueError, match=r"`parameters\['k'\]` .*" + message):
            srx.System(lambda t, y, args: y, [1.0], parameters={"k": wrong})
    with pytest.raises(ValueError, match="`initial_state` is a"):
        srx.System(lambda t, y, args: y, ["1.0"])


class Decay(eqx.Module):
    k: Any

    def __call__(self, t, y, args=None):
        return -self.k * y[:1]


class Saturation(eqx.Module):
    K: Any

    def __call__(self, y):
        return y[0] / (self.K + y[0])


TS = np.linspace(0.0, 2.0, 21)
DATA = srx.Trajectories.from_arrays(TS, np.exp(-TS)[:, None])
MODELS = {
    "library": lambda k: srx.Library([Saturation(k)], 1, coefficients=[[-1.0]]),
    "constrained": lambda k: srx.ConstrainedField(Decay(k), Decay(k), num_states=2),
    "scaled": lambda k: srx.ScaledField(Decay(k), [1.0], 2.0),
    "coupled": lambda k: srx.CoupledField(Decay(k), srx.SmoothingSpline(TS, DATA.ys[0]), 2.0),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=list(MODELS))
@pytest.mark.parametrize("wrap", [srx.positive, srx.bounded, srx.fixed])
def test_models_take_wrapped_parameters_wherever_they_stand(make, wrap):
    model, y = make(wrap(2.0)), jnp.array([0.5, 1.5])[: getattr(make(wrap(2.0)), "num_states", 1)]
    np.testing.assert_allclose(model(0.5, y), make(jnp.array(2.0))(0.5, y), rtol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        srx.SegmentLoss(),
        srx.TrajectoryLoss(),
        srx.HomotopyLoss(srx.TrajectoryLoss(), 1.0),
        srx.JacobianLoss(-np.ones((1, 21, 1, 1))),
        srx.NeighborhoodLoss(num_neighbors=2, theiler=0),
        srx.InvariantLoss([-1.0], time=1.0, interval=0.1),
        srx.RoughnessPenalty(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_losses_take_models_of_wrapped_parameters(loss):
    value = eqx.filter_eval_shape(lambda model: loss(model, DATA), Decay(srx.positive(2.0)))
    assert value.shape == ()


def test_a_loss_sees_the_values_that_parameters_stand_for():
    loss = srx.JacobianLoss(-np.ones((1, 21, 1, 1)))
    found = loss(Decay(srx.positive(2.0)), DATA)
    np.testing.assert_allclose(found, loss(Decay(jnp.array(2.0)), DATA), rtol=1e-12)
    assert found > 0.1


def test_exponents_of_a_model_of_wrapped_parameters():
    model = Decay(srx.positive(2.0))
    spectrum = srx.diagnostics.lyapunov_spectrum(model, jnp.ones(1), time=1.0, burn_in=0, step=0.1)
    np.testing.assert_allclose(spectrum.exponents, [-2.0], rtol=1e-6)


def test_rates_of_a_network_are_moved_to_zero_and_what_is_fixed_is_not():
    network = srx.ReactionNetwork(["A -> B", "B -> A"]).with_coefficients([-1.0, 2.0])
    np.testing.assert_array_equal(within_bounds({"f": network})["f"].coefficients, [0.0, 2.0])
    np.testing.assert_array_equal(
        within_bounds(srx.fixed(network)).tree.coefficients, network.coefficients
    )
    kept = within_bounds([srx.bounded([0.5, 1.0], 0.0, 1.0), jnp.array([-3.0])])
    np.testing.assert_array_equal(kept[1], [-3.0])


@pytest.mark.parametrize("bounds", [(0.1, 1.0), (0.3, 0.7), (1e-40, 1e-30)])
def test_single_precision_puts_no_parameter_beyond_its_bounds_or_to_zero(bounds):
    with jax.enable_x64(False):
        # Programs have no numbers below 1e-38; their logarithms are like others.
        for make in (srx.positive, srx.bounded)[: 1 if bounds[0] < 1e-38 else 2]:
            for value in bounds:
                found = make(value, *bounds)
                assert found.raw.dtype == jnp.float32
                assert found.lower <= float(found.raw) <= found.upper


@pytest.mark.parametrize("rates", [[2.0], (2,)])
def test_a_list_that_is_fixed_is_an_array(rates):
    network = srx.ReactionNetwork(["A -> B"], rates=srx.fixed(rates))
    np.testing.assert_array_equal(network(0.0, jnp.ones(2)), [-2.0, 2.0])
    np.testing.assert_array_equal(srx.fixed([rates, rates]).tree, [rates, rates])
    assert srx.fixed([jnp.ones(2)]).tree[0].shape == (2,)


@pytest.mark.parametrize(
    "tree", [[{"k": 1.0}], ({"a": 1.0}, 2.0), [[1.0], [1.0, 2.0]], [1.0, None], ["a", "b"], []]
)
def test_a_tree_that_is_fixed_stays_as_it_is(tree):
    assert srx.fixed(tree).tree is tree


def test_one_object_at_two_places_is_not_trained_as_two():
    k = srx.positive(1.0)
    for shared in ({"a": k, "b": [k]}, srx.System(lambda t, y, args: y, k, parameters={"k": k})):
        with pytest.raises(ValueError, match="are one `Parameter`, which would be trained as two"):
            check_trainable(shared)
    check_trainable({"a": k, "b": srx.fixed(k), "c": srx.positive(1.0)})
