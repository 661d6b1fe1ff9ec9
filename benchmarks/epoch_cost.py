"""What an epoch of the paper's recipe for Robertson's reaction costs, along its training.

The recipe of `examples/06_paper_kim_rober.py` is trained as it is. At evenly spaced epochs, value
and gradient of its loss are timed for the model reached so far: with RadauIIA5 and with Rosenbrock
methods and the gradient of their steps, and with Kvaerno5 of diffrax and its default adjoint, in
turn, medians of nine. Times are those of the processor, all threads together: hold the script to one
core (`taskset -c 0`), and other programs count less. The means over the training are by the
trapezoidal rule; `off by` is the distance of the loss from that of a solve to 1e-9, largest over the
training. Run with

    python benchmarks/epoch_cost.py [--seed 6] [--epochs 50000] [--every 5000]
"""

import argparse
import importlib
import pathlib
import statistics
import sys
import tempfile
import time

import diffrax
import equinox as eqx
import jax
import numpy as np
import optimistix as optx

import stiffrax as srx

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))
PAPER = importlib.import_module("06_paper_kim_rober")


def losses(recipe):
    """The recipe's loss with each solver at the same tolerances, and an accurate one."""
    newton = diffrax.with_stepsize_controller_tols(optx.Newton)()
    options = {"rtol": recipe.rtol, "atol": recipe.atol, "max_steps": 4096}
    return {
        "RadauIIA5": recipe,
        "Rodas5P": srx.TrajectoryLoss(srx.Rodas5P(), recipe.measure, **options),
        "Rodas4P": srx.TrajectoryLoss(srx.Rodas4P(), recipe.measure, **options),
        "Kvaerno5, corrected": srx.TrajectoryLoss(
            diffrax.Kvaerno5(root_finder=newton), recipe.measure, **options
        ),
        "Kvaerno5, released": srx.TrajectoryLoss(diffrax.Kvaerno5(), recipe.measure, **options),
    }, srx.TrajectoryLoss(srx.RadauIIA9(), recipe.measure, rtol=1e-9, atol=1e-12, max_steps=4096)


def value(program, model):
    """The loss; not a number where the peer's linear solver raises, whatever `throw` says."""
    try:
        return float(program(model)[0])
    except eqx.EquinoxRuntimeError:
        return np.nan


def milliseconds(programs, model, repeats=9):
    """The median time of each program, in turn."""
    times = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            start = time.process_time()
            value(program, model)
            times[name].append(1e3 * (time.process_time() - start))
    return np.array([statistics.median(values) for values in times.values()])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=50_000)
    parser.add_argument("--every", type=int, default=5000)
    options = parser.parse_args()
    data = PAPER.rober()
    scaling, recipe, optimizer = PAPER.recipe(data)
    net = PAPER.network(jax.random.key(options.seed))
    model = start = srx.ScaledField(net, scaling.y_scale, scaling.t_scale)
    timed, accurate = losses(recipe)
    programs = {
        name: eqx.filter_jit(eqx.filter_value_and_grad(lambda model, loss=loss: loss(model, data)))
        for name, loss in timed.items()
    }
    rows, off = [], []
    print(f"{'epoch':>6}{'loss':>9}   ms of value and gradient: {', '.join(timed)}")
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(0, options.epochs + 1, options.every):
            if epoch:  # goes on from the checkpoint
                path = pathlib.Path(folder) / "training"
                model = srx.fit(
                    start, data, recipe, optimizer=optimizer, steps=epoch, checkpoint=path
                ).last_model
            values = np.array([value(program, model) for program in programs.values()])
            off.append(np.abs(values - float(accurate(model, data))))
            rows.append(milliseconds(programs, model))
            shown = "  ".join(f"{ms:8.2f}" for ms in rows[-1])
            print(f"{epoch:>6}{values[0]:>9.4f}   {shown}", flush=True)
    times = np.array(rows)
    mean = np.mean(times[1:] + times[:-1], axis=0) / 2
    for name, ms, distance in zip(timed, mean, np.max(off, axis=0), strict=True):
        print(f"mean {ms:8.2f} ms, {ms / mean[0]:6.1f} times ours, off by {distance:.1e}  {name}")


if __name__ == "__main__":
    main()
