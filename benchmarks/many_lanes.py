"""A million solves in chunks: time, memory, a run that is killed and goes on, and many devices.

Robertson's reaction to t = 40 with `RadauIIA5` at 1e-4; the rate constant of the second reaction is
drawn from 1e6 to 1e8, evenly in its logarithm, so that lanes take different numbers of steps.

- `whole`: all lanes in chunks of 10,000, in the order in which they were drawn and sorted by the
  rate. The largest memory is that of the process.
  One chunk is solved before, which compiles, and is timed by itself.
- `resumed`: a process is killed with a tenth of its chunks done, a second one goes on, and what it
  returns is compared bit for bit with a run that was not killed. Its time is that of all its chunks
  but those done before, compiling included.
- `devices`: eight devices made of one processor against one device; on a machine with the cores the
  ratio of the times is the speed-up.

Usage: `python benchmarks/many_lanes.py [--lanes 1000000] [whole resumed devices]`.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHUNK = 10_000


def end(rate):
    import diffrax
    import jax.numpy as jnp

    import stiffrax as srx

    def field(t, y, args):
        slow, fast, back = 0.04 * y[0], rate * y[1] ** 2, 1e4 * y[1] * y[2]
        return jnp.stack([back - slow, slow - back - fast, fast])

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        40.0,
        None,
        jnp.array([1.0, 0.0, 0.0]),
        stepsize_controller=srx.PredictiveController(rtol=1e-4, atol=1e-8),
        adjoint=srx.DiscreteAdjoint(),
        throw=False,
    )
    return solution.ys[-1], solution.stats["num_steps"]


def rates(lanes):
    import numpy as np

    return 10 ** np.random.default_rng(0).uniform(6, 8, lanes)


def report(name, lanes, start, steps):
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.perf_counter() - start
    print(
        f"{name:24} {lanes:8d} lanes {seconds:7.1f} s {seconds / lanes * 1e6:7.1f} us a lane "
        f"{memory:5.2f} GiB, {steps.min()} to {steps.max()} steps",
        flush=True,
    )


def compiled(rate, mesh=None):
    """`end` as a program that later calls share, by one chunk of lanes."""
    import jax

    import stiffrax as srx

    solve, start = jax.jit(end), time.perf_counter()
    _, steps = srx.solve_in_chunks(solve, rate[:CHUNK], chunk=CHUNK, mesh=mesh)
    report("one chunk, compiling", len(steps), start, steps)
    return solve


def whole(lanes):
    import stiffrax as srx

    rate = rates(lanes)
    solve = compiled(rate)
    for name, cost in (("as drawn", None), ("sorted by the rate", rate)):
        start = time.perf_counter()
        _, steps = srx.solve_in_chunks(solve, rate, chunk=CHUNK, cost=cost)
        report(name, lanes, start, steps)


def part(lanes, folder):
    import stiffrax as srx

    srx.solve_in_chunks(end, rates(lanes), chunk=CHUNK, checkpoint=folder)


def resumed(lanes):
    import numpy as np

    import stiffrax as srx

    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([sys.executable, __file__, "part", folder, f"--lanes={lanes}"])
        while process.poll() is None and len(list(Path(folder).glob("*.npz"))) < lanes / CHUNK / 10:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = len(list(Path(folder).glob("*.npz")))
        start = time.perf_counter()
        y, steps = srx.solve_in_chunks(end, rates(lanes), chunk=CHUNK, checkpoint=folder)
        report(f"killed after {done} chunks", lanes, start, steps)
    expected, _ = srx.solve_in_chunks(end, rates(lanes), chunk=CHUNK)
    print(f"bits that differ from a run without a stop: {int(np.sum(y != expected))}", flush=True)


def devices(lanes):
    import jax
    import numpy as np

    import stiffrax as srx

    rate = rates(lanes)
    mesh = jax.sharding.Mesh(jax.devices(), ("lanes",))
    ends = []
    for name, mesh_or_none in (("one device", None), (f"{mesh.size} devices", mesh)):
        solve = compiled(rate, mesh_or_none)
        start = time.perf_counter()
        y, steps = srx.solve_in_chunks(solve, rate, chunk=CHUNK, mesh=mesh_or_none)
        report(name, lanes, start, steps)
        ends.append(y)
    print(f"largest difference: {np.max(np.abs(ends[1] - ends[0])):.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="A million solves in chunks.")
    parser.add_argument("rows", nargs="*", default=["whole", "resumed", "devices"])
    parser.add_argument("--lanes", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if arguments.rows[0] == "part":
        return part(arguments.lanes, arguments.rows[1])
    if len(arguments.rows) > 1 or (
        arguments.rows == ["devices"] and not os.environ.get("XLA_FLAGS")
    ):
        # Each in a process of its own: memory is counted by process, and devices are made at its start.
        for row in arguments.rows:
            flags = "--xla_force_host_platform_device_count=8" if row == "devices" else ""
            environment = os.environ | {"XLA_FLAGS": flags}
            command = [sys.executable, __file__, row, f"--lanes={arguments.lanes}"]
            subprocess.run(command, check=True, env=environment)
        return None
    return {"whole": whole, "resumed": resumed, "devices": devices}[arguments.rows[0]](
        arguments.lanes
    )


if __name__ == "__main__":
    import jax

    jax.config.update("jax_enable_x64", True)
    main()
