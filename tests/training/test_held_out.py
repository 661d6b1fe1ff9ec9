"""Runs held out judge a training only where they mean what the data do."""

import numpy as np
import pytest

import stiffrax as srx
import stiffrax.training._session as session_module

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
    with pytest.raises(ValueError, match="`data` is a Measurements"):
        held_out(DATA, other, srx.SegmentLoss())
