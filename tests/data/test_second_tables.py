"""Constants, inputs and doses of runs stand in columns, or in tables of their own."""

import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.data._table import Table

RUNS = {"batch": ["a", "a", "b", "b"], "t": [0, 1, 0, 1], "A": [1.0, 0.6, 2.0, 1.1]}


def measured(run="batch", **options):
    table = {run: RUNS["batch"], "t": RUNS["t"], "A": RUNS["A"]}
    return srx.Measurements.from_table(table, run=run, **options)


@pytest.mark.parametrize("name", ["batch", "run", "Run"])
def test_a_second_table_names_runs_as_the_first_one_or_in_run(name, tmp_path):
    path = tmp_path / "conditions.csv"
    path.write_text(f"{name},T\nb,320\na,300\n")
    data = measured(constants=path, doses={name: ["b"], "t": [1], "state": ["A"], "amount": [2]})
    np.testing.assert_array_equal(data.constants["T"], [300, 320])
    assert data.doses == (srx.Dose("b", 1.0, "A", 2.0),)


def test_columns_of_a_second_table_are_renamed_and_left_out(tmp_path):
    path = tmp_path / "conditions.csv"
    path.write_text("exp,Temp [K],notes\nb,320,good\na,300,bad\n")
    with pytest.raises(ValueError, match="none of which names the runs: call it `run`"):
        measured(constants=path)
    rename = {"exp": "run", "Temp": "T"}
    with pytest.raises(ValueError, match=r"'notes', holds 'good', a name, .* `ignore=\['notes'\]`"):
        measured(constants=path, rename=rename)
    data = measured(constants=path, rename=rename, ignore=["notes"])
    np.testing.assert_array_equal(data.constants["T"], [300, 320])


def test_a_name_that_no_table_has_is_not_renamed():
    with pytest.raises(ValueError, match="`rename` has 'x', which is no column of the table"):
        measured(constants={"batch": ["a", "b"], "T": [300, 320]}, rename={"x": "y"})


@pytest.mark.parametrize("constants", [{"T": 298.0}, {"T": [298.0]}])
def test_one_row_without_a_run_is_that_of_all_runs(constants):
    np.testing.assert_array_equal(measured(constants=constants).constants["T"], [298, 298])


def test_a_number_is_a_whole_column():
    data = srx.Measurements.from_table({"t": [0, 1], "A": [1, 0.5], "T": 298.0}, constants=["T"])
    np.testing.assert_array_equal(data.constants["T"], [298])


DOSES = "run,time,state,amount,seen\na,0.5,A,1.5,\nb,0,A,2,1\nb,0.7,A,3,False\n"


def test_doses_stand_in_a_file(tmp_path):
    path = tmp_path / "doses.csv"
    path.write_text(DOSES)
    expected = (
        srx.Dose("a", 0.5, "A", 1.5),
        srx.Dose("b", 0.0, "A", 2.0, seen=True),
        srx.Dose("b", 0.7, "A", 3.0),
    )
    assert measured(doses=path).doses == expected
    data = srx.Measurements.from_arrays(
        [0.0, 1.0], np.ones((2, 2, 1)), names=["A"], run_names=["a", "b"], doses=path
    )
    assert data.doses == expected


@pytest.mark.parametrize("kept", [1, None])
def test_the_part_that_stays_stands_in_a_table_of_doses(kept):
    table = {
        "run": ["a", "b"],
        "t": [1, 1],
        "state": ["A", "A"],
        "amount": [0, 2],
        "keeps": [0.5, kept],
    }
    halved, usual = measured(doses=table).doses
    assert halved == srx.Dose("a", 1.0, "A", 0.0, keeps=0.5)
    assert usual == srx.Dose("b", 1.0, "A", 2.0)


def test_doses_without_a_run_are_those_of_all():
    doses = measured(doses={"t": 0.5, "state": "A", "amount": 2.0}).doses
    assert doses == (srx.Dose("a", 0.5, "A", 2.0), srx.Dose("b", 0.5, "A", 2.0))


@pytest.mark.parametrize(
    ("doses", "message"),
    [
        ({"t": [1], "amount": [2]}, "and not 'state': it needs `state`, `amount` and a time. Name"),
        ({"t": [1], "state": ["A"], "amount": [None]}, "is empty; a dose has a time and an amount"),
        (
            {"t": [1], "state": ["A"], "amount": [2], "rate": [3]},
            r"out, in the table or by `ignore=\['rate'\]`",
        ),
        ({"t": [1], "state": ["A"], "amount": [2], "seen": ["x"]}, "holds 'x'; write 1 or 0"),
        (
            {"t": [1], "state": ["A"], "amount": [2], "keeps": ["50%"]},
            "row 0 of .*, column 'keeps', holds '50%', which is no number",
        ),
        (
            {"run": ["c"], "t": [1], "state": ["A"], "amount": [2]},
            "`doses` has one for the run 'c'",
        ),
        ({"hours": [1], "state": ["A"], "amount": [2]}, "name the one of times so, in the table"),
        (srx.Dose("a", 2.0, "A", 50.0), r"Write `doses=\[srx.Dose\(run='a', time=2.0"),
        ([("a", 2.0, "A", 50.0)], r"it needs doses. Write `srx.Dose\(run='a'"),
        ([srx.Dose("a", 0.5, "A", np.nan)], "time and amount are finite"),
        ([srx.Dose("a", np.nan, "A", 1.0)], "time and amount are finite"),
        ([srx.Dose("a", 0.5, "A", None)], "time and amount are finite numbers"),  # type: ignore
        ([srx.Dose("a", 0.5, "A", np.ones(1))], "time and amount are finite numbers"),  # type: ignore
        (
            [srx.Dose("a", 0.5, "A", 1.0, keeps=np.inf)],
            "time and amount are finite numbers, as `keeps`",
        ),
        ([srx.Dose("a", 0.5, "A", 1.0, "no")], "and `seen` is true or false"),  # type: ignore
        ([srx.Dose("a", 0.5, "A", 1.0, 2)], "and `seen` is true or false"),  # type: ignore
        (np.ones(1), "`doses` of type ndarray was given; it needs a data frame"),
    ],
)
def test_doses_that_do_not_fit_are_named(doses, message):
    with pytest.raises(ValueError, match=message):
        measured(doses=doses)


def test_an_input_stands_in_a_file_with_times_of_its_own(tmp_path):
    path = tmp_path / "feeds.csv"
    path.write_text("batch;time;feed;pH\na;0,5;4,5;\na;0;1,5;7,5\nb;0;2,5;7\n")
    data = measured(inputs={"feed": ("step", path), "pH": ("linear", path)})
    feed = data.inputs["feed"]
    assert [float(feed(0, t)) for t in (0, 0.4, 0.5, 9)] == [1.5, 1.5, 4.5, 4.5]
    assert float(feed(1, 0.9)) == 2.5
    assert feed.jump_ts.tolist() == [[0.5], [np.inf]]
    assert float(data.inputs["pH"](0, 0.9)) == 7.5


def test_an_input_without_a_run_is_that_of_all():
    table = {"t": [0.0, 1.0], "u": [0.0, 2.0]}
    u = srx.Measurements.from_arrays(
        [0.0, 1.0], np.ones((2, 2, 1)), inputs={"u": ("linear", table)}
    ).inputs["u"]
    assert [float(u(run, 0.5)) for run in (0, 1)] == [1, 1]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"u": ("step", {"run": ["a"], "t": [0], "u": [1]})}, "has no row for the run 'b'"),
        ({"u": ("spline", {"t": [0], "u": [1]})}, "between its rows an input is one of"),
        ({"u": 3}, "between its rows an input is one of"),
        ("u", r"Write `inputs=\{'feed': 'linear'\}`, or for one of a table of its own"),
        (np.ones((2, 2)), "`inputs=ndarray` was given; it needs the names of columns"),
        ([["u"]], r"`inputs=\[\['u'\]\]` was given; it needs the names of columns"),
        ({"u": ("step", {"t": [None, 1], "u": [1, 2]})}, "row 0 of .*'t', is no finite time"),
        ({"u": ("step", {"t": [1, 0, 1], "u": [3, 1, 2]})}, "has the values 2 and 3 at time 1 of"),
        (3, r"`inputs=3` was given; it needs the names of columns"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        measured(inputs=inputs)


@pytest.mark.parametrize(
    "options",
    [
        {"doses": {"t [min]": [1], "state": ["A"], "amount": [2]}},
        {"inputs": {"u": ("step", {"time (min)": [0], "u": [1]})}},
    ],
)
def test_second_tables_have_times_in_the_unit_of_the_first(options):
    table = {"t [h]": [0, 1], "A": [1.0, 2.0]}
    with pytest.raises(
        ValueError, match="The times 't' of the table are in h and those, '.*in min: "
    ):
        srx.Measurements.from_table(table, **options)
    assert len(
        srx.Measurements.from_table(table | {"t [min]": [0, 1]}, ignore=["t [h]"], **options)
    )


def test_inputs_beside_arrays_bring_their_rows():
    with pytest.raises(ValueError, match=r"Write `inputs=\{'u': \('step', \{'t': \[0.0, 5.0\]"):
        srx.Measurements.from_arrays([0.0], [[1.0]], inputs={"u": "step"})


@pytest.mark.parametrize(
    ("sd", "message"),
    [
        ("A_sd", r"Write `sd=\{'A': 'A_sd'\}`"),
        ([0.1], r"needs a number for all columns"),
        (np.nan, r"`sd=nan` was given; it needs a number"),
        ({"A": np.nan}, r"`sd=\{'A': nan\}` was given; it needs a number"),
        ({"A": [0.1, 0.2]}, r"Write `sd=\{'A': 0.1\}` or `sd=\{'A': 'A_sd'\}`"),
    ],
)
def test_standard_deviations_that_are_no_numbers_are_named(sd, message):
    with pytest.raises(ValueError, match=message):
        measured(sd=sd)


@pytest.mark.parametrize("options", [{"sd": {"A": "sd"}}, {"sd": "sd", "long": ("x", "A")}])
def test_an_empty_column_of_standard_deviations_is_refused(options):
    table = {"t": [0, 1], "A": [1.0, 2.0], "sd": [None, None]}
    table |= {"x": ["A", "A"]} if "long" in options else {}
    with pytest.raises(ValueError, match="`sd` names 'sd', which is empty in the table"):
        srx.Measurements.from_table(table, **options)


def test_a_name_is_that_of_a_constant_or_of_an_input():
    known = {"constants": {"T": 298.0}, "inputs": {"T": ("step", {"t": [0.0], "T": [300.0]})}}
    message = r"`constants` and `inputs` have 'T', of which `args\['T'\]` would be the constant"
    with pytest.raises(ValueError, match=message):
        measured(**known)
    with pytest.raises(ValueError, match=message):
        srx.Measurements.from_arrays([0.0, 1.0], np.ones((2, 1)), **known)


@pytest.mark.parametrize(("columns", "names"), [(None, ("A",)), (["A", "u"], ("A", "u"))])
def test_an_input_of_a_table_of_its_own_is_measured_where_that_is_said_alone(columns, names):
    table = {"t": [0, 1, 2], "A": [1.0, 2.0, 4.0], "u": [0.0, 1.0, 3.0]}
    inputs = {"u": ("step", {"t": [0.0], "u": [5.0]})}
    data = srx.Measurements.from_table(table, columns=columns, inputs=inputs)
    assert data.names == names
    assert data.conditions(0)["u"](0.0) == 5


def test_a_number_is_the_standard_deviation_of_all_columns():
    table = {"t": [0, 1], "A": [1.0, 2.0], "B": [2.0, 3.0]}
    np.testing.assert_array_equal(srx.Measurements.from_table(table, sd=0.1).sd, 0.1)
    long = {"t": [0, 1], "x": ["A", "B"], "value": [1.0, 2.0]}
    data = srx.Measurements.from_table(long, long=("x", "value"), sd=0.1)
    np.testing.assert_array_equal(data.sd[0], [[0.1, 0], [0, 0.1]])
    with pytest.raises(ValueError, match="needs the name of the column of standard deviations"):
        srx.Measurements.from_table(long, long=("x", "value"), sd={"A": "s"})


def test_tables_beside_arrays_have_times_in_one_unit():
    doses = {"t [min]": [1], "state": ["A"], "amount": [2]}
    feed = ("step", {"t [h]": [0], "u": [1]})
    with pytest.raises(ValueError, match="in min and those, 't', of the table in h: bring both"):
        srx.Measurements.from_arrays([0, 1], [[1], [2]], doses=doses, inputs={"u": feed})


def test_a_frame_is_no_list_of_inputs():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(
        ValueError, match="`inputs=DataFrame` was given; it needs the names of columns"
    ):
        measured(inputs=pandas.DataFrame({"t": [0], "u": [1]}))


def test_doses_may_come_one_by_one():
    dose = srx.Dose("a", 0.5, "A", 1.0)
    assert measured(doses=(x for x in [dose])).doses == (dose,)


def test_a_column_is_read_as_often_for_many_runs_as_for_few(monkeypatch):
    calls, numbers = [], Table.numbers
    monkeypatch.setattr(Table, "numbers", lambda *given: calls.append(given) or numbers(*given))

    def count(runs):
        calls.clear()
        labels = [str(k) for k in range(runs) for _ in (0, 1)]
        table = {"run": labels, "t": [0, 1] * runs, "A": range(2 * runs), "u": [0, 1] * runs}
        feed = ("step", {"run": labels, "t": [0, 1] * runs, "v": [0, 1] * runs})
        srx.Measurements.from_table(table, inputs={"u": "step", "v": feed})
        return len(calls)

    assert count(40) == count(2)


def test_numbers_of_doses_become_those_of_python():
    given = srx.Dose("a", np.float32(0.5), "A", jnp.array(1.0), np.int64(1), 0)  # type: ignore
    (dose,) = measured(doses=[given]).doses
    assert dose == srx.Dose("a", 0.5, "A", 1.0, True, 0.0)
    numbers = (dose.time, dose.amount, dose.seen, dose.keeps)
    assert [type(x) for x in numbers] == [float, float, bool, float]


def test_what_is_none_is_not_given():
    data = measured(doses=None, constants=None, inputs=None)
    assert (data.doses, data.constants, data.inputs) == ((), {}, {})
    arrays = srx.Measurements.from_arrays([0.0], [[1.0]], doses=None, constants=None, inputs=None)
    assert (arrays.doses, arrays.constants, arrays.inputs) == ((), {}, {})


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"constants": 5}, "`constants` of type int"),
        ({"inputs": {"u": ("step", 5)}}, r"`inputs\['u'\]` of type int"),
    ],
)
def test_what_is_no_second_table_is_named(options, what):
    with pytest.raises(ValueError, match=f"{what} was given; it needs a data frame"):
        measured(**options)


@pytest.mark.parametrize("name", ["none", "Na", "-", "NaN"])
def test_names_that_could_be_empty_cells_are_names(name):
    rows = {"run": [name, name, "+", "+"], "t": [0, 1, 0, 1], "A": [1.0, 2.0, 3.0, 4.5]}
    assert srx.Measurements.from_table(rows).run_names == (name, "+")
    assert measured(doses={"t": [1], "state": [name], "amount": [2]}).doses[0].state == name
    long = {"t": [0, 0, 1, 1], "ion": [name, "K"] * 2, "value": [1.0, 2.0, 3.0, 4.5]}
    if name != "-":
        read = srx.Measurements.from_table(long, long=("ion", "value"))
        assert read.names == (name, "K")


@pytest.mark.parametrize("empty", [None, np.nan, "", " "])
def test_an_empty_name_is_refused(empty):
    long = {"t": [0, 0, 1, 1], "ion": ["Na", "K", empty, "K"], "value": [1.0, 2.0, 3.0, 4.5]}
    with pytest.raises(ValueError, match="row 2 .*'ion', is empty; name the species"):
        srx.Measurements.from_table(long, long=("ion", "value"))
    with pytest.raises(ValueError, match="row 0 .*'state', is empty; name the state"):
        measured(doses={"t": [1], "state": [empty], "amount": [2]})
