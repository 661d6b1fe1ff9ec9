"""Trajectories.from_csv and to_csv: what is read, and which row and column is wrong."""

import numpy as np
import pytest

import stiffrax as srx

GOOD = "run,t,a,b\nx,0,1,2\nx,1,3,4\ny,0,5,6\ny,2,7,8\n"


@pytest.fixture
def read(tmp_path):
    """A function that reads the text of a CSV file."""

    def from_text(text, **kwargs):
        path = tmp_path / "data.csv"
        path.write_bytes(text.encode())
        return srx.Trajectories.from_csv(path, **kwargs)

    return from_text


def test_header_names_become_state_names(read):
    data = read(GOOD)
    assert data.names == ("a", "b")
    assert data.run_names == ("x", "y")
    np.testing.assert_array_equal(data.ys, [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    np.testing.assert_array_equal(data.ts, [[0, 1], [0, 2]])


def test_states_pick_and_order_the_columns(read):
    data = read(GOOD, states=["b", "a"])
    assert data.names == ("b", "a")
    np.testing.assert_array_equal(data.ys[0, 0], [2, 1])


def test_rows_of_a_run_need_not_be_adjacent(read):
    data = read("run,t,a\nx,0,1\ny,0,5\nx,1,3\ny,2,7\n")
    np.testing.assert_array_equal(data.ys[..., 0], [[1, 3], [5, 7]])


def test_file_without_runs_is_one_run(read):
    data = read("time,a\n0,1\n1,2\n3,4\n", run=None, time="time")
    assert data.ys.shape == (1, 3, 1)


def test_columns_not_asked_for_are_not_read(read):
    assert read("run,t,a,note\n1,0,1,warm\n1,1,2,\n", states=["a"]).num_states == 1


def test_blank_lines_spaces_byte_order_mark_and_windows_line_ends_are_tolerated(read):
    text = "\ufeff run , t , a \r\n\r\n1, 0, 1.5\r\n1 , 1 , 2e-3\r\n\r\n"
    np.testing.assert_array_equal(read(text).ys[0, :, 0], [1.5, 2e-3])


def test_every_bit_survives_a_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    ys = rng.standard_normal((2, 40, 3)) * 10.0 ** rng.integers(-300, 300, (2, 40, 3))
    ts = np.cumsum(rng.random(40))
    lengths = [40, 17]
    data = srx.Trajectories.from_arrays(
        [ts[:k] for k in lengths],
        [y[:k] for y, k in zip(ys, lengths, strict=True)],
        names=["p", "q", "r"],
        run_names=["first", "second, short"],
    )
    data.to_csv(tmp_path / "data.csv")
    again = srx.Trajectories.from_csv(tmp_path / "data.csv")
    assert again.names == data.names
    assert again.run_names == data.run_names
    for field in ("ts", "ys", "mask"):
        np.testing.assert_array_equal(getattr(again, field), getattr(data, field))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "data.csv is empty: its first row"),
        ("\n\n", {}, "is empty"),
        ("run,t,a\n", {}, "header but no samples"),
        ("run,t\n1,0\n", {}, r"\['run', 't'\], so no state"),
        ("id,t,a\n1,0,1\n", {}, r"run='run' is no column .*\['id', 't', 'a'\].*`run=None`"),
        ("run,time,a\n1,0,1\n", {}, "time='t' is no column .*`time=`"),
        (GOOD, {"states": ["a", "c"]}, "states='c' is no column"),
        (GOOD, {"states": "a"}, r"`states` is the string 'a'.*\['a'\]"),
        (GOOD, {"states": ["a", "a"]}, "`states` holds 'a' twice"),
        (GOOD, {"states": []}, "`states` is empty"),
        ("run,t,a,a\n1,0,1,2\n", {}, "names two columns 'a'"),
        ("run,t,2-x\n1,0,1\n", {}, "the header of .*data.csv holds '2-x'.*identifier"),
        ("run,t,a\n1,0,1\n1,one,2\n", {}, "row 3 of .*column 't', holds 'one'"),
        ("run,t,a\n\n1,0,1\n1,1,x\n", {}, "row 4 of .*data.csv, column 'a', holds 'x'.*no number"),
        ("run,t,a\n1,0,1\n1,1,\n", {}, "row 3 of .*column 'a', holds ''.*delete the row"),
        ("run,t,a\n1,0,1\n,1,2\n", {}, "row 3 of .*column 'run', is empty"),
        ("run,t,a\n1,0,1\n1,1\n", {}, "row 3 of .* has 2 cells, but its header has 3"),
        ("run;t;a\n1;0;1\n", {}, r"run='run' is no column .*\['run;t;a'\]"),
        ("run,t,a\n1,0,1\n1,1,nan\n", {}, "row 3 of .*column 'a', is nan.*the row"),
        ("run,t,a\n1,0,1\n1,inf,2\n", {}, "row 3 of .*column 't', is inf"),
        ("run,t,a\n1,0,1\n2,0,1\n1,0,2\n", {}, "row 4 of .*'t', is 0.0 and repeats 0.0.*keep one"),
        ("run,t,a\n1,3,1\n2,0,1\n1,2,2\n", {}, "row 4 of .*'t', is 2.0 and comes after 3.0.*sort"),
        ("run,t,a\n1,0,1\n1,1,1\n2,0,1\n", {}, "run '2' of .* has one sample"),
    ],
)
def test_wrong_file_is_refused_by_row_and_column(read, text, options, message):
    with pytest.raises(ValueError, match=message):
        read(text, **options)
