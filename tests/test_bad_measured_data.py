"""Random input to what reads and fits measured data: a clear `ValueError` or a correct result."""

import math

import equinox as eqx
import jaxtyping
import numpy as np
import paramax
import pytest
from clear_errors import result_or_clear_error
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


CELLS = st.sampled_from(["1.5"] * 8 + ["", "NaN", "NA", "-2e-3", "inf", "abc", "1,5", "<0.1"])
HEADERS = st.lists(
    st.sampled_from(["t", "time", "run", "A", "B", "A_sd", "A [mM]", "", "2"]),
    min_size=1,
    max_size=4,
)


@settings(max_examples=70, **EXAMPLES)
@given(
    header=HEADERS,
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=4),
    separator=st.sampled_from([",", ",", ";", "\t"]),
    times=st.booleans(),
    options=st.fixed_dictionaries(
        {},
        optional={
            "sd": st.sampled_from([{"A": "A_sd"}, {"A": 0.1}, {"A": -1.0}, {"C": 0.1}, 0.1]),
            "columns": st.sampled_from([["A"], ["A", "A"], ["C"], "A", []]),
            "start": st.sampled_from([0.0, 9.0, math.nan, "now"]),
            "constants": st.sampled_from([["B"], ["C"], "B"]),
        },
    ),
)
def test_text_files(tmp_path_factory, header, rows, separator, times, options):
    cells = [header] + [[str(k), *row[1:]] if times else row for k, row in enumerate(rows)]
    path = tmp_path_factory.mktemp("bad") / "assay.csv"
    path.write_text("\n".join(separator.join(row) for row in cells))
    data = result_or_clear_error(lambda: srx.Measurements.from_csv(path, **options))
    if data is None:
        return
    assert len(set(data.names)) == len(data.names) > 0
    # What counts as measured was a number in the file, in the row of its time.
    assert np.all(np.isfinite(np.asarray(data.values)[np.asarray(data.mask)]))
    numbers = {float(c.replace(",", ".")) for row in cells[1:] for c in row if _is_number(c)}
    assert set(np.asarray(data.values)[np.asarray(data.mask)].tolist()) <= numbers


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


FLAWS = st.sampled_from(
    ["none"] * 6 + ["nan", "inf", "int64", "complex128", "object", "bool", "U8"]
)


@settings(max_examples=50, **EXAMPLES)
@given(
    seed=st.integers(0, 99),
    shape=st.sampled_from([(3, 1), (3, 2), (2, 3, 1), (2, 3, 2), (0, 1), (3,), (2, 3, 0)]),
    flaw=FLAWS,
    ts=st.sampled_from(
        [[0.0, 1.0, 2.0]] * 3 + [[2.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, np.nan, 1]]
    ),
    sd=st.sampled_from([None, None, 0.1, 0.0, -0.1, "0.1", [0.1, 0.2], np.nan, np.inf]),
    names=st.sampled_from([None, None, ["A"], ["A", "B"], ["A", "A"], "AB", [1]]),
    start=st.sampled_from([None, None, 0.0, 5.0, np.nan, [0.0, 0.0]]),
)
def test_arrays(seed, shape, flaw, ts, sd, names, start):
    values = flawed(seed, shape, flaw)
    data = result_or_clear_error(
        lambda: srx.Measurements.from_arrays(ts, values, names=names, sd=sd, start=start)
    )
    if data is None:
        return
    kept = np.asarray(data.values)[np.asarray(data.mask)]
    finite = np.asarray(values, float)[np.isfinite(np.asarray(values, float))]
    np.testing.assert_array_equal(np.sort(kept), np.sort(finite))
    assert np.all(np.asarray(data.sd)[np.asarray(data.mask)] >= 0)


def field(t, y, args):
    """Y' = slope, of which every step of every solver is exact."""
    return 0 * y + args["slope"]


@eqx.filter_jit
def value_of(loss, system, data):
    return loss(system, data)


SLOPES = st.sampled_from([0.5] * 3 + [math.nan, "0.5", 1j, np.array(0.5 + 0j)])
STARTS = st.sampled_from(
    [[1.0]] * 4 + [1.0, [1.0, 1.0], [[1.0]], "A", [math.nan], {"A": 1.0}, None]
)
STATES = st.sampled_from([["A"]] * 4 + [["B"], ["A", "A"], ["A", "B"], [1], "A", ()])


@settings(max_examples=40, **EXAMPLES)
@given(
    slope=SLOPES,
    start=STARTS,
    states=STATES,
    sd=st.sampled_from([0.1, 0.1, {"A": 0.1}, {"C": 0.1}, "0.1"]),
    rtol=st.sampled_from([1e-6] * 3 + [0.0, -1.0, math.nan, "tight"]),
)
def test_likelihoods(slope, start, states, sd, rtol):
    values = (1.0 + 0.5 * TS + 0.1 * NOISE)[:, None]
    data = srx.Measurements.from_arrays(TS, values, names=["A"])

    def evaluate():
        parameters = {"slope": slope}
        system = srx.System(field, start, None, sd, states=states, parameters=parameters)
        return value_of(srx.LikelihoodLoss(srx.RadauIIA5(), rtol=rtol), system, data)

    value = result_or_clear_error(evaluate)
    if value is None:
        return
    if start == [math.nan] or slope is math.nan:
        assert not np.isfinite(value)
        return
    residuals = 1.0 + 0.5 * TS - values[:, 0]
    terms = 0.5 * (residuals / 0.1) ** 2 + np.log(0.1) + 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(value, terms.sum(), rtol=1e-6)


@pytest.mark.slow
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
def test_fits(bounds, options, what):
    values = (1.0 + 0.5 * TS + 0.1 * NOISE)[:, None]
    data = srx.Measurements.from_arrays(TS, values, names=["A"], sd=0.1)

    def fit():
        parameters = {"slope": srx.bounded(0.1, *bounds)}
        system = srx.System(field, [1.0], states=["A"], parameters=parameters)
        loss = srx.LikelihoodLoss(srx.RadauIIA5())
        given = {
            "data": (system, values, loss),
            "loss": (system, data, srx.NormalNoise()),
            "system": (lambda t, y, args: y, data, loss),
            "trajectories": (system, data.to_trajectories(), loss),
            "swapped": (data, system, loss),
        }.get(what, (system, data, loss))
        return srx.fit_parameters(*given, progress=False, **options)

    found = result_or_clear_error(fit)
    if found is None or what == "trajectories":
        return
    best = TS @ (values[:, 0] - 1.0) / (TS @ TS)
    np.testing.assert_allclose(paramax.unwrap(found.system).parameters["slope"], best, rtol=1e-6)
