"""Searches kept in a file belong to one system and one set of data with its conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.training._box_trust_region import Found
from stiffrax.training._checkpoint import StartStore
from stiffrax.training._lockstep import Evaluation
from stiffrax.training._parameter_vector import ParameterVector

TABLE = {"t": [-1.0, 1.0, 2.0], "A": [None, 0.5, 0.2], "T": [300.0] * 3, "u": [0.0, 1.0, 2.0]}
OPTIONS = {
    "constants": ["T"],
    "inputs": ["u"],
    "doses": [srx.Dose("0", 1.0, "A", 1.0)],
    "start": 0.0,
}


def store(path, y0=1.0, max_steps=5, table=None, loss=None, **options):
    data = srx.Measurements.from_table(TABLE | (table or {}), **OPTIONS | options)
    parameters = {"k": srx.positive(1.0)}
    start = None if y0 is None else jnp.array([y0])
    system = srx.System(lambda t, y, args: -y, start, parameters=parameters)
    vector = ParameterVector(system)
    loss = srx.LikelihoodLoss() if loss is None else loss
    return StartStore(path, vector, data, loss, np.zeros((1, 1, 1)), 0, max_steps)


def found(stopped):
    return Found(np.zeros(1), Evaluation(1.0, np.eye(2), 0), 5, 0, stopped)


@pytest.mark.parametrize(
    "other",
    [
        {"table": {"T": [310.0] * 3}},
        {"table": {"u": [0.0, 1.0, 3.0]}},
        {"doses": [srx.Dose("0", 1.0, "A", 2.0)]},
        {"start": -1.0},
        {"sd": {"A": 0.1}},
        {"inputs": {"u": "step"}},
    ],
)
def test_other_conditions_are_other_data(tmp_path, other):
    path = tmp_path / "fit.json"
    store(path).add(0, found("converged"))
    assert store(path).found[0].x.tolist() == [0.0]
    with pytest.raises(ValueError, match="holds searches for another system, loss, data"):
        store(path, **other)


def test_another_known_start_is_another_system(tmp_path):
    path = tmp_path / "fit.json"
    store(path).add(0, found("converged"))
    with pytest.raises(ValueError, match="holds searches for another system, loss, data"):
        store(path, y0=2.0)


def test_searches_in_another_precision_are_others(tmp_path):
    path = tmp_path / "fit.json"
    with jax.enable_x64(False):
        store(path, y0=None).add(0, found("converged"))
    with pytest.raises(ValueError, match="starts, hops or precision"):
        store(path, y0=None)


def test_another_known_part_is_another_system(tmp_path):
    path, data = tmp_path / "fit.json", srx.Measurements.from_table(TABLE, **OPTIONS)

    def store_of(rate):
        known = srx.ReactionNetwork(["A -> "], rates=[rate])
        field = srx.PartiallyKnown(known, srx.Polynomial(1, 1))
        vector = ParameterVector(srx.System(field))
        return StartStore(path, vector, data, srx.LikelihoodLoss(), np.zeros((1, 1, 1)), 0, 5)

    store_of(1.0).add(0, found("converged"))
    assert 0 in store_of(1.0).found
    with pytest.raises(ValueError, match="holds searches for another system"):
        store_of(2.0)


def test_searches_by_another_loss_are_others(tmp_path):
    path = tmp_path / "fit.json"
    store(path).add(0, found("converged"))
    with pytest.raises(ValueError, match="holds searches for another system, loss, data"):
        store(path, loss=srx.LikelihoodLoss(noise=srx.LaplaceNoise()))


@pytest.mark.parametrize("content", ['{"of": "abc", "searches": {}}', "nonsense", "[1]"])
def test_a_file_of_another_version_is_said_to_be_one(tmp_path, content):
    path = tmp_path / "fit.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="holds no searches of this version"):
        store(path)


def test_a_search_cut_off_is_done_again_where_it_may_take_more_steps(tmp_path):
    path = tmp_path / "fit.json"
    first = store(path)
    first.add(0, found("steps"))
    first.add(1, found("converged"))
    assert sorted(store(path, max_steps=4).found) == [0, 1]
    again = store(path, max_steps=6)
    assert sorted(again.found) == [1]
    # The file keeps what each search was given: a converged one that was read is not cut off later.
    again.add(0, found("steps"))
    assert sorted(store(path, max_steps=6).found) == [0, 1]
    assert sorted(store(path, max_steps=7).found) == [1]
