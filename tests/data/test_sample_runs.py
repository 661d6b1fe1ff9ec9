"""Runs from arrays and CSV files: the layouts they take, and the faults they name."""

import numpy as np
import pytest

import stiffrax as srx

from_arrays = srx.Trajectories.from_arrays
TS = np.array([0.0, 1.0, 2.0, 4.0])
YS = np.arange(24.0).reshape(3, 4, 2)


def with_entry(array, index, value):
    changed = np.array(array, dtype=float)
    changed[index] = value
    return changed


def test_one_run_needs_no_run_axis():
    assert from_arrays(TS, YS[0]).ys.shape == (1, 4, 2)


def test_shared_times_belong_to_every_run():
    np.testing.assert_array_equal(from_arrays(TS, YS).ts, np.tile(TS, (3, 1)))


def test_runs_may_have_their_own_times():
    ts = TS + np.arange(3)[:, None]
    np.testing.assert_array_equal(from_arrays(ts, YS).ts, ts)


def test_times_of_the_only_run_may_have_an_axis_of_runs():
    np.testing.assert_array_equal(from_arrays(TS[None], YS[0]).ts, TS[None])


def test_lists_of_numbers_are_arrays():
    assert from_arrays([0, 1], [[1.0], [2.0]]).ys.shape == (1, 2, 1)


def test_runs_of_different_lengths_come_as_lists():
    data = from_arrays([TS, TS[:2]], [YS[0], YS[1, :2]])
    assert data.num_segments == 4


def test_missing_sample_joins_its_neighbors():
    mask = np.array([True, False, True, True])
    ts, ys = from_arrays(TS, YS[0], mask=mask)[0]
    np.testing.assert_array_equal(ts, TS[mask])
    np.testing.assert_array_equal(ys, YS[0][mask])


def test_what_stands_at_a_missing_sample_is_not_read():
    mask = np.ones((3, 4), bool)
    mask[1, 2] = False
    data = from_arrays(TS, with_entry(YS, (1, 2, 0), np.nan), mask=mask)
    np.testing.assert_array_equal(data[1][0], [0.0, 1.0, 4.0])
    assert np.isfinite(data.ys).all()


def test_time_of_a_missing_sample_is_not_read():
    ts = with_entry(TS, 0, np.nan)
    assert from_arrays(ts, YS[0], mask=[False, True, True, True]).ts[0, 0] == 1.0


def test_input_is_not_aliased():
    ys = YS.copy()
    data = from_arrays(TS, ys)
    ys[:] = 0
    assert data.ys.max() == 23


def test_half_precision_is_a_floating_type():
    import jax.numpy as jnp

    assert from_arrays(TS, jnp.ones((4, 1), jnp.bfloat16)).ys.dtype == np.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        # values
        (
            lambda: from_arrays(TS, with_entry(YS, (2, 1, 0), np.nan)),
            r"ys\[2\]\[1, 0\]` is nan.*mask",
        ),
        (
            lambda: from_arrays(TS, with_entry(YS[0], (3, 1), np.inf)),
            r"`ys\[3, 1\]` is inf.*mask",
        ),
        (lambda: from_arrays(with_entry(TS, 2, np.nan), YS), r"`ts\[2\]` is nan.*finite"),
        (
            lambda: from_arrays(with_entry(TS, 2, 1.0), YS),
            r"`ts\[2\]` is 1\.0 and repeats 1\.0.*keep",
        ),
        (lambda: from_arrays(TS[::-1], YS[0]), r"`ts\[1\]` is 2\.0 and comes after 4\.0.*sort"),
        (
            lambda: from_arrays(with_entry([TS, TS, TS], (1, 3), 1.5), YS),
            r"`ts\[1\]\[3\]` is 1\.5 and comes after 2\.0",
        ),
        (
            lambda: from_arrays(with_entry(TS, 3, 0.5), YS[0], mask=[True, False, True, True]),
            r"`ts\[3\]` is 0\.5 and comes after 2\.0",
        ),
        # kinds of numbers
        (
            lambda: from_arrays(TS, YS.astype(int)),
            r"`ys` has dtype int64.*np.asarray\(ys, ",
        ),
        (lambda: from_arrays(TS, [[1], [2], [3], [4]]), "`ys` has dtype int64"),
        (lambda: from_arrays(TS, YS + 0j), "`ys` .* dtype complex128; .* as two"),
        (lambda: from_arrays(TS + 0j, YS), "`ts` .* dtype complex128; it needs real numbers"),
        (lambda: from_arrays(TS, YS.astype(str)), "`ys` .* dtype <U.*needs real numbers"),
        (lambda: from_arrays(TS, YS > 1), "`ys` has dtype bool"),
        (
            lambda: from_arrays(TS, YS, mask=np.ones((3, 4))),
            "`mask` has dtype float64.*True: p",
        ),
        # shapes
        (lambda: from_arrays(TS, YS[0, :, 0]), r"`ys` has shape \(4,\).*n = 1 for a single column"),
        (lambda: from_arrays(TS, YS[None]), r"`ys` has shape \(1, 3, 4, 2\)"),
        (lambda: from_arrays(TS, []), r"`ys` has shape \(0,\)"),
        (lambda: from_arrays(TS, YS[:0]), r"`ys` has shape \(0, 4, 2\).*none of them empty"),
        (lambda: from_arrays(TS, YS[..., :0]), r"`ys` has shape \(3, 4, 0\)"),
        (lambda: from_arrays(1.0, YS), r"`ts` has shape \(\)"),
        (lambda: from_arrays(TS[:, None], YS[0]), r"`ts` has \[1, 1, 1, 1\] .* `ys` \[4\] rows"),
        (lambda: from_arrays(TS[:3], YS[:2]), r"`ts` has \[3, 3\] entries, .* `ys` \[4, 4\] rows"),
        (lambda: from_arrays([TS, TS], YS), r"`ts` has \[4, 4\] entries, .* `ys` \[4, 4, 4\] rows"),
        (
            lambda: from_arrays(TS, YS, mask=np.ones((3, 3), bool)),
            r"`mask` has \[3, 3, 3\] entries",
        ),
        (
            lambda: from_arrays(TS, YS, mask=np.ones((3, 4, 2), bool)),
            r"`mask` has shape \(3, 4, 2\).*\(times,\) for all runs alike, \(runs, times\)",
        ),
        (
            lambda: from_arrays([TS, TS], [YS[0], YS[0, :, :1]]),
            r"`ys` has shape \[\(4, 2\), \(4, 1\)\]",
        ),
        (
            lambda: from_arrays([TS, TS], [YS[0], YS[0, :3, 0]]),
            r"`ys` has shape \[\(4, 2\), \(3,\)\]",
        ),
        # runs
        (lambda: from_arrays(TS[:0], YS[0, :0]), r"`ys` has shape \(0, 2\)"),
        (lambda: from_arrays(TS[:1], YS[:, :1]), "run 0 of `ys` has one sample.*two or more"),
        (
            lambda: from_arrays(TS, YS, mask=np.arange(3)[:, None] + np.zeros((1, 4)) != 1),
            r"run 1 of `ys` \(its `mask` is False throughout\) is empty",
        ),
        # names
        (lambda: from_arrays(TS, YS, names=["a"]), "`names` has 1 names, but there are 2 states"),
        (lambda: from_arrays(TS, YS, names=["a", "a"]), "`names` holds 'a' twice"),
        (lambda: from_arrays(TS, YS, names="ab"), r"`names` is the string 'ab'"),
        (lambda: from_arrays(TS, YS, names=["a", "[B]"]), r"`names` holds '\[B\]'.*such as 'B'"),
        (lambda: from_arrays(TS, YS, names=["a", "2b"]), "holds '2b'.*such as 'y_2b'"),
        (lambda: from_arrays(TS, YS, names=["a", "lambda"]), "holds 'lambda'.*such as 'y_lambda'"),
        (lambda: from_arrays(TS, YS, names=["a", ""]), "holds ''.*such as 'y2'"),
    ],
)
def test_wrong_array_is_refused_by_name_and_place(make, message):
    with pytest.raises(ValueError, match=message):
        make()


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


def test_separator_decimal_comma_and_comments_are_found(read):
    data = read("# by hand\nrun;t;a\n1;0;1,5\n1;1,5;2\n")
    np.testing.assert_array_equal(data.ts, [[0, 1.5]])
    np.testing.assert_array_equal(data.ys[0, :, 0], [1.5, 2])


def test_separator_and_decimal_sign_are_taken(read):
    data = read("run;t;a\n1;0;1,500\n1;1;2,500\n", separator=";", decimal=",")
    np.testing.assert_array_equal(data.ys[0, :, 0], [1.5, 2.5])


def test_columns_not_asked_for_may_have_the_same_name_but_for_a_unit_or_none(read):
    text = ",run,t [s],T [K],T [C],a\n0,1,0,1,2,3\n1,1,1,1,2,4\n"
    np.testing.assert_array_equal(read(text, time="t [s]", states=["a"]).ys[0, :, 0], [3, 4])


def test_a_cell_in_quotes_may_go_over_several_lines(read):
    text = 'run,t,a,note\n1,0,1,"cold,\n\n# and ""wet"""\n1,1,2,5" pipe\n1,2,x,""\n'
    with pytest.raises(ValueError, match="row 6 of .*column 'a', holds 'x'"):
        read(text, states=["a"])
    data = read(text.replace("x", "3"), states=["a"])
    np.testing.assert_array_equal(data.ys[0, :, 0], [1, 2, 3])


def test_a_quote_that_nothing_closes_ends_with_its_line(read):
    data = read('run,t,a,note\n1,0,1,"cold\n1,1,2,\n', states=["a"])
    np.testing.assert_array_equal(data.ys[0, :, 0], [1, 2])


def test_quoted_names_of_columns_are_read(read):
    data = read('\ufeff"run","t","a"\r\n"x, y",0,1.5\r\n"x, y",1,2\r\n')
    assert data.names == ("a",)
    assert data.run_names == ("x, y",)


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


def test_any_name_of_a_run_survives_a_round_trip(tmp_path):
    names = [
        "A [mM]",
        "x (1)",
        "#2",
        "#",
        "none",
        "nan",
        "7",
        "1,5",
        'a "b"',
        "c;d\te",
        "f\n\n#g",
        "h\u2028i\rj",
    ]
    data = srx.Trajectories.from_arrays(TS, np.ones((len(names), 4, 2)), run_names=names)
    data.to_csv(tmp_path / "data.csv")
    assert srx.Trajectories.from_csv(tmp_path / "data.csv").run_names == tuple(names)


@pytest.mark.parametrize("name", ["t", "run"])
def test_a_state_with_the_name_of_another_column_is_not_written(name, tmp_path):
    data = srx.Trajectories.from_arrays(TS, np.ones((4, 1)), names=[name])
    with pytest.raises(ValueError, match=f"which begins with `run` and `t`, holds '{name}' twice"):
        data.to_csv(tmp_path / "data.csv")
    assert not (tmp_path / "data.csv").exists()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "data.csv is empty: its first row"),
        ("\n\n", {}, "is empty"),
        ("run,t,a\n", {}, "header but no samples"),
        ("run,t\n1,0\n", {}, r"\['run', 't'\], so no state"),
        ("id,t,a\n1,0,1\n", {}, r"run='run' is no column .*\['id', 't', 'a'\].*`run=None`"),
        ("run,time,a\n1,0,1\n", {}, "time='t' is no column .*`time=`"),
        (GOOD, {"states": ["a", "c"]}, "`states` names 'c', which is no column"),
        (GOOD, {"states": "a"}, r"`states` is the string 'a'.*\['a'\]"),
        (GOOD, {"states": ["a", "a"]}, "`states` holds 'a' twice"),
        (GOOD, {"states": []}, "`states` is empty"),
        ("run,t,a,a\n1,0,1,2\n", {}, "names two columns 'a'"),
        ("run,t,2-x\n1,0,1\n", {}, "the header of .*data.csv holds '2-x'.*identifier"),
        ("run,t,a\n1,0,1\n1,one,2\n", {}, "row 3 of .*column 't', holds 'one'"),
        ("run,t,a\n\n1,0,1\n1,1,x\n", {}, "row 4 of .*data.csv, column 'a', holds 'x'.*no number"),
        ("run,t,a\n1,0,1\n1,1,\n", {}, "row 3 of .*column 'a', is nan.*delete"),
        ("run,t,a\n1,0,1\n,1,2\n", {}, "row 3 of .*column 'run', is empty"),
        ("run,t,a\n1,0,1\n1,1\n", {}, "row 3 of .* has 2 cells, but its header has 3"),
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
