"""Training on many devices gives what one device gives."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import stiffrax as srx

SCRIPT = pathlib.Path(__file__).with_name("shard.py")


def start(devices, *arguments):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def assert_same_as_on_one_device(process, cases, devices):
    with process:
        try:
            output, _ = process.communicate(timeout=280)
        finally:
            process.kill()
    assert process.returncode == 0
    lines = [line for line in output.splitlines() if line.split()[0] in cases]
    assert len(lines) == len(cases)
    for line in lines:
        _, count, distance, judged, moved = line.split()
        assert int(count) == devices
        assert float(moved) > 1e-2
        assert float(distance) < 1e-10
        assert float(judged) < 1e-10


@pytest.mark.slow
def test_eight_devices_train_like_one():
    cases = ["segments", "trajectories", "minibatches"]
    assert_same_as_on_one_device(start(8, ",".join(cases)), cases, 8)


@pytest.mark.slow
def test_two_processes_train_like_one():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [start(1, "segments", port, k) for k in (0, 1)]
    try:
        for process in processes:
            assert_same_as_on_one_device(process, ["segments"], 2)
    finally:
        for process in processes:
            process.kill()


@pytest.mark.usefixtures("unchecked_types")
def test_devices_that_are_no_mesh_are_named():
    data = srx.Trajectories.from_arrays([0.0, 1.0], np.ones((2, 1)))
    with pytest.raises(ValueError, match="`mesh` is a list; it needs a mesh. Write `mesh=jax"):
        srx.fit(srx.Polynomial(1, degree=1), data, srx.SegmentLoss(), mesh=jax.devices())
