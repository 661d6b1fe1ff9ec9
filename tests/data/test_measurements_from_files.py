"""Files as instruments and colleagues write them are read, or refused with what to write."""

import numpy as np
import pytest

import stiffrax as srx

PLAIN = "t,A,B\n0,1,0\n1,0.5,0.4\n3,0.2,0.7\n"


def same(data, other):
    np.testing.assert_array_equal(data.ts, other.ts)
    np.testing.assert_array_equal(data.values, other.values)
    np.testing.assert_array_equal(data.mask, other.mask)


def test_a_file_without_a_column_run_is_one_run(written):
    data = srx.Measurements.from_csv(written(PLAIN))
    assert data.run_names == ("0",)
    np.testing.assert_array_equal(data.values[0], [[1, 0], [0.5, 0.4], [0.2, 0.7]])


@pytest.mark.parametrize("blank", ["", "NaN", "nan", "NA"])
def test_a_blank_cell_is_not_measured_and_costs_no_other(written, blank):
    data = srx.Measurements.from_csv(written(f"t,A,B\n0,1,{blank}\n1,{blank},2.5\n"))
    np.testing.assert_array_equal(data.mask[0], [[True, False], [False, True]])
    np.testing.assert_array_equal(data.values[0], [[1, 0], [0, 2.5]])


def test_units_leave_the_name_and_are_kept(written):
    data = srx.Measurements.from_csv(written("t [h],c_A [mmol/L],pH\n0,1,7\n1,0.5,7.5\n"))
    assert (data.names, data.units) == (("c_A", "pH"), ("mmol/L", ""))


def test_a_name_that_is_no_symbol_is_renamed(written):
    path = written("t,A-total (mM),B\n0,1,2\n1,3,4.5\n")
    with pytest.raises(ValueError, match=r"Write `rename=\{'A-total': 'A_total'\}`"):
        srx.Measurements.from_csv(path)
    data = srx.Measurements.from_csv(path, rename={"A-total (mM)": "A"})
    assert (data.names, data.units) == (("A", "B"), ("mM", ""))


@pytest.mark.parametrize(
    "text",
    [
        "t;A;B\n0;1;0\n1;0,5;0,4\n3;0,2;0,7\n",
        "t\tA\tB\n0\t1\t0\n1\t0.5\t0.4\n3\t0.2\t0.7\n",
        "t  A  B\n0  1  0\n1  0.5  0.4\n3  0.2  0.7\n",
        "# instrument 7\n# 12 May\n" + PLAIN,
        "t,A,B\n3,0.2,0.7\n0,1,0\n1,0.5,0.4\n",
        "t;A;B\n0;1;0\n1;0,500;0,4\n3;0,2;0,7\n;;\n",
        "t,A,B\n0,1,0\n#0.5,7,7\n1,0.5,0.4\n3,0.2,0.7\n# 2 points left out, 1 and 5\n",
        "t,A,B,\n0,1,0,\n1,0.5,0.4,\n3,0.2,0.7,\n",
        "t,A,B,,\n0,1,0,,\n1,0.5,0.4\n3,0.2,0.7\n",
        "t,,A,B\n0,,1,0\n1,,0.5,0.4\n3,,0.2,0.7\n",
        "t,A,B\n0,1,0,\n1,0.5,0.4,\n3,0.2,0.7,\n",
        "# instrument 7\n# t,A,B\n0.0,1.0,0.0\n1.0,0.5,0.4\n3.0,0.2,0.7\n",
        "# t A B\n0.0e+00 1.0 0.0\n1.0 0.5 0.4\n3.0 0.2 0.7\n",
        "sep=;\nt;A;B\n0;1;0\n1;0,5;0,4\n3;0,2;0,7\n",
    ],
    ids=[
        "semicolon and decimal comma",
        "tab",
        "spaces",
        "comments",
        "not sorted",
        "empty row",
        "commented row",
        "separator after each row",
        "separators after some rows",
        "empty column",
        "separator after rows without a header",
        "header of savetxt",
        "header of savetxt with spaces",
        "separator named as by Excel",
    ],
)
def test_the_same_table_in_other_clothes_is_the_same(written, text):
    plain = srx.Measurements.from_csv(written(PLAIN, "plain.csv"))
    same(srx.Measurements.from_csv(written(text)), plain)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,A\nh,mM\n0,1\n1,2\n", "row 2 .* holds 'h', which looks like a row of units"),
        ("t,A\n2026-01-05,1\n2026-01-06,2\n", "row 2 .* looks like a date or a time of day"),
        ("t,A\n0,1\n1,<0.01\n", "row 3 .* holds '<0.01', a bound and no number. Leave the cell"),
        ("t,A\n0,1\n1,l.5\n", "row 3 .* holds 'l.5', which is no number"),
        (
            't,A\n0,1\n1,"1,250"\n',
            "row 3 .* holds '1,250', with a sign that is not the decimal one",
        ),
        ("t;A\n1;1,250\n2;1,300\n", "has '1,250', and a comma in every such number"),
        ("t;A\n1;1,250,000\n2;1,300\n", "has '1,250,000', and a comma in every such"),
        ("run;t;A\na;0;1\na;1;2\n#2;0;3\n#2;1;4\n", "row 4 .* begins with '#2' and has a number"),
        ("run,t,A\n#1,0,1\n#1,1,2\n", "row 2 .* begins with '#1' and has a number in every other"),
        ("t,A\n0,1\n1,2,3\n", "row 3 .* has 3 cells, but its header has 2"),
        (",t,A\n0,0,1\n1,1,2\n", r"Column 1 of .* has no name. .* write `ignore=\[''\]`"),
        ("t,A,\n0,1,5\n1,2,\n", "Column 3 of .* has no name"),
        ("t,2nd\n0,1\n1,2\n", r"Write `rename=\{'2nd': 'y_2nd'\}`"),
        ("t,%\n0,1\n1,2\n", r"Write `rename=\{'%': 'y1'\}`"),
        ("# plate 3\n0,1\n1,2\n", "row 2 of .* has numbers only: the first row must name the"),
        ("# 0,3\n0,1\n1,2\n", "row 2 of .* has numbers only"),
        ("t,A\n0,1\n\0,2\n", "has zero bytes, .* Save it as UTF-8"),
        ("time|A\n0|1\n", "a single column.* write `separator=`"),
        ("h,A\n0,1\n1,2\n", "say which one is the time, as in `time='hours'`"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_to_do(written, text, message):
    with pytest.raises(ValueError, match=message):
        srx.Measurements.from_csv(written(text))


@pytest.mark.parametrize("separator", ["||", "", r"\s+"])
def test_a_separator_is_one_sign(written, separator):
    with pytest.raises(ValueError, match="it needs one sign. Write `separator=';'`"):
        srx.Measurements.from_csv(written("t,A\n0,1\n1,2\n"), separator=separator)


@pytest.mark.parametrize("decimal", ["x", ";", ""])
def test_a_decimal_sign_is_a_point_or_a_comma(written, decimal):
    with pytest.raises(ValueError, match="`from_csv.decimal=.*write one of None, '.', ','"):
        srx.Measurements.from_csv(written("t,A\n0,1\n1,2\n"), decimal=decimal)


@pytest.mark.parametrize("cell", ["1.250", "1.250,5", "-12.000"])
def test_where_the_decimal_sign_is_a_comma_a_point_is_none(written, cell):
    path = written(f"t;A\n0;1,5\n1;{cell}\n")
    with pytest.raises(ValueError, match=f"row 3 .* holds '{cell}', with a sign that is not the"):
        srx.Measurements.from_csv(path, decimal=",")


def test_numbers_that_look_like_thousands_are_read_where_the_sign_is_said(written):
    path = written("t;A\n1;1,250\n2;1,300\n")
    data = srx.Measurements.from_csv(path, decimal=",")
    np.testing.assert_array_equal(data.values[0, :, 0], [1.25, 1.3])


def test_the_decimal_sign_that_is_said_is_that_of_a_second_table_too(written):
    path = written("run;t;A\na;1;1,25\na;2;1,3\n")
    second = written("run;T\na;25,125\n", "conditions.csv")
    with pytest.raises(ValueError, match="has '25,125', and a comma in every such number"):
        srx.Measurements.from_csv(path, constants=second)
    data = srx.Measurements.from_csv(path, constants=second, decimal=",")
    assert data.constants["T"].tolist() == [25.125]


@pytest.mark.parametrize(
    ("second", "value"),
    [("run,k\nr,1.5\n", 1.5), ("run;k\nr;1.5\n", 1.5), ("run;k\nr;1,5\n", 1.5)],
)
def test_a_second_table_may_have_a_decimal_sign_of_its_own(written, second, value):
    path = written("run;t;A\nr;1;1,250\nr;2;1,300\n")
    second = written(second, "conditions.csv")
    data = srx.Measurements.from_csv(path, constants=second, decimal=",")
    assert data.constants["k"].tolist() == [value]


@pytest.mark.parametrize("cells", ["1.250;1.5,0", "1.250;2.125"])
def test_a_second_table_is_not_read_by_a_sign_that_was_not_said(written, cells):
    path = written("run;t;A\nr;1;1,250\nr;2;1,300\n")
    second = written(f"run;k;l\nr;{cells}\n", "conditions.csv")
    with pytest.raises(ValueError, match="holds '1.250', with a sign that is not the decimal one"):
        srx.Measurements.from_csv(path, constants=second, decimal=",")


@pytest.mark.parametrize("cell", ["#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!"])
def test_an_error_of_excel_is_no_comment(written, cell):
    with pytest.raises(ValueError, match="row 3 of .*, column 'A', holds '#.*which is no number"):
        srx.Measurements.from_csv(written(f"A,t,B\n1.0,0,0.0\n{cell},1,0.4\n0.3,2,0.6\n"))


@pytest.mark.parametrize("header", ["t,A [mM],A_sd [uM]", "t,A [mM],A_sd [%]", "t,A,A_sd [%]"])
def test_standard_deviations_in_another_unit_are_refused(written, header):
    with pytest.raises(ValueError, match="'A' of .* and its standard deviations, 'A_sd', in .*:"):
        srx.Measurements.from_csv(written(f"{header}\n0,1,5\n1,2,5\n"), sd={"A": "A_sd"})


@pytest.mark.parametrize("header", ["t,A [mM],A_sd [mM]", "t,A [mM],A_sd", "t,A,A_sd [mM]"])
def test_those_in_the_same_or_an_unknown_one_are_read(written, header):
    data = srx.Measurements.from_csv(written(f"{header}\n0,1,5\n1,2,5\n"), sd={"A": "A_sd"})
    assert data.sd[0, :, 0].tolist() == [5, 5]


@pytest.mark.parametrize("line", ["# 3,4,5", "#a,2,9"])
def test_a_row_that_was_commented_out_is_a_comment(written, line):
    rows = "run,t,A\na,0,1\na,1,2\n"
    plain = srx.Measurements.from_csv(written(rows, "plain.csv"))
    same(srx.Measurements.from_csv(written(rows + line + "\n")), plain)


@pytest.mark.parametrize("unit", ["ns", "us", "D"])
@pytest.mark.parametrize("kind", ["datetime64", "timedelta64"])
def test_times_of_a_data_frame_that_are_no_numbers_are_refused(kind, unit):
    times = np.array([1, 2], "int64").astype(f"{kind}[{unit}]")
    for ts in (times, times.astype(object) if unit == "us" else list(times)):
        with pytest.raises(ValueError, match="looks like a date or a time of day"):
            srx.Measurements.from_table({"t": ts, "A": [1.0, 2.0]})


def test_a_run_may_start_before_its_first_row(written):
    path = written("t,A\n4,1\n5,0.5\n")
    assert srx.Measurements.from_csv(path).starts == 4
    assert srx.Measurements.from_csv(path, start=0).starts == 0
    with pytest.raises(ValueError, match="starts at 4.5, after its first measurement at 4"):
        srx.Measurements.from_csv(path, start=4.5)


def test_equal_times_are_replicates(written):
    data = srx.Measurements.from_csv(written("t,A\n0,1\n1,0.5\n1,0.6\n"))
    np.testing.assert_array_equal(data.ts[0], [0, 1, 1])
    np.testing.assert_array_equal(data.values[0, :, 0], [1, 0.5, 0.6])


SET = (
    "run,t,A,A_sd,T,feed\na,0,1,0.1,300,0\na,1,0.7,0.1,300,0\na,2,0.6,0.2,300,5\na,3,0.4,0.1,300,5\n"
    "b,0,1,0.1,320,0\nb,1,0.5,0.1,320,0\nb,2,0.4,0.2,320,5\nb,3,0.1,0.1,320,5\n"
)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, r"Write `sd=\{'A': 'A_sd'\}`"),
        ({"sd": {"A": "A_sd"}}, r"Write `constants=\['T'\]`"),
        ({"sd": {"A": "A_sd"}, "constants": ["T"]}, r"Write `inputs=\{'feed': 'step'\}`"),
    ],
)
def test_what_is_set_is_never_silently_a_measurement(written, options, advice):
    with pytest.raises(ValueError, match=advice):
        srx.Measurements.from_csv(written(SET), **options)


def test_spreads_conditions_and_inputs_are_read_as_such(written):
    data = srx.Measurements.from_csv(
        written(SET), sd={"A": "A_sd"}, constants=["T"], inputs={"feed": "step"}
    )
    assert data.names == ("A",)
    np.testing.assert_array_equal(data.sd[0, :, 0], [0.1, 0.1, 0.2, 0.1])
    np.testing.assert_array_equal(data.constants["T"], [300, 320])
    assert [float(data.inputs["feed"](1, t)) for t in (0.5, 1.9, 2.0, 9.0)] == [0, 0, 5, 5]


def test_columns_that_are_named_are_measured_whatever_they_look_like(written):
    data = srx.Measurements.from_csv(written(SET), columns=["A", "T"])
    assert data.names == ("A", "T")


def test_latin_1_is_read_with_a_word(written):
    path = written("t,A [µmol]\n0,1\n1,0.5\n", encoding="latin-1")
    with pytest.warns(UserWarning, match="read as Windows-1252"):
        data = srx.Measurements.from_csv(path)
    assert data.units == ("µmol",)


@pytest.mark.parametrize("sign", "\x0b\x0c\x1c\x85\u2028")
def test_a_line_ends_where_an_editor_shows_its_end(written, sign):
    path = written(f't,A,remark\r\n0,1,wait{sign}ing\r\n1,2,"and{sign}\n"\r\n')
    data = srx.Measurements.from_csv(path, ignore=["remark"])
    assert data.values[0, :, 0].tolist() == [1, 2]


def test_signs_that_windows_has_beyond_latin_1_are_read(written):
    path = written("t,A [\u2030]\n0,1\n1,0.5\n", encoding="cp1252")
    with pytest.warns(UserWarning, match="read as Windows-1252"):
        assert srx.Measurements.from_csv(path).units == ("\u2030",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_text_of_two_bytes_a_letter_is_read_by_its_mark(written, encoding):
    text = "" if encoding == "utf-16" else "\ufeff"
    data = srx.Measurements.from_csv(written(text + "t\tA [µM]\n0\t1\n1\t2\n", encoding=encoding))
    assert (data.names, data.units) == (("A",), ("µM",))


def test_columns_called_by_numbers_are_renamed(written):
    data = srx.Measurements.from_csv(written("0,1\n0.5,1\n1,2\n"), rename={"0": "t", "1": "A"})
    np.testing.assert_array_equal(data.ts, [[0.5, 1]])


def test_a_column_without_a_name_is_left_out_where_that_is_said(written):
    data = srx.Measurements.from_csv(written(",t,A\n0,0,1\n1,1,2\n"), ignore=[""])
    assert data.names == ("A",)


def test_samples_in_latin_1_are_read_with_a_word(written):
    path = written("run,t,µ\na,0,1\na,1,2\n", encoding="latin-1")
    with pytest.warns(UserWarning, match="read as Windows-1252"):
        data = srx.Trajectories.from_csv(path)
    assert data.names == ("µ",)


@pytest.mark.parametrize("start", ["PK\x03\x04", "PAR1"])
def test_other_formats_come_as_data_frames(written, start):
    with pytest.raises(ValueError, match=r"write `Measurements.from_table\(frame\)`"):
        srx.Measurements.from_csv(written(start + "...", "assay.xlsx"))


def test_conditions_may_stand_in_a_second_table(written):
    path = written("run,t,A\nx,0,1\nx,1,0.5\ny,0,1\ny,1,0.7\n")
    second = written("run,T,pH\ny,320,7.4\nx,300,7\n", "conditions.csv")
    data = srx.Measurements.from_csv(path, constants=second)
    np.testing.assert_array_equal(data.constants["T"], [300, 320])
    with pytest.raises(ValueError, match="has no row for the run 'y'"):
        srx.Measurements.from_csv(path, constants={"run": ["x"], "T": [300]})


@pytest.mark.parametrize("names", ["20230101 20230102", "1_2 12", "007 7", "1e5 100000"])
def test_runs_are_named_as_they_are_written(written, names):
    a, b = names.split()
    data = srx.Measurements.from_csv(written(f"run,t,A\n{a},0,1\n{a},1,2\n{b},0,3\n{b},1,4.5\n"))
    assert data.run_names == (a, b)
    long = f"run,time,species,value\n{a},0,A,1\n{a},1,A,2\n{b},0,A,3\n{b},1,A,4.5\n"
    same(data, srx.Measurements.from_csv(written(long), long=("species", "value")))
    second = written(f"run,T\n{b},2\n{a},1\n", "conditions.csv")
    conditions = srx.Measurements.from_csv(
        written(long), long=("species", "value"), constants=second
    )
    np.testing.assert_array_equal(conditions.constants["T"], [1, 2])


@pytest.mark.parametrize("runs", [[20230101, 20230102], [20230101.0, 20230102.0]])
def test_integers_that_name_runs_of_a_table_have_no_exponent(runs):
    rows = {"run": np.repeat(runs, 2), "t": [0, 1, 0, 1], "A": [1.0, 0.5, 3.0, 1.4]}
    assert srx.Measurements.from_table(rows).run_names == ("20230101", "20230102")


def test_a_number_with_an_underscore_is_none(written):
    with pytest.raises(ValueError, match="row 3 .* holds '1_2', which is no number"):
        srx.Measurements.from_csv(written("t,A\n0,1\n1,1_2\n"))
    with pytest.raises(ValueError, match="row 3 .* holds '1_2', which is no number"):
        srx.Trajectories.from_csv(written("t,A\n0,1\n1,1_2\n"), run=None)


def test_a_run_split_in_two_places_is_one_run(written):
    data = srx.Measurements.from_csv(written("run,t,A\na,2,3.5\nb,0,9\nb,1,8\na,0,1\na,1,2\n"))
    assert data.run_names == ("a", "b")
    np.testing.assert_array_equal(data.ts[0], [0, 1, 2])
    np.testing.assert_array_equal(data.values[0, :, 0], [1, 2, 3.5])


@pytest.mark.parametrize("header", ["# t,Na,K", "# t [h],Na,Cl [mM]"])
def test_a_header_that_is_commented_out_may_name_sodium(written, header):
    assert srx.Measurements.from_csv(written(f"{header}\n0,1,2\n1,3,4\n")).names[0] == "Na"


def test_numbers_that_are_commented_out_are_no_header(written):
    with pytest.raises(ValueError, match="row 2 of .* has numbers only"):
        srx.Measurements.from_csv(written("# 0,1,2\n1,3,4\n"))


def test_an_open_file_is_no_name_of_one(written):
    with open(written("t,A\n0,1\n")) as file:
        with pytest.raises(ValueError, match="`path` is an open file; it needs the name of one"):
            srx.Measurements.from_csv(file)
