"""Runs held out judge a training only where they mean what the data do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
import stiffrax.training._session as session_module
from stiffrax.losses import AbstractSummand
from stiffrax.training._new_runs import check_numbers_trained

TS = np.array([0.0, 0.1, 0.3, 0.7])
DATA = srx.Trajectories.from_arrays(TS, np.exp(-np.outer(TS, [1.0, 3.0]))[None])


def same(model, data):
    return (model.coefficients**2).sum()


def held_out(data, runs, loss=same):
    model = srx.Polynomial(2, degree=1)
    return srx.fit(model, data, loss, held_out=runs, steps=1, progress=False)


@pytest.mark.parametrize("names", [("B", "A"), ("A",)])
def test_runs_held_out_of_other_states_are_refused(names):
    data = srx.Trajectories.from_arrays(TS, DATA.ys, names=["A", "B"])
    other = srx.Trajectories.from_arrays(TS, np.ones((4, len(names))), names=names)
    with pytest.raises(ValueError, match=r"`held_out` has the states .*, and `data` \('A', 'B'\)"):
        held_out(data, other)


def test_names_that_nobody_chose_stand_for_those_of_the_data_held_out():
    data = srx.Trajectories.from_arrays(TS, DATA.ys, names=["A", "B"])
    assert held_out(data, DATA).history.held_out_loss.size == 1


@pytest.mark.usefixtures("unchecked_types")
def test_runs_held_out_that_do_not_fit_the_loss_are_refused_before_a_step(monkeypatch):
    monkeypatch.setattr(session_module, "advance", None)
    other = srx.Measurements.from_arrays(TS, np.ones((4, 2)), names=["A", "B"])
    with pytest.raises(ValueError, match=r"`data` is a Measurements.*`data.to_trajectories\(\)`\."):
        held_out(DATA, other, srx.SegmentLoss())


class Size(srx.AbstractLoss):
    def evaluate(self, model, data):
        value = (model.coefficients**2).sum() + jnp.sum(data.ys)
        return srx.LossValue(value, jnp.asarray(0), jnp.asarray(8))


class Penalty(AbstractSummand):
    def __call__(self, model, data):
        return jnp.asarray(5.0)


def test_runs_held_out_are_judged_without_what_was_added_to_the_losses():
    loss = 2.0 * Size() + Penalty() + (lambda model, data: jnp.asarray(7.0))
    fit = held_out(DATA, DATA, loss)
    alone = 2.0 * Size()(fit.model, DATA)
    np.testing.assert_allclose([fit.loss, *fit.history.held_out_loss], [alone] * 2, rtol=1e-12)
    np.testing.assert_allclose(fit.history.loss[0], 12 + 2 * np.sum(DATA.ys), rtol=1e-12)


RUNS = srx.Measurements.from_arrays(
    [0.0, 1.0], np.ones((3, 2, 1)), names=["A"], run_names=["a", "b", "c"], units=["mM"]
)
OTHER = srx.Measurements.from_arrays(
    [0.0, 1.0], np.ones((1, 2, 1)), names=["A"], run_names=["d"], units=["uM"]
)


def started(initial_state, **options):
    return srx.System(lambda t, y, args: -y, initial_state, states=["A"], **options)


def by_run(args):
    return jnp.where(args.run == 0, args.parameters["first"], args.parameters["rest"])[None]


OWN = [
    started(srx.positive(np.ones((3, 1)))),
    started(srx.SteadyState(srx.positive(np.ones((3, 1))))),
    started(lambda args: args.parameters[args.run], parameters=srx.positive(np.ones((3, 1)))),
]


@pytest.mark.parametrize("system", OWN, ids=["rows", "steady", "function"])
def test_runs_held_out_that_start_by_a_parameter_of_their_own_are_refused(system):
    with pytest.raises(
        ValueError, match=r"Run 'c' is held out, and its number.*\['initial_state'\]"
    ):
        check_numbers_trained(system, *RUNS.split([2]))
    with pytest.raises(ValueError, match="Run 'd' is held out"):
        check_numbers_trained(system, RUNS, OTHER)
    check_numbers_trained(system, RUNS, RUNS)


@pytest.mark.parametrize(
    "functions",
    [
        {"observe": lambda t, y, args: {"A": args["gain"][args.run] * y[0]}},
        {"sd": lambda t, y, args: args["gain"][args.run]},
        {"field": lambda t, y, args: -args["gain"][args.run] * y},
        {
            "initial_state": srx.SteadyState(
                jnp.ones(1), then=lambda y, args: args["gain"][args.run, None]
            )
        },
    ],
    ids=lambda x: next(iter(x)),
)
def test_so_are_those_that_are_seen_or_go_on_by_one(functions):
    parts = {"field": lambda t, y, args: -y, "initial_state": jnp.ones(1)} | functions
    system = srx.System(**parts, states=["A"], parameters={"gain": srx.positive(np.ones(3))})
    with pytest.raises(ValueError, match=rf"Run 'c' is held out.*{next(iter(functions))}"):
        check_numbers_trained(system, *RUNS.split([2]))
    check_numbers_trained(system, RUNS, RUNS)


def test_a_run_of_other_data_with_a_known_row_is_not_taken_for_another():
    with pytest.raises(ValueError, match="Run 'd' is held out"):
        check_numbers_trained(started(np.ones((3, 1))), RUNS, OTHER)


def test_starts_that_do_not_go_by_the_number_are_not_differentiated(monkeypatch):
    monkeypatch.setattr(jax, "vmap", None)
    system = started(lambda args: args["k"][None], parameters={"k": srx.positive(1.0)})
    check_numbers_trained(system, *RUNS.split([2]))


@pytest.mark.parametrize(
    "system",
    [
        started(np.ones((3, 1))),
        started(srx.positive([1.0])),
        started(lambda args: args["k"][None], parameters={"k": srx.positive(1.0)}),
        started(by_run, parameters={"first": srx.positive(1.0), "rest": srx.positive(2.0)}),
    ],
    ids=["known", "one", "shared", "shared by others"],
)
def test_runs_held_out_may_start_by_what_other_runs_tell(system):
    check_numbers_trained(system, *RUNS.split([2]))


def test_fit_asks_for_starts_units_and_columns_of_runs_held_out():
    with pytest.raises(ValueError, match="Run 'c' is held out"):
        srx.fit(OWN[0], RUNS, srx.LikelihoodLoss(), held_out=[2], steps=1, progress=False)
    system = started(srx.positive([1.0]))
    with pytest.raises(ValueError, match="'A' is in mM in the data of .* and in uM in"):
        srx.fit(system, RUNS, srx.LikelihoodLoss(), held_out=OTHER, steps=1, progress=False)
    listed = srx.System(lambda t, y, args: -y, jnp.ones(1), lambda t, y, args: y, states=["A"])
    other = dataclasses.replace(RUNS, names=("B",))
    with pytest.raises(ValueError, match=r"\('B',\).*\('A',\).*`observe` returns an array"):
        srx.fit(listed, RUNS, srx.LikelihoodLoss(), held_out=other, steps=1, progress=False)
