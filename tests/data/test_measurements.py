"""Measurements hold cells, conditions and doses of runs, and say what does not fit."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.data._column_names import Renaming
from stiffrax.data._frame_table import read_table

NAN = np.nan


def test_nan_in_an_array_is_not_measured_and_enters_nothing():
    data = srx.Measurements.from_arrays([0.0, 1.0], [[1.0, NAN], [NAN, 2.0]])
    np.testing.assert_array_equal(data.mask[0], [[True, False], [False, True]])
    assert np.isfinite(data.values).all()


def test_runs_of_different_lengths_repeat_their_last_time():
    table = {"run": ["a", "a", "a", "b"], "t": [0, 1, 3, 5], "A": [1.0, 2.0, 3.5, 4.0]}
    data = srx.Measurements.from_table(table)
    np.testing.assert_array_equal(data.ts, [[0, 1, 3], [5, 5, 5]])
    np.testing.assert_array_equal(data.mask[1, :, 0], [True, False, False])


def test_complete_measurements_are_trajectories_and_back():
    ts = np.linspace(0, 1, 4)
    trajectories = srx.Trajectories.from_arrays(ts, np.arange(8.0).reshape(4, 2), names=["a", "b"])
    data = srx.Measurements.from_trajectories(trajectories)
    assert data.mask.all()
    back = data.to_trajectories()
    np.testing.assert_array_equal(back.ys, trajectories.ys)
    assert back.names == ("a", "b")


def test_a_row_measured_in_part_is_no_sample():
    data = srx.Measurements.from_arrays([0.0, 1.0], [[1.0, NAN], [3.0, 2.0]], names=["a", "b"])
    with pytest.raises(ValueError, match=r"no value of b at time 0.*System\(Polynomial\(2, 2"):
        data.to_trajectories()


def test_selection_takes_what_belongs_to_the_runs():
    data = srx.Measurements.from_table(
        {"run": ["a", "a", "b", "b"], "t": [0, 1, 0, 1], "A": [1, 2, 3, 4.5], "u": [0, 1, 2, 3]},
        inputs=["u"],
        constants={"run": ["a", "b"], "T": [300, 320]},
        doses=[srx.Dose("a", 0.5, "A", 1.0), srx.Dose("b", 0.5, "A", 2.0)],
    )
    _, chosen = data.split(["b"])
    assert (chosen.run_names, chosen.doses) == (("b",), (srx.Dose("b", 0.5, "A", 2.0),))
    np.testing.assert_array_equal(chosen.constants["T"], [320])
    assert float(chosen.inputs["u"](0, 0.5)) == 2.5
    assert float(chosen.conditions("b")["u"](0.5)) == 2.5


def test_a_selected_run_keeps_its_number():
    data = srx.Measurements.from_arrays([0.0, 1.0], np.ones((4, 2, 1)))
    kept, out = data.split([0])
    assert (kept.numbers, out.numbers) == ((1, 2, 3), (0,))
    assert kept.select([2, 0]).numbers == (3, 1)
    assert int(kept.conditions(2).run) == 3


def measured(**options):
    rows = {"run": ["a", "a", "b", "b"], "t": [1, 2, 1, 2], "A": [1.0, 2.0, 3.0, 4.5]}
    return srx.Measurements.from_table(rows, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"doses": [srx.Dose("a", 1.5, "A", 1.0)]}, "have doses, of which"),
        ({"constants": {"run": ["a", "b"], "T": [300, 320]}}, "have the constant 'T', of which"),
    ],
)
def test_what_trajectories_cannot_hold_is_not_dropped(options, message):
    with pytest.raises(ValueError, match=message):
        measured(**options).to_trajectories()


def test_trajectories_do_without_what_all_runs_share():
    data = measured(constants={"run": ["a", "b"], "T": [300, 300]}, sd={"A": 0.1}, start=0.0)
    np.testing.assert_array_equal(data.to_trajectories().ys[..., 0], [[1, 2], [3, 4.5]])


def test_an_input_that_is_replaced_is_constant():
    table = {"t": [0, 1], "A": [1.0, 2.0], "u": [3, 4], "T": [5, 5]}
    data = srx.Measurements.from_table(table, inputs=["u"], constants=["T"])
    args = data.conditions(0).replace(u=7.0, T=8.0)
    assert [float(x) for x in (args["u"](0.5), args["T"])] == [7, 8]
    with pytest.raises(ValueError, match=r"Write `args.replace\(u=0.0\)`"):
        args.replace(u=lambda t: 7.0)


def test_a_parameter_that_is_replaced_has_that_value_in_these_conditions():
    args = srx.Measurements.from_table({"t": [0, 1], "A": [1.0, 2.0]}).conditions(0)
    args = dataclasses.replace(args, parameters={"k": jnp.ones(())})
    assert float(args.replace(k=0.0)["k"]) == 0
    assert float(args["k"]) == 1


@pytest.mark.parametrize("sd", [[0.1, 0.0], [0.1, -0.1], [0.1, np.inf], [0.0, 0.0]])
def test_a_standard_deviation_that_is_given_is_positive(sd):
    with pytest.raises(ValueError, match="the standard deviation positive, or left out"):
        srx.Measurements.from_table({"t": [0, 1], "A": [1.0, 2.0], "s": sd}, sd={"A": "s"})


def test_a_standard_deviation_is_given_for_all_values_of_a_column_or_none():
    table = {"t": [0, 1, 2], "A": [1.0, 2.0, None], "B": [1.0, None, 3.0]}
    table |= {"a": [0.1, 0.2, None], "b": [0.1, None, None]}
    assert srx.Measurements.from_table(table, sd={"A": "a"}, columns=["A"]).sd[0, 1, 0] == 0.2
    with pytest.raises(
        ValueError, match="'B' has standard deviations, but not in run '0' at time 2"
    ):
        srx.Measurements.from_table(table, sd={"A": "a", "B": "b"})


@pytest.mark.parametrize(
    ("kind", "values", "jump_ts"),
    [
        ("step", [0, 0, 4, 4], [1, 2]),
        ("linear", [0, 2, 4, 6], [2]),
        ("cubic", [0, 2, 4, 6], [2]),
    ],
)
def test_an_input_is_what_its_kind_says_between_rows(kind, values, jump_ts):
    table = {"t": [0, 1, 2], "A": [1.0, 2.0, 3.5], "u": [0, 4, 8]}
    u = srx.Measurements.from_table(table, inputs={"u": kind}).inputs["u"]
    np.testing.assert_allclose([u(0, t) for t in (0, 0.5, 1, 1.5)], values, atol=1e-14)
    assert u.jump_ts[0].tolist() == jump_ts
    assert [float(u(0, t)) for t in (-1, 5)] == [0, 8]


@pytest.mark.parametrize("kind", ["step", "linear"])
def test_an_input_that_changes_is_known_from_the_start_of_the_run(kind):
    table = {"t": [0, 5, 10], "A": [1.0, 2.0, 3.0], "feed": [None, 3.0, 0.0]}
    with pytest.raises(
        ValueError, match="'0' starts at 0, and the first row of its input 'feed' is at 5"
    ):
        srx.Measurements.from_table(table, inputs={"feed": kind})
    table["feed"][2] = 3.0
    assert srx.Measurements.from_table(table, inputs={"feed": kind}).inputs["feed"](0, 1.0) == 3


def test_a_cubic_input_never_overshoots():
    table = {"t": [0, 1, 2, 3], "A": [1.0, 2.0, 3.5, 5.0], "u": [0, 0, 5, 5]}
    u = srx.Measurements.from_table(table, inputs={"u": "cubic"}).inputs["u"]
    values = np.array([float(u(0, t)) for t in np.linspace(0, 3, 61)])
    assert values.min() >= 0
    assert values.max() <= 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: srx.Measurements.from_arrays([0.0], np.zeros((2, 1))), "`ts` has"),
        (lambda: srx.Measurements.from_arrays([0.0], np.zeros(1)), "`values` has shape"),
        (lambda: srx.Measurements.from_arrays([0.0, 1.0], [[NAN], [NAN]]), "no measured cell"),
        (
            lambda: srx.Measurements.from_arrays([0.0], [[1.0]], sd=-1.0),
            "standard deviation -1.0 of 'y1'",
        ),
        (lambda: srx.Measurements.from_table(3), "needs a data frame"),
        (
            lambda: srx.Measurements.from_table({"t": [0], "A": [1]}, by_file=True),
            r"`from_table\(by_file=...\)` was given; its options are \['run', 'time', 'columns',",
        ),
        (
            lambda: srx.Measurements.from_csv("none.csv", sep=","),
            r"`from_csv\(sep=...\)` was given; its options are \['separator', 'decimal', 'run',",
        ),
        (
            lambda: srx.Measurements.from_table({"t": ["0", "1"], "A": ["1,5", "2,5"]}),
            "say which the decimal sign is where the file is read, as in `decimal=','`",
        ),
        (lambda: srx.Measurements.from_table({"t": [], "A": []}), "The table has no rows"),
        (lambda: srx.Measurements.from_table({"t": [0, 1], "A": [1]}), "they must be equal"),
        (
            lambda: srx.Measurements.from_table({"t": [0, 1], "A": [1, 2]}, sd={"B": 0.1}),
            "`sd` has 'B', which is not measured",
        ),
        (
            lambda: srx.Measurements.from_table({"t": [0, 1], "A": [1, 2]}, inputs={"A": "spline"}),
            "between its rows an input is one of",
        ),
        (
            lambda: srx.Measurements.from_table({"t": [0, 1], "A": [1, 2]}, start={"x": 0}),
            "`start` names the run 'x'",
        ),
        (
            lambda: srx.Measurements.from_table(
                {"t": [0, 1], "A": [1, 2]}, doses=[srx.Dose("x", 0.0, "A", 1.0)]
            ),
            "`doses` has one for the run 'x'",
        ),
        (
            lambda: measured(doses=[srx.Dose("a", 0.0, "A", 1.0)]),
            "Run 'a' has a dose at time 0, before it starts at 1, .* Write `start=0`",
        ),
        (
            lambda: srx.Measurements.from_arrays([0.0, 1.0], [[1.0], [np.inf]]),
            "Run '0' has the value inf .* at time 1; both must be finite",
        ),
        (
            lambda: srx.Measurements.from_table({"t": [0, 1], "A": [1, 2]}, sd={"A": 0}),
            "standard deviation 0.0 of 'A' at time 0",
        ),
        (lambda: srx.Measurements.from_arrays([0.0, NAN], [[1.0], [2.0]]), "times are finite"),
        (
            lambda: srx.Measurements.from_arrays(
                [0.0, 1.0], np.ones((2, 2, 1)), run_names=["wt", "wt"], constants={"T": [1, 2]}
            ),
            r"`run_names` repeats a name: \['wt', 'wt'\]",
        ),
        (
            lambda: srx.Measurements.from_arrays([0.0], [[1.0]], constants={"T": [1, 2]}),
            r"`T` has shape \(2,\); it needs one number, or \(1,\), one for each run",
        ),
        (
            lambda: srx.Measurements.from_table({"t": [0], "log(A)": [1], "log(B)": [2]}),
            r"names two columns 'log', the second by 'log\(B\)'",
        ),
        (
            lambda: srx.Measurements.from_arrays([0.0], [[1.0]], constants={"T": NAN}),
            r"`T` is \[nan\], run by run; it needs finite numbers",
        ),
        (
            lambda: srx.Measurements.from_table(
                {"t": [0, 1], "A": [1, 2.5], "T": [3, 4]}, constants=["T"]
            ),
            "which has the values 3 and 4 in run '0'",
        ),
    ],
)
def test_what_does_not_fit_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("unchecked_types")
def test_constants_of_another_number_of_runs_are_refused():
    with pytest.raises(ValueError, match=r"`T` has shape \(3,\)"):
        dataclasses.replace(measured(), constants={"T": np.array([298.0, 310.0, 1.0])})


def test_rows_to_draw_at_of_a_run_measured_at_its_start_only_all_are_the_start():
    data = srx.Measurements.from_arrays([1.0], [[2.0]], names=["A"])
    drawn = data.resampled(3)
    assert drawn.values.ravel().tolist() == [2, 2, 2]
    assert drawn.first_values().tolist() == [[2]]


def test_rows_to_draw_at_begin_with_what_was_measured_at_the_start():
    values = np.array([[[2.0, np.nan], [4.0, 0.0], [5.0, 6.0]]])
    data = srx.Measurements.from_arrays([0.0, 0.0, 1.0], values, names=["A", "B"])
    drawn = data.resampled(3)
    np.testing.assert_allclose(drawn.ts, [[0.0, 0.5, 1.0]])
    np.testing.assert_allclose(drawn.values[0], [[3.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    assert np.all(drawn.mask)


HIDDEN = np.ma.masked_values([1.0, -999.0, 0.4], -999.0)


@pytest.mark.parametrize(
    "values",
    [
        HIDDEN[:, None],
        np.ma.array([1, -9, 4], mask=HIDDEN.mask)[:, None],
        [HIDDEN[:, None]],
        [[HIDDEN[i : i + 1] for i in range(3)]],
    ],
)
def test_what_is_masked_in_an_array_was_not_measured(values):
    data = srx.Measurements.from_arrays([0.0, 1.0, 2.0], values)
    np.testing.assert_array_equal(data.mask[0, :, 0], ~HIDDEN.mask)


def test_what_is_masked_in_a_column_was_not_measured():
    data = srx.Measurements.from_table({"t": [0, 1, 2], "A": HIDDEN})
    np.testing.assert_array_equal(data.mask[0, :, 0], ~HIDDEN.mask)
    days = np.ma.array(np.array(["2020-01-01"] * 3, "M8[ns]"), mask=HIDDEN.mask)
    texts = np.ma.array(list("xyx"), mask=HIDDEN.mask)
    for column in (days, texts):
        cells = read_table({"x": column}, Renaming()).given["x"]
        assert [x is None for x in cells] == HIDDEN.mask.tolist()


def test_runs_of_different_lengths_are_lists_of_arrays():
    data = srx.Measurements.from_arrays(
        [[0.0, 1.0, 2.0], [0.0, 4.0]],
        [np.ones((3, 2)), np.full((2, 2), 5.0)],
        sd=[0.1, 0.2],
        units=["mM", ""],
    )
    np.testing.assert_array_equal(data.ts, [[0, 1, 2], [0, 4, 4]])
    np.testing.assert_array_equal(data.mask[1, :, 0], [True, True, False])
    np.testing.assert_array_equal(data.sd[1, :2], [[0.1, 0.2], [0.1, 0.2]])
    assert data.units == ("mM", "")


def test_rows_that_are_padded_by_nan_are_none():
    ts = np.array([[0.0, 1.0, 2.0], [0.0, 4.0, NAN]])
    values = np.array([[[1.0], [2.0], [3.0]], [[1.0], [2.0], [NAN]]])
    data = srx.Measurements.from_arrays(ts, values)
    np.testing.assert_array_equal(data.ts, [[0, 1, 2], [0, 4, 4]])
    assert "t from 0 to 4" in repr(data)


@pytest.mark.parametrize(
    ("ts", "values", "options", "message"),
    [
        ([[0, 1], [0]], [[[1], [2]], [[1], [2]]], {}, r"`ts` has \[2, 1\] entries"),
        ([0, 1], [[[1], [2]], [[1]]], {}, r"`ts` has \[2, 2\] entries, .* `values` \[2, 1\]"),
        ([[0, 1], [0]], [[[1], [2]], [[1, 2]]], {}, r"`values` has shape \[\(2, 1\), \(1, 2\)\]"),
        ([[0, 1], [0]], [[1, 2], [1]], {}, r"`values` has shape \[\(2,\), \(1,\)\]"),
        (
            [0, 1],
            [[1], [2]],
            {"sd": [[0.1], [0.2], [0.3]]},
            r"`sd` has shape \[\(3, 1\)\]; it needs a",
        ),
        ([0, 1], [[1], [2]], {"units": "mM"}, r"`units='mM'` was given; .* Write `units=\['mM'\]`"),
        ([0, 1], [[1], [2]], {"constants": "c.csv"}, "needs one number a run by the name"),
        ([], np.ones((0, 0, 1)), {}, "none of them empty"),
        ([0], np.ones((1, 1)), {"run_names": "a"}, r"Write `run_names=\['a'\]`"),
    ],
)
def test_arrays_that_do_not_fit_are_named(ts, values, options, message):
    with pytest.raises(ValueError, match=message):
        srx.Measurements.from_arrays(ts, values, **options)


@pytest.mark.parametrize(
    ("ts", "message"), [([[0.0, NAN]], "times are finite"), ([[1.0, 0.0]], "which go back")]
)
def test_times_of_rows_without_a_value_are_in_order_too(ts, message):
    data = srx.Measurements.from_arrays([0.0, 1.0], [[1.0], [NAN]])
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(data, ts=np.array(ts))
