import os
import pathlib
import subprocess
import sys

import jax
import pytest

SCRIPT = pathlib.Path(__file__).with_name("many_devices.py")


@pytest.mark.slow
@pytest.mark.parametrize("adjoint", ["DiscreteAdjoint", "ForwardSensitivity", "GaussAdjoint"])
def test_gradients_on_many_devices_are_those_of_one_and_checked_axes_are_refused(adjoint):
    flags = "--xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(SCRIPT), adjoint]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{adjoint} same on 2 devices" in done.stdout
    if hasattr(jax, "shard_map"):
        assert "Write `jax.shard_map(..., check_vma=False)`" in done.stdout
