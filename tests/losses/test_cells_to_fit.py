"""Data that leave nothing to fit, or tell no size of noise; nothing is solved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

TS = [0.0, 1.0, 2.0, 3.0]


def system(**options):
    return srx.System(
        lambda t, y, args: -args["k"] * y,
        {"A": 1.0, "B": 0.0},
        states=["A", "B"],
        parameters={"k": srx.positive(1.0)},
        **options,
    )


SYSTEM = system()


def measured(b, **options):
    table = {"t": TS, "A": [1.0, 0.6, 0.4, 0.2], "B": b}
    return srx.Measurements.from_table(table, columns=["A", "B"], **options)


@pytest.mark.parametrize("fit", [srx.fit_parameters, srx.fit])
@pytest.mark.parametrize(
    ("b", "said"),
    [
        ([0.0] * 4, "'B' is 0 in all of its 4 values, .*`sd={'B': 0.01}`"),
        ([7.0, None, 7.0, 7.0], "'B' is 7 in all of its 3 values"),
        (np.array([0.1 + 0.2, 0.3, 0.3, 0.3]), "'B' is 0.3 in all of its 4 values"),
        ([0.0, None, None, None], "'B' is 0 in its only value"),
    ],
)
def test_a_column_of_equal_values_tells_no_size_of_noise(fit, b, said):
    with pytest.raises(ValueError, match=said):
        fit(SYSTEM, measured(b), srx.LikelihoodLoss())


class Reached(Exception):
    pass


def reach(*_):
    raise Reached


@pytest.mark.parametrize(
    ("data", "system"),
    [
        (measured([0.0] * 4, sd={"B": 0.01}), SYSTEM),
        (measured([0.0, 0.0, 0.0, 0.1]), SYSTEM),
        (measured([0.0] * 4), system(sd={"B": 0.1})),
    ],
)
def test_one_of_known_noise_or_of_other_values_is_fitted(data, system, monkeypatch):
    monkeypatch.setattr("stiffrax.training._fit_parameters.draw_starts", reach)
    with pytest.raises(Reached):
        srx.fit_parameters(system, data, srx.LikelihoodLoss())


def test_data_of_nothing_but_starts_are_refused():
    data = srx.Measurements.from_arrays([0.0], np.ones((1, 1)), names=["A"])
    system = srx.System(SYSTEM.field, parameters=SYSTEM.parameters)
    with pytest.raises(ValueError, match="no measured cell but those that runs start from"):
        srx.fit_parameters(system, data, srx.LikelihoodLoss())


def test_a_run_predicted_exactly_has_no_likelihood_if_that_is_zero():
    data, values = measured([0.0, None, None, None]), jnp.ones((1, 4, 2)).at[:, :, 1].set(0)
    found = srx.Simulation(values, jnp.zeros((1, 4, 2)), values, jnp.zeros(1, bool))
    judged = srx.LikelihoodLoss().with_impossible_failed(SYSTEM, found, data)
    assert judged.failed.tolist() == [True]
    off = found._replace(values=values.at[0, 0, 1].set(1e-9))
    assert srx.LikelihoodLoss().with_impossible_failed(SYSTEM, off, data).failed.tolist() == [False]


def test_of_runs_that_rest_first_those_are_residuals_that_do_not_begin_at_them():
    table = {"run": list("aabb"), "t": [0.0, 1.0] * 2, "A": [2.0, 1.5, 5.0, 2.5]}
    data = srx.Measurements.from_table(table, constants={"run": ["a", "b"], "rests": [1.0, 0.0]})

    def counted(start):
        resting = srx.SteadyState(start, applies=lambda args: args["rests"] > 0.5)
        return srx.LikelihoodLoss().counted(srx.System(SYSTEM.field, resting), data)[..., 0]

    assert isinstance(counted(None), np.ndarray)
    for found in (counted(None), jax.jit(lambda: counted(None))()):
        assert found.tolist() == [[True, True], [False, True]]
    assert counted(jnp.ones(1)).all()


def test_a_dose_that_the_start_has_seen_is_refused():
    def check(start=None, **dose):
        doses = [srx.Dose("0", **({"time": 0.0, "state": "A", "amount": 1.0, "seen": True} | dose))]
        data = srx.Measurements.from_table({"t": TS, "A": [1.0, 0.6, 0.4, 0.2]}, doses=doses)
        srx.LikelihoodLoss().check(srx.System(SYSTEM.field, start, states=["A"]), data)

    for dose in ({}, {"keeps": 0.5}):
        with pytest.raises(
            ValueError, match="Run '0' starts at what is measured after its dose to"
        ):
            check(**dose)
    for dose in ({"seen": False}, {"time": 1.0}, {"keeps": 0.0}, {"start": jnp.ones(1)}):
        check(**dose)
    check(srx.SteadyState(None))
