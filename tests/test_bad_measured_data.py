"""Random input to what reads and fits measured data: a clear `ValueError` or a correct result."""

import math

import diffrax
import equinox as eqx
import jaxtyping
import numpy as np
import paramax
import pytest
from clear_errors import at_most_one_flaw, result_or_clear_error
from hypothesis import given, settings, strategies as st

import stiffrax as srx

# Two hundred in all; the same ones in every run.
EXAMPLES = {"derandomize": True, "database": None, "deadline": None}
TS = np.linspace(0.0, 4.0, 9)
NOISE = np.random.default_rng(0).normal(size=9)


@pytest.fixture(autouse=True, scope="module")
def _as_users_run_it():
    """Without the checks of annotations, which would refuse the input before the package does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


BAD_CELLS = ["", "NaN", "NA", "-2e-3", "inf", "abc", "1,5", "<0.1"]


def test_text_files(tmp_path_factory):
    accepted = []

    @settings(max_examples=70, **EXAMPLES)
    @given(
        file=at_most_one_flaw(
            header=[
                ["t", "A", "B"],
                *(["time", "A", "B"], ["t", "A", "A_sd"], ["run", "t", "A"], ["t", "A [mM]", "B"]),
                *(["t", "A", "A"], ["t", "", "B"], ["t", "2", "B"], ["t", "A"], ["A", "B", "C"]),
            ],
            cell=["1.5", *BAD_CELLS],
            place=[(1, 1), (0, 1), (2, 2), (1, 0)],
            longer=[0, -1, 1],
            separator=[",", ";", "\t"],
            sd=[None, {"A": "A_sd"}, {"A": 0.1}, {"A": -1.0}, {"C": 0.1}, 0.1],
            columns=[None, ["A"], ["A", "A"], ["C"], "A", []],
            start=[None, 0.0, -1.0, 9.0, math.nan, "now"],
            constants=[(), ["B"], ["C"], "B"],
        )
    )
    def check(file):
        cells = [[str(k), f"{1.5 - k / 4}", f"{2.5 + k}"] for k in range(3)]
        row, column = file["place"]
        cells[row][column] = file["cell"] if column else cells[row][column]
        cells[1] = (cells[1] + ["7"])[: 3 + file["longer"]]
        cells = [file["header"], *cells]
        path = tmp_path_factory.mktemp("bad") / "assay.csv"
        path.write_text("\n".join(file["separator"].join(row) for row in cells))
        names = ("sd", "columns", "start", "constants")
        options = {name: file[name] for name in names if file[name] is not None}
        data = result_or_clear_error(lambda: srx.Measurements.from_csv(path, **options))
        if data is None:
            return
        accepted.append(data)
        assert len(set(data.names)) == len(data.names) > 0
        # What counts as measured was a number in the file, in the row of its time.
        found = np.asarray(data.values)[np.asarray(data.mask)]
        assert np.all(np.isfinite(found))
        numbers = {float(c.replace(",", ".")) for row in cells[1:] for c in row if _is_number(c)}
        assert set(found.tolist()) <= numbers

    check()
    assert 20 < len(accepted) < 68


def _is_number(cell):
    try:
        return math.isfinite(float(cell.replace(",", ".")))
    except ValueError:
        return False


def flawed(seed, shape, flaw):
    """Numbers, or what people pass instead."""
    values = np.random.default_rng(seed).uniform(0.5, 2.0, shape)
    if flaw in ("nan", "inf") and values.size:
        values.flat[seed % values.size] = float(flaw)
    if flaw in ("int64", "complex128", "object", "bool", "U8"):
        values = values.astype(flaw)
    return values


def test_arrays():
    accepted = []

    @settings(max_examples=50, **EXAMPLES)
    @given(
        seed=st.integers(0, 99),
        shape=st.sampled_from([(3, 1), (3, 2), (2, 3, 1), (2, 3, 2)]),
        given_=at_most_one_flaw(
            flaw=["none", "nan", "inf", "int64", "complex128", "object", "bool", "U8"],
            shape=[None, (0, 1), (3,), (2, 3, 0)],
            ts=[[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, np.nan, 1]],
            sd=[None, 0.1, 0.0, -0.1, "0.1", [0.1, 0.2], np.nan, np.inf],
            names=[None, ["A"], ["A", "B"], ["A", "A"], "AB", [1]],
            start=[None, 0.0, 5.0, np.nan, [0.0, 0.0]],
        ),
    )
    def check(seed, shape, given_):
        values = flawed(seed, given_.pop("shape") or shape, given_.pop("flaw"))
        data = result_or_clear_error(
            lambda: srx.Measurements.from_arrays(given_.pop("ts"), values, **given_)
        )
        if data is None:
            return
        accepted.append(data)
        kept = np.asarray(data.values)[np.asarray(data.mask)]
        finite = np.asarray(values, float)[np.isfinite(np.asarray(values, float))]
        np.testing.assert_array_equal(np.sort(kept), np.sort(finite))
        assert np.all(np.asarray(data.sd)[np.asarray(data.mask)] >= 0)

    check()
    assert 15 < len(accepted) < 45


def field(t, y, args):
    """Y' = slope, of which every step of every solver is exact."""
    return 0 * y + args["slope"]


@eqx.filter_jit
def value_of(loss, system, data):
    return loss(system, data)


def test_likelihoods():
    values = (1.0 + 0.5 * TS + 0.1 * NOISE)[:, None]
    data = srx.Measurements.from_arrays(TS, values, names=["A"])
    accepted = []

    @settings(max_examples=25, **EXAMPLES)
    @given(
        given_=at_most_one_flaw(
            slope=[0.5, math.nan, "0.5", 1j, np.array(0.5 + 0j)],
            start=[[1.0], 1.0, [1.0, 1.0], [[1.0]], "A", [math.nan], {"A": 1.0}, None],
            states=[["A"], ["B"], ["A", "A"], ["A", "B"], [1], "A", ()],
            sd=[{"A": 0.1}, 0.1, {"C": 0.1}, "0.1"],
            rtol=[1e-6, 0.0, -1.0, math.nan, "tight"],
        )
    )
    def check(given_):
        slope, start = given_["slope"], given_["start"]

        def evaluate():
            parameters = {"slope": slope}
            states = given_["states"]
            system = srx.System(
                field, start, None, given_["sd"], states=states, parameters=parameters
            )
            loss = srx.LikelihoodLoss(diffrax.Bosh3(), rtol=given_["rtol"])
            return value_of(loss, system, data)

        value = result_or_clear_error(evaluate)
        if value is None:
            return
        accepted.append(value)
        if start == [math.nan] or slope is math.nan:
            assert not np.isfinite(value)
            return
        # Without a start of its own a run begins at its first measurement, which is no residual.
        first = values[0, 0] if start is None else 1.0
        residuals = (first + 0.5 * TS - values[:, 0])[start is None :]
        terms = 0.5 * (residuals / 0.1) ** 2 + np.log(0.1) + 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(value, terms.sum(), rtol=1e-6)

    check()
    assert 8 < len(accepted) < 23


@pytest.mark.slow
def test_fits():
    accepted = []

    @settings(max_examples=40, **EXAMPLES)
    @given(
        bounds=st.sampled_from(
            [(-5.0, 5.0)] * 3 + [(5.0, -5.0), (1.0, 2.0), (math.nan, 5.0), ("a", 1)]
        ),
        options=st.fixed_dictionaries(
            {},
            optional={
                "starts": st.sampled_from([1, 0, -1, 2.5, "many", True]),
                "max_steps": st.sampled_from([0, -1, 1.5, "long"]),
                "key": st.sampled_from([None, 0, "seed"]),
            },
        ),
        what=st.sampled_from(["good"] * 2 + ["data", "loss", "system", "trajectories", "swapped"]),
    )
    def check(bounds, options, what):
        values = (1.0 + 0.5 * TS + 0.1 * NOISE)[:, None]
        data = srx.Measurements.from_arrays(TS, values, names=["A"], sd=0.1)

        def fit():
            parameters = {"slope": srx.bounded(0.1, *bounds)}
            system = srx.System(field, [1.0], states=["A"], parameters=parameters)
            loss = srx.LikelihoodLoss(diffrax.Bosh3())
            given = {
                "data": (system, values, loss),
                "loss": (system, data, srx.NormalNoise()),
                "system": (lambda t, y, args: y, data, loss),
                "trajectories": (system, data.to_trajectories(), loss),
                "swapped": (data, system, loss),
            }.get(what, (system, data, loss))
            return srx.fit_parameters(*given, progress=False, **options)

        found = result_or_clear_error(fit)
        if found is None:
            return
        accepted.append(found)
        if what == "trajectories":
            return
        best = TS @ (values[:, 0] - 1.0) / (TS @ TS)
        np.testing.assert_allclose(
            paramax.unwrap(found.system).parameters["slope"], best, rtol=1e-6
        )

    check()
    assert 2 < len(accepted) < 30
