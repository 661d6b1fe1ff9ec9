"""Columns of which nothing was said are measurements only if they look like nothing else."""

import numpy as np
import pytest

import stiffrax as srx


def read(text, **options):
    """The table that a text of rows is."""
    header, *rows = [line.split(",") for line in text.split()]
    table = {name: [row[j] for row in rows] for j, name in enumerate(header)}
    return srx.Measurements.from_table(table, **options)


LONG = "time,species,value,{} 0,A,1.0,{} 1,A,0.6,{} 0,A,1.2,{} 1,A,0.8,{}"


@pytest.mark.parametrize(
    ("column", "cells", "advice"),
    [
        (
            "condition",
            "hot hot cold cold",
            "replicates. Write `run='condition'` if it tells the runs apart,",
        ),
        ("T", "300 300 320 320", r"replicates. .* `constants=\['T'\]` or `inputs=\['T'\]`"),
        ("sd", "0.1 0.1 0.2 0.2", "Write `sd='sd'`"),
        ("value_std", "0.1 0.1 0.2 0.2", "Write `sd='value_std'`"),
    ],
)
def test_a_column_beside_one_row_a_measurement_is_never_dropped_silently(column, cells, advice):
    text = LONG.format(column, *cells.split())
    with pytest.raises(ValueError, match=advice):
        read(text, long=("species", "value"))
    data = read(text, long=("species", "value"), ignore=[column])
    assert np.sum(data.mask) == 4


def test_replicates_of_one_row_a_measurement_need_no_word():
    data = read(LONG.format("replicate", 1, 1, 2, 2), long=("species", "value"))
    np.testing.assert_array_equal(data.ts, [[0, 0, 1, 1]])
    np.testing.assert_array_equal(data.values[0, :, 0], [1, 1.2, 0.6, 0.8])


def test_standard_deviations_are_those_of_the_variables_asked_for():
    text = "time,species,value,sd 0,A,1,0.1 1,A,2,0.2 0,B,3,0.3 1,B,4,0.4"
    data = read(text, long=("species", "value"), sd="sd", columns=["B"])
    assert data.names == ("B",)
    np.testing.assert_array_equal(data.sd[0, :, 0], [0.3, 0.4])


@pytest.mark.parametrize("name", ["run", "Run", "RUN"])
def test_runs_are_named_by_a_column_run(name):
    assert read(f"{name},t,A 1,0,5 1,1,3 2,0,6 2,1,2").run_names == ("1", "2")


def test_two_columns_run_are_a_question():
    with pytest.raises(ValueError, match="say which one names the runs, as in `run='run'`"):
        read("run,Run,t,A 1,1,0,5 1,1,1,3")


APART = {
    "stacked": "k,t,A 1,0,5 1,1,3 2,0,6 2,1,2",
    "stacked text": "k,t,A x,0,5 x,1,3 y,0,6 y,1,2",
    "in turn": "k,t,A 1,0,5 2,0,6 1,1,3 2,1,2",
    "doses": "k,t,A 0.5,0,5 0.5,1,3 0.5,2,2.5 2.5,0,6 2.5,1,2 2.5,2,1.5",
    "unsorted": "k,t,A 1,1,3 1,0,5 2,1,2 2,0,6",
    "measured once": "k,t,A 1,0,5 1,1,3 1,2,1 2,0,6 3,0,4 3,1,2",
}


@pytest.mark.parametrize("text", APART.values(), ids=APART)
def test_a_column_that_seems_to_tell_runs_apart_is_refused_though_measurements_are_named(text):
    with pytest.raises(ValueError, match="seems to tell runs apart, .* Write `run='k'`"):
        read(text, columns=["A"])
    assert len(read(text, columns=["A"], run="k")) > 1
    assert len(read(text, columns=["A"], ignore=["k"])) == 1


@pytest.mark.parametrize("text", [x for name, x in APART.items() if name != "stacked text"])
def test_a_column_that_tells_runs_apart_is_no_measurement(text):
    with pytest.raises(ValueError, match="seems to tell runs apart"):
        read(text)


def test_merged_cells_of_a_spreadsheet_tell_runs_apart_too():
    text = "k,t,A 1,0,5 ,1,3 ,2,1 2,0,6 ,1,2"
    with pytest.raises(ValueError, match="seems to tell runs apart, .* Write `run='k'`"):
        read(text, columns=["A"])
    with pytest.raises(ValueError, match="row 1 of the table, column 'k', is empty; name the run"):
        read(text, columns=["A"], run="k")


def test_a_column_that_is_measured_now_and_then_tells_no_runs_apart():
    assert read("t,A,B 0,1,.1 0,2,.2 1,3,.1 1,4,.2 2,5,").names == ("A", "B")


@pytest.mark.parametrize("name", ["ID", "subject", "Batch"])
def test_a_column_with_the_name_of_a_label_is_refused_in_any_order(name):
    with pytest.raises(ValueError, match=f"Write `run='{name}'`"):
        read(f"{name},t,A 1,0,5 2,0.5,6 1,1,3 2,1.5,2")


@pytest.mark.parametrize(
    "text",
    [
        "t,A,B 3,0.2,0.7 0,1,0 1,0.5,0.4",
        "t,A,B 3,0.2,0.7 2,0.3,0.6 1,0.5,0.4 0,1,0.1",
        "t,A,B 0,1,0.1 0,0.9,0.2 1,0.5,0.4 1,0.6,0.5",
        "t,A,B 0,1,.1 3,2,.2 2,2,.3 1,1,.4",
        "t,A,B 5,.1,.1 6,.2,.2 7,.3,.3 0,0,.4 1,0.01,.5 2,0,.6 3,0,.7 4,0.02,.8",
    ],
)
def test_measurements_in_any_order_do_not_tell_runs_apart(text):
    assert read(text).names == ("A", "B")


@pytest.mark.parametrize(
    "name", ["A_SD", "a_sem", "sd", "SD", "sd_A", "A_stdev", "A_std_dev", "Sigma"]
)
def test_a_column_of_standard_deviations_is_no_measurement(name):
    with pytest.raises(
        ValueError, match=rf"standard deviation of 'A'. Write `sd=\{{'A': '{name}'\}}`"
    ):
        read(f"t,A,{name} 0,5,.1 1,3,.2 2,2,.3")
    assert read(f"t,A,{name} 0,5,.1 1,3,.2 2,2,.3", sd={"A": name}).names == ("A",)


@pytest.mark.parametrize("name", ["index", "ID", "Row"])
def test_a_column_that_counts_rows_is_no_measurement(name):
    with pytest.raises(ValueError, match=rf"counts the rows. Write `ignore=\['{name}'\]`"):
        read(f"{name},t,A 0,0,5 1,1,3 2,2,2.5")


def test_a_column_of_replicates_is_no_measurement():
    with pytest.raises(ValueError, match=r"looks like a number of replicates.*`ignore=\['rep'\]`"):
        read("t,rep,A 0,1,5 0,2,6 1,1,3 1,2,2")
    assert read("t,rep,A 0,1,5 0,2,6 1,1,3 1,2,2", columns=["A"]).names == ("A",)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "run,t,A,B,operator a,0,1,2,Anna a,1,2,3.5,Bob",
            {},
            r"'operator' .* such as 'Anna', and no measurement. Write `ignore=\['operator'\]`",
        ),
        (
            "t,A,B,plate 0,1,2,x 1,2,3.5,x",
            {},
            r"Write `run='plate'` if it tells the runs apart, or `ignore=\['plate'\]` to leave it out",
        ),
        (
            "t,gene,A 0,x,1 1,x,2",
            {},
            r"`run='gene'` if it tells the runs apart, `long=\('gene', 'A'\)` if it names",
        ),
        (
            "name,t,A,B Eve,0,1,2 Eve,1,2,3.5",
            {},
            r"'name' .* Write `run='name'` if it tells the runs apart, `long=\('name', 'A'\)` if it",
        ),
        ("t,name,A,A_sd 0,x,1,.1 1,x,2,.2", {}, r"Write `long=\('name', 'A'\)`"),
        ("time,species,conc 0,A,1 1,A,2", {}, r"Write `long=\('species', 'conc'\)`"),
        (
            "run,t,A,genotype a,0,1,wt a,1,2,wt",
            {"constants": ["genotype"]},
            r"'genotype', holds 'wt', a name, and a constant is a number",
        ),
        ("t,A,B h,mM,mM 0,1,2 1,2,3.5", {}, "holds 'h', which looks like a row of units"),
        ("t,A,B 0,n.d.,2 1,2,3.5", {}, "'A', holds 'n.d.', which is no number; correct it"),
    ],
)
def test_text_is_a_row_of_units_only_where_no_cell_of_the_row_is_a_number(text, options, message):
    with pytest.raises(ValueError, match=message):
        read(text, **options)


def test_a_constant_by_which_rows_differ_may_tell_runs_apart():
    text = "t,A,dose 0,1,0.5 1,2,0.5 1.5,2,2.5 2,3,2.5"
    with pytest.raises(ValueError, match="or `run='dose'` as well if it tells runs apart"):
        read(text, constants=["dose"])
    data = read(text, constants=["dose"], run="dose")
    np.testing.assert_array_equal(data.constants["dose"], [0.5, 2.5])


def test_a_column_may_be_ignored_by_its_name_or_as_it_is_written():
    table = {"t": [0, 1], "A": [1.0, 2.0], "T [K]": [3, 3]}
    for name in ("T", "T [K]"):
        assert srx.Measurements.from_table(table, ignore=[name]).names == ("A",)
    with pytest.raises(ValueError, match="`ignore` has 'x', which is no column of the table"):
        srx.Measurements.from_table(table, ignore=["x"])
    with pytest.raises(ValueError, match=r"Write `ignore=\['T'\]`"):
        srx.Measurements.from_table(table, ignore="T")
    with pytest.raises(ValueError, match="it needs new names by the old ones"):
        srx.Measurements.from_table(table, rename=["T"])


def test_a_renamed_column_takes_the_place_of_one_that_is_ignored():
    table = {"t": [0, 1], "A": [1.0, 2.0], "A_corr [mM]": [3.0, 4.0]}
    data = srx.Measurements.from_table(table, rename={"A_corr": "A"}, ignore=["A"])
    assert (data.names, data.units) == (("A",), ("mM",))
    np.testing.assert_array_equal(data.values[0, :, 0], [3, 4])
    with pytest.raises(ValueError, match="`ignore` has 'C', which is no column"):
        srx.Measurements.from_table(table, rename={"A": "C"}, ignore=["C"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": ["A"]}, "it needs the name of a column. Write `run='A'`"),
        ({"time": 3}, "it needs the name of a column. Write `time='A'`"),
        ({"columns": "A"}, r"`columns='A'` was given; it needs a sequence of names. .*\['A'\]`"),
        ({"columns": [1]}, "it needs a sequence of names"),
        ({"ignore": 3}, r"Write `ignore=\['notes'\]`"),
        ({"rename": {"A": 1}}, "it needs new names by the old ones"),
    ],
)
def test_names_of_columns_are_text(options, message):
    with pytest.raises(ValueError, match=message):
        srx.Measurements.from_table({"t": [0, 1], "A": [1.0, 2.0]}, **options)
