"""Many solves in chunks give what one batch gives, also after a run was ended."""

import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

LANES = {"x": np.linspace(1.0, 9.0, 11), "k": np.arange(22.0).reshape(11, 2)}


IDS = ["unsorted", "numbers", "function"]


def solve(lane):
    count, x = jax.lax.while_loop(
        lambda c: c[1] > 0.1, lambda c: (c[0] + 1, 0.7 * c[1]), (0, lane["x"])
    )
    return {"end": x * lane["k"], "steps": count}


@pytest.mark.parametrize(("wrap", "expected"), [(jax.jit, 1), (lambda f: f, 2)])
def test_a_jitted_solve_is_compiled_once_for_all_calls(wrap, expected, caplog):
    square = wrap(lambda x: x * x)
    with jax.log_compiles():
        for _ in range(2):
            found = srx.solve_in_chunks(square, np.arange(4.0), chunk=2)
    np.testing.assert_array_equal(found, [0.0, 1.0, 4.0, 9.0])
    compiled = [r for r in caplog.records if "Finished XLA compilation" in r.getMessage()]
    assert len(compiled) == expected


@functools.cache
def one_batch():
    return jax.vmap(solve)(LANES)


def assert_is_one_batch(found):
    expected = one_batch()
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cost", [None, -LANES["x"], lambda lane: lane["x"] % 3], ids=IDS)
@pytest.mark.parametrize("chunk", [3, 11, 64])
def test_chunks_are_one_batch_in_its_order(chunk, cost):
    assert_is_one_batch(srx.solve_in_chunks(solve, LANES, chunk=chunk, cost=cost))


def test_a_run_goes_on_behind_the_chunks_that_are_done(tmp_path):
    srx.solve_in_chunks(solve, LANES, chunk=4, checkpoint=tmp_path)
    (tmp_path / "2.npz").unlink()

    def other(lane):
        return jax.tree.map(lambda x: x + 100, solve(lane))

    found = srx.solve_in_chunks(other, LANES, chunk=4, checkpoint=tmp_path)["steps"]
    expected = one_batch()["steps"]
    np.testing.assert_array_equal(found, expected + np.where(np.arange(11) < 8, 0, 100))


def test_lanes_are_computed_with_those_of_like_cost():
    together = []

    def told(lane):
        jax.debug.callback(lambda x: together.append(float(x)), lane["x"])
        return lane["x"]

    cost = np.where(np.arange(11) % 2, 1.0, 2.0)
    srx.solve_in_chunks(told, LANES, chunk=5, cost=cost)
    jax.effects_barrier()
    assert sorted(together[:5]) == LANES["x"][1::2].tolist()


def test_no_more_lanes_are_solved_than_there_are():
    solved = []

    def told(lane):
        jax.debug.callback(lambda x: solved.append(float(x)), lane)
        return lane

    srx.solve_in_chunks(told, np.arange(3.0), chunk=100)
    jax.effects_barrier()
    assert sorted(solved) == [0.0, 1.0, 2.0]


class TestRaises:
    def test_arrays_of_different_numbers_of_lanes_are_refused(self):
        with pytest.raises(ValueError, match="every array needs the same number of lanes"):
            srx.solve_in_chunks(solve, {"x": np.ones(3), "k": np.ones((2, 2))}, chunk=2)

    def test_a_cost_of_another_shape_is_refused(self):
        with pytest.raises(ValueError, match=r"`cost` of shape \(3,\) was given for 11 lanes"):
            srx.solve_in_chunks(solve, LANES, chunk=2, cost=np.ones(3))

    def test_a_folder_of_another_run_is_refused(self, tmp_path):
        srx.solve_in_chunks(solve, LANES, chunk=4, checkpoint=tmp_path)
        with pytest.raises(ValueError, match="holds chunks of other lanes"):
            srx.solve_in_chunks(solve, LANES, chunk=5, checkpoint=tmp_path)

    def test_a_folder_of_other_results_is_refused(self, tmp_path):
        srx.solve_in_chunks(solve, LANES, chunk=4, checkpoint=tmp_path)
        with pytest.raises(ValueError, match="or of other results"):
            srx.solve_in_chunks(
                lambda lane: solve(lane)["end"], LANES, chunk=4, checkpoint=tmp_path
            )


SCRIPT = pathlib.Path(__file__).with_name("chunks_of_rober.py")


def start(path, devices=1):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(path)], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_killed_run_and_eight_devices_end_as_one_run_does(tmp_path):
    killed = start(tmp_path / "killed")
    while not (tmp_path / "killed" / "1.npz").exists() and killed.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    ends = [start(tmp_path / name, n) for name, n in (("killed", 1), ("whole", 1), ("eight", 8))]
    again, whole, eight = (np.array(x.communicate()[0].split(), float) for x in ends)
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_allclose(eight, whole, rtol=1e-9)
    assert len(whole) == 3 * 40


def test_results_are_numpy_arrays():
    found = srx.solve_in_chunks(lambda x: jnp.stack([x, x**2]), np.ones(5), chunk=2)
    assert isinstance(found, np.ndarray)
    assert found.shape == (5, 2)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_lanes_may_hold_typed_keys_of_random_numbers(impl):
    keys = jax.random.split(jax.random.key(0, impl=impl), 5)
    lanes = {"key": keys, "x": np.arange(5.0)}
    draw = lambda lane: lane["x"] + jax.random.uniform(lane["key"])
    found = srx.solve_in_chunks(draw, lanes, chunk=5, cost=lambda lane: -lane["x"])
    # In reverse order, and by `rbg` a batch draws by its first key: the same batch is compared.
    turned = jax.tree.map(lambda x: x[::-1], lanes)
    np.testing.assert_array_equal(found[::-1], jax.vmap(draw)(turned))
