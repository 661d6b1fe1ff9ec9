"""Trajectories: what is stored, selected and shown; windows cut out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.data import cut_windows, pick_runs


def two_runs(**kwargs):
    """Three and two samples of two states."""
    ts = [np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.75])]
    ys = [np.arange(6.0).reshape(3, 2), -np.arange(4.0).reshape(2, 2)]
    return srx.Trajectories.from_arrays(ts, ys, **kwargs)


def five_runs():
    ts = np.linspace(0.0, 1.0, 4)
    return srx.Trajectories.from_arrays(ts, np.arange(20.0).reshape(5, 4, 1), run_names="abcde")


def test_padding_repeats_the_last_sample_and_holds_no_nan():
    data = two_runs()
    np.testing.assert_array_equal(data.mask, [[True, True, True], [True, True, False]])
    np.testing.assert_array_equal(data.ts[1], [0.5, 0.75, 0.75])
    np.testing.assert_array_equal(data.ys[1], [[0, -1], [-2, -3], [-2, -3]])


def test_a_run_is_returned_without_its_padding():
    ts, ys = two_runs()[-1]
    np.testing.assert_array_equal(ts, [0.5, 0.75])
    assert ys.shape == (2, 2)


def test_iteration_visits_every_run_once():
    assert [len(ts) for ts, _ in two_runs()] == [3, 2]


def test_counts_leave_the_padding_out():
    data = two_runs()
    assert (len(data), data.num_runs, data.num_states, data.num_segments) == (2, 2, 2, 3)


def test_arrays_stay_on_the_host_in_double_precision():
    data = srx.Trajectories.from_arrays(jnp.arange(3), jnp.ones((3, 1), jnp.float32))
    assert isinstance(data.ts, np.ndarray)
    assert data.ts.dtype == data.ys.dtype == np.float64


def test_arrays_take_the_precision_in_force_when_used():
    with jax.enable_x64(False):
        assert eqx.filter_jit(lambda data: data.ys)(two_runs()).dtype == jnp.float32
    assert eqx.filter_jit(lambda data: data.ys)(two_runs()).dtype == jnp.float64


def test_default_names_count_from_one():
    assert two_runs().names == ("y1", "y2")


def test_select_by_index_slice_and_name_agree():
    data = five_runs()
    for runs in ([1, 2], slice(1, 3), ["b", "c"], np.array([1, 2]), [-4, 2]):
        chosen = data.select(runs)
        assert chosen.run_names == ("b", "c")
        np.testing.assert_array_equal(chosen.ys, data.ys[1:3])


@pytest.mark.parametrize("run", [3, "d", -2])
def test_select_takes_one_run(run):
    assert five_runs().select(run).run_names == ("d",)


def test_select_keeps_the_given_order_and_the_numbers_of_runs():
    chosen = five_runs().select([4, 0])
    assert (chosen.run_names, chosen.numbers) == (("e", "a"), (4, 0))
    assert five_runs().split(0.4)[1].select("e").numbers == (4,)


def test_measurements_of_selected_runs_have_their_numbers_and_back():
    data = srx.Measurements.from_trajectories(five_runs().select([4, 1]))
    assert data.numbers == data.to_trajectories().numbers == (4, 1)


def test_select_drops_padding_that_no_run_needs():
    assert two_runs().select(1).ts.shape == (1, 2)


def test_split_by_fraction_holds_out_the_last_runs():
    train, held_out = five_runs().split(0.4)
    assert train.run_names == ("a", "b", "c")
    assert held_out.run_names == ("d", "e")


def test_split_by_a_small_fraction_holds_out_one_run():
    assert five_runs().split(0.01)[1].run_names == ("e",)


def test_split_by_runs_holds_out_exactly_those():
    train, held_out = five_runs().split(["b", "e"])
    assert train.run_names == ("a", "c", "d")
    assert held_out.run_names == ("b", "e")


def test_repr_is_one_short_line():
    assert repr(two_runs(names=["a", "b"])) == (
        "Trajectories(2 runs, 5 samples, t from 0 to 3, states: a, b)"
    )


def test_repr_of_many_states_stays_short():
    data = srx.Trajectories.from_arrays(np.arange(2.0), np.ones((2, 30)))
    assert repr(data).endswith("y8, y9, ...)")


def test_repr_works_while_traced():
    shown = []
    eqx.filter_jit(lambda data: shown.append(repr(data)))(two_runs())
    assert shown == ["Trajectories(2 runs, states: y1, y2)"]


def wrong(ts_shape=(1, 3), mask=None, names=("y1", "y2"), run_names=("0",)):
    mask = np.ones((1, 3), bool) if mask is None else np.array(mask)
    return srx.Trajectories(np.ones(ts_shape), np.ones((1, 3, 2)), mask, names, run_names)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wrong(mask=[[True, False, True]]), "missing sample before a present one.*from_ar"),
        (lambda: wrong(names=("y1",)), "`names` has 1 names, but there are 2 states"),
        (lambda: wrong(run_names=("a", "b")), "`run_names` has 2 names, but there are 1 runs"),
        (lambda: two_runs(run_names=["a", "a"]), "`run_names` repeats a name.*distinct"),
        (lambda: two_runs(run_names=["a", "a "]), "`run_names` has 'a '; .* Write 'a'"),
        (lambda: two_runs(run_names=["a", ""]), "`run_names` has ''; it needs text, .* Write 'a'"),
        (lambda: five_runs().select(5), "no run 5: indices of 5 runs go from 0 to 4"),
        (lambda: five_runs().select(["z"]), r"no run named 'z': the runs are \['a'"),
        (lambda: five_runs().select([1.5]), "run is given as 1.5: pass its index"),
        (lambda: five_runs().select([True]), "run is given as True"),
        (lambda: five_runs().select(1.0), "run is given as 1.0"),
        (lambda: five_runs().select([]), "selects none of the 5 runs"),
        (lambda: five_runs().select([0, -5]), r"a run twice: \[0, 0\]"),
        (lambda: five_runs().split(1.2), "`held_out` is 1.2.* between 0 and 1"),
        (lambda: five_runs().split(float("nan")), "`held_out` is nan"),
        (lambda: five_runs().split(0.95), "takes 5 of 5 runs.*hold out fewer"),
        (lambda: five_runs().split("abcde"), "no run named 'abcde'"),
    ],
)
def test_wrong_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_masked_samples_are_refused_and_not_read():
    with pytest.raises(ValueError, match=r"`ys\[1, 0\]` is nan, .*, or declare it missing with"):
        srx.Trajectories.from_arrays([0.0, 1.0], np.ma.masked_values([[1.0], [-9.0]], -9.0))


def test_arrays_that_do_not_fit_together_are_refused():
    jaxtyping.config.update("jaxtyping_disable", True)  # its own check would come first
    try:
        with pytest.raises(ValueError, match=r"have shapes \(1, 2\), .*from_arrays"):
            wrong(ts_shape=(1, 2))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_a_run_beyond_the_last_is_an_index_error():
    with pytest.raises(IndexError, match="run 2 of 2 runs"):
        two_runs()[2]


TS = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0])
DATA = srx.Trajectories.from_arrays(
    [TS, TS[:3]], [np.arange(12.0).reshape(6, 2), 100 + np.arange(6.0).reshape(3, 2)]
)


def test_windows_share_the_samples_where_they_meet():
    windows = cut_windows(DATA, 2)
    np.testing.assert_array_equal(windows[0][0], TS[:3])
    np.testing.assert_array_equal(windows[1][0], TS[2:5])


def test_last_window_is_shorter():
    ts, ys = cut_windows(DATA, 2)[2]
    np.testing.assert_array_equal(ts, TS[4:])
    np.testing.assert_array_equal(ys, DATA.ys[0, 4:])


def test_every_segment_is_in_one_window():
    for length in range(1, 8):
        assert cut_windows(DATA, length).num_segments == DATA.num_segments


def test_window_without_samples_repeats_the_first_one_masked():
    windows = cut_windows(DATA, 2)
    assert not windows.mask[4].any()
    np.testing.assert_array_equal(windows.ts[4], windows.ts[3])
    np.testing.assert_array_equal(windows.ys[4], windows.ys[3])


def test_window_longer_than_the_run_is_the_run():
    windows = cut_windows(DATA, 50)
    for found, whole in zip((windows.ts, windows.ys, windows.mask), DATA.arrays, strict=True):
        np.testing.assert_array_equal(found, whole)


def test_cutting_twice_changes_nothing():
    once = cut_windows(DATA, 2)
    twice = cut_windows(once, 2)
    np.testing.assert_array_equal(twice.ys, once.ys)
    np.testing.assert_array_equal(twice.mask, once.mask)


def test_windows_are_the_same_under_jit():
    compiled = eqx.filter_jit(cut_windows)(DATA, 2)
    for traced, host in zip(*map(jax.tree.leaves, (compiled, cut_windows(DATA, 2))), strict=True):
        np.testing.assert_array_equal(traced, host)


def test_windows_of_host_data_keep_double_precision_where_jax_has_single():
    ts = 1e6 + 1e-3 * np.arange(3)
    with jax.enable_x64(False):
        windows = cut_windows(srx.Trajectories.from_arrays(ts, np.ones((3, 1))), 1)
    np.testing.assert_allclose(np.diff(windows.ts), 1e-3, rtol=1e-6)


def test_gradient_flows_to_the_samples_that_are_present():
    def loss(ys):
        windows = cut_windows(eqx.tree_at(lambda data: data.ys, DATA, ys), 1)
        steps = windows.ys[:, 1] - windows.ys[:, 0]
        return jnp.sum(jnp.where(windows.mask[:, 1:], steps, 0.0))

    gradient = jax.grad(loss)(jnp.asarray(DATA.ys))
    np.testing.assert_array_equal(gradient[1, :, 0], [-1, 0, 1, 0, 0, 0])


def test_runs_are_picked_under_jit():
    @jax.jit
    def pick(index):
        return pick_runs(DATA_ON_DEVICE, index).ys

    DATA_ON_DEVICE = jax.tree.map(jnp.asarray, DATA)
    np.testing.assert_array_equal(pick(jnp.array([1, 1])), DATA.ys[[1, 1]])
