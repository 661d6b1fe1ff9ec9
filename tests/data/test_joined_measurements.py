"""Files of a run each, runs without a measured cell, and data sets that are joined."""

import dataclasses
import warnings

import numpy as np
import pytest

import stiffrax as srx


@pytest.fixture
def files(tmp_path):
    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.csv").write_text(text)
        return sorted(tmp_path.glob("*.csv"))

    return write


def test_a_file_without_a_column_run_is_a_run_of_its_name(files):
    paths = files(
        x="t,A [mM]\n0,1\n1,2\n", y="Time,A [mM],B\n0,3,1\n2,4,7.5\n", z="Run,t,B\nq,0,5\n"
    )
    data = srx.Measurements.from_csv(paths, constants={"run": ["q", "y", "x"], "T": [3, 2, 1]})
    assert (data.run_names, data.names, data.units) == (("x", "y", "q"), ("A", "B"), ("mM", ""))
    np.testing.assert_array_equal(data.ts, [[0, 1], [0, 2], [0, 0]])
    np.testing.assert_array_equal(data.values[1], [[3, 1], [4, 7.5]])
    np.testing.assert_array_equal(data.mask[0], [[True, False], [True, False]])
    np.testing.assert_array_equal(data.constants["T"], [1, 2, 3])
    assert srx.Measurements.from_csv(paths[:1]).run_names == ("x",)


def test_files_with_one_row_a_measurement_are_runs_too(files):
    paths = files(x="t,what,value\n0,A,1\n0,B,2\n1,A,3\n", y="t,what,value\n0,A,4\n")
    data = srx.Measurements.from_csv(paths, long=("what", "value"))
    np.testing.assert_array_equal(data.values[:, :, 0], [[1, 3], [4, 0]])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"x": "run,t,A\n1,0,1\n", "y": "run,t,A\n1,0,2\n"},
            "The run '1' is in .*x.csv and in .*y",
        ),
        ({"x": "t,A [mM]\n0,1\n", "y": "t,A [uM]\n0,1\n"}, "'A' is in mM in .* and in uM in"),
        ({"x": "t [h],A\n0,1\n", "y": "t [min],A\n0,1\n"}, "'t' is in h in .* and in min in"),
        ({"x": "k,t,A\n1,0,1\n1,1,2\n2,0,3\n2,1,4\n", "y": "t,A\n0,1\n"}, "Write `run='k'`"),
        ({"x": "t,A\n0,1\n", "y": "t,A\n0,l.5\n"}, "row 2 of .*y.csv, column 'A', holds 'l.5'"),
        ({}, "No file was given"),
    ],
)
def test_files_that_do_not_fit_are_named(files, texts, message):
    with pytest.raises(ValueError, match=message):
        srx.Measurements.from_csv(files(**texts))


EMPTY = "run,t,A,B,u\na,0,1,,1\na,1,2,,1\nc,0,,1,\nc,1,,2,\n"


def test_runs_without_a_measured_cell_are_left_out_with_what_belongs_to_them(files):
    (path,) = files(e=EMPTY)
    doses = [srx.Dose("a", 0.5, "A", 1.0), srx.Dose("c", 0.5, "A", 1.0)]
    with pytest.warns(UserWarning, match=r"The runs \['c'\] of .* and are left out"):
        data = srx.Measurements.from_csv(
            path, columns=["A"], inputs=["u"], start={"a": -1.0, "c": -2.0}, doses=doses
        )
    assert (data.run_names, data.doses, data.starts.tolist()) == (("a",), (doses[0],), [-1])


def test_a_run_that_is_left_out_keeps_its_number():
    table = {"run": ["a", "b", "c"], "t": [0, 0, 0], "A": [1, None, 3], "B": [None, 2, None]}
    with pytest.warns(UserWarning, match=r"\['b'\]"):
        data = srx.Measurements.from_table(table, columns=["A"])
    assert (data.run_names, data.numbers) == (("a", "c"), (0, 2))
    assert int(data.conditions("c").run) == 2


def test_a_table_in_which_nothing_is_measured_is_refused():
    with pytest.raises(ValueError, match=r"has no measured cell in \['A'\]"):
        srx.Measurements.from_table({"t": [0, 1], "A": [None, None]}, columns=["A"])


def one(label, names, units=None, ts=(0.0, 1.0), **options):
    values = np.arange(1.0, 1 + len(ts) * len(names)).reshape(len(ts), len(names))
    return srx.Measurements.from_arrays(
        ts, values, names=names, units=units, run_names=[label], **options
    )


def test_joined_data_have_the_runs_and_the_columns_of_all():
    step = {"t": [-1.0, 1.0, 2.0], "u": [1.0, 2.0, 4.0]}
    a = one("a", ["A"], ["mM"], constants={"T": 1}, inputs={"u": ("step", step)}, start=-1.0)
    dose = srx.Dose("b", 0.5, "A", 1.0)
    flat = ("linear", {"t": [0.0], "u": [7.0]})
    b = one("b", ["B", "A"], ts=[0, 1, 2], sd=0.1, constants={"T": 2}, inputs={"u": flat})
    b = dataclasses.replace(b, doses=(dose,), sd=np.zeros_like(b.sd))
    data = a.join(b)
    assert (data.run_names, data.names, data.units) == (("a", "b"), ("A", "B"), ("mM", ""))
    np.testing.assert_array_equal(data.ts, [[0, 1, 1], [0, 1, 2]])
    np.testing.assert_array_equal(data.values[0], [[1, 0], [2, 0], [0, 0]])
    np.testing.assert_array_equal(data.mask[0], [[True, False], [True, False], [False, False]])
    np.testing.assert_array_equal(data.values[1], [[2, 1], [4, 3], [6, 5]])
    assert (data.starts.tolist(), data.constants["T"].tolist()) == ([-1, 0], [1, 2])
    assert [float(data.inputs["u"](0, t)) for t in (0.5, 1.5, 2.5)] == [1, 2, 4]
    assert [float(data.inputs["u"](1, t)) for t in (0.5, 5.0)] == [7, 7]
    assert data.doses == (dose,)
    assert data.select("b").doses == (dose,)


def test_runs_that_are_joined_again_keep_their_numbers():
    whole = srx.Measurements.from_arrays([0.0, 1.0], np.ones((4, 2, 1)))
    kept, out = whole.split([1])
    assert kept.join(out).numbers == (0, 2, 3, 1)
    assert kept.join(one("new", ["y1"])).numbers == (0, 2, 3, 4)
    assert out.join(one("x", ["y1"]), one("y", ["y1"])).numbers == (1, 2, 3)


def test_what_is_joined_are_measurements_and_what_is_read_are_files():
    with pytest.raises(ValueError, match=r"it needs `stiffrax.Measurements`. Write `data.join"):
        one("a", ["A"]).join([one("b", ["A"])])  # type: ignore
    for path in (3, [None]):
        with pytest.raises(ValueError, match="it needs the name of a file"):
            srx.Measurements.from_csv(path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (one("a", ["A"]), "Two of the data sets have a run 'a'"),
        (one("b", ["A"], ["uM"]), "'A' is in mM in the data of .* and in uM in"),
        (
            one("b", ["A"], constants={"k": 1}),
            r"the run 'a' has none. .* `constants=\{'k': 298.0\}`",
        ),
        (
            one("b", ["A"], inputs={"u": ("step", {"t": [0], "u": [1]})}),
            r"'u' is one of the inputs .* `inputs=\{'u': \('step', 'feeds.csv'\)\}`",
        ),
    ],
)
def test_data_that_do_not_fit_are_not_joined(other, message):
    with pytest.raises(ValueError, match=message):
        one("a", ["A"], ["mM"]).join(other)


def test_no_run_is_left_out_silently_and_none_with_a_word_where_all_are_measured(files):
    (path,) = files(e=EMPTY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(srx.Measurements.from_csv(path, columns=["A", "B"], ignore=["u"])) == 2


def test_of_many_files_a_message_names_the_first(files):
    paths = files(**{f"x{k}": "t,A\n0,1\n" for k in range(6)})
    with pytest.raises(
        ValueError, match=r"no column of \S*x0.csv, \S*x1.csv, 4 more: \['t', 'A'\]"
    ):
        srx.Measurements.from_csv(paths, ignore=["B"])
