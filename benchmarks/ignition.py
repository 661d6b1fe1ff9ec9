"""Ignition of hydrogen and of methane (GRI-Mech 3.0) in air, beside Cantera's own reactor.

Stoichiometric, constant volume, at 1000 K and 10 atm, 1200 K and 5 atm, 1400 K and 2 atm, 1600 K and
1 atm. The delay is the time at which the temperature has risen by 400 K; a run ends at twice that.
The error of a run is the larger one of that of the delay, relative, and of the worst component at the
end, relative to `|y| + 1e-6`; the reference is Cantera at rtol 1e-13. Both sides run over a range of
tolerances, with `atol = 1e-7 rtol`, and at each error the quickest run that is at most as wrong
counts: the median of `--repeats` runs in turn, compiling excluded, in time of the processor.

- `one`: one reactor. Run it on one core, `OPENBLAS_NUM_THREADS=1 taskset -c 0 python ...`: both
  sides have one thread then.
- `lanes`: 256 reactors from 1000 to 1600 K at 5 atm under `jax.vmap`, 32 at a time, beside Cantera's
  one after the other, per lane in time of the processor; the median error of 16 lanes counts.
- `gradient`: the derivative of the delay by the logarithm of every rate, by `DiscreteAdjoint`, beside
  central differences of Cantera by the five largest.

Run with `OPENBLAS_NUM_THREADS=1 python benchmarks/ignition.py [one lanes gradient]`.
"""

import argparse
import importlib.util
import math
import statistics
import time
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

if importlib.util.find_spec("cantera") is None:
    raise SystemExit("This needs the package cantera: run `pip install 'stiffrax[cantera]'`.")
ct: Any = importlib.import_module("cantera")
ATM, RISE, FLOOR = 101325.0, 400.0, 1e-6
CASES = ((1000.0, 10), (1200.0, 5), (1400.0, 2), (1600.0, 1))
MECHANISMS = {
    "H2/O2": ("h2o2.yaml", "H2:2, O2:1, N2:3.76"),
    "GRI 3.0": ("gri30.yaml", "CH4:1, O2:2, N2:7.52"),
}
TARGETS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
LANES, CHUNK, CHECKED = 256, 32, 16


class Ignition:
    """A gas at its start, and Cantera's runs from there."""

    def __init__(self, name, T, pressure):
        file, fuel = MECHANISMS[name]
        self.gas, self.start = ct.Solution(file), (T, pressure, fuel)
        self.net(1e-9)
        self.y0, self.reactor = self.y, srx.cantera.ConstantVolumeReactor.from_solution(self.gas)

    @property
    def y(self):
        return np.array([self.gas.T, *self.gas.Y])

    def net(self, rtol):
        self.gas.TPX = self.start
        self.reactor_of_cantera = ct.IdealGasReactor(self.gas, clone=False)
        net = ct.ReactorNet([self.reactor_of_cantera])
        net.rtol, net.atol, net.max_steps = rtol, 1e-7 * rtol, 1_000_000
        return net

    def slope(self):
        """dT/dt of the gas as it is."""
        made = self.gas.net_production_rates / self.gas.density
        return -made @ self.gas.partial_molar_int_energies / self.gas.cv_mass

    def delay(self, rtol=1e-13, near=None):
        """The time of the rise, by Newton's method on whole runs."""
        target = self.start[0] + RISE
        if near is None:
            net = self.net(1e-8)
            while self.gas.T < target:
                net.step()
            near = net.time
        for _ in range(3):
            self.net(rtol).advance(near)
            near -= (self.gas.T - target) / self.slope()
        return near

    def find_reference(self, rtol=1e-13):
        self.tau = self.delay(rtol)
        net = self.net(rtol)
        net.advance(self.tau)
        self.steepness = self.slope() * self.tau
        net.advance(2 * self.tau)
        self.end = self.y
        return self

    def error(self, at_delay, end):
        """Of a run, from its temperature at the true delay and its end."""
        delay = abs(at_delay - self.start[0] - RISE) / self.steepness
        return max(delay, np.max(np.abs(end - self.end) / (np.abs(self.end) + FLOOR)))

    def run(self, rtol, until):
        """Seconds of a run of Cantera, by the clock and of the processor."""
        net, clock, cpu = self.net(rtol), time.perf_counter(), time.process_time()
        net.advance(until)
        return time.perf_counter() - clock, time.process_time() - cpu

    def error_of_cantera(self, rtol):
        self.run(rtol, self.tau)
        at_delay = self.gas.T
        self.run(rtol, 2 * self.tau)
        return self.error(at_delay, self.y)


def solvers(factors):
    """By name; of 54 states factors take less time than inverses, for one reactor at a time."""
    structure = srx.Dense(lx.LU()) if factors else None
    return {
        "Rodas5P": (srx.Rodas5P(structure=structure), diffrax.PIDController),
        "RadauIIA5": (srx.RadauIIA5(structure=structure), srx.PredictiveController),
        "RadauIIA9": (srx.RadauIIA9(structure=structure), srx.PredictiveController),
    }


def make_solve(solver, controller):
    def solve(reactor, y0, tau, rtol):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(reactor),
            solver,
            0.0,
            2 * tau,
            None,
            y0,
            saveat=diffrax.SaveAt(ts=jnp.stack([tau, 2 * tau])),
            stepsize_controller=controller(rtol=rtol, atol=1e-7 * rtol),
            max_steps=20_000,
            throw=False,
        )
        failed = solution.result != diffrax.RESULTS.successful
        return jnp.where(failed, jnp.nan, solution.ys), solution.stats["num_steps"]

    return solve


def seconds(run):
    clock, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(run())
    return time.perf_counter() - clock, time.process_time() - cpu


def quickest(points, target):
    """The least time of the runs that are at most as wrong."""
    return min((t for error, t in points if error <= target), default=math.nan)


def show(name, curves):
    for label, points in curves.items():
        line = "  ".join(f"{error:.0e}: {1e3 * t:.1f}" for error, t in points)
        print(f"  {label:10} error: ms  {line}")
    for target in TARGETS:
        times = {label: quickest(points, target) for label, points in curves.items()}
        best = np.nanmin([t for label, t in times.items() if label != "Cantera"])
        shown = "; ".join(f"{label} {1e3 * t:.1f}" for label, t in times.items())
        print(f"{name}, ms at {target:.0e}: {shown}; Cantera / best {times['Cantera'] / best:.2f}")
    print(flush=True)


def one(repeats, mechanisms):
    for mechanism in mechanisms:
        programs = {
            k: eqx.filter_jit(make_solve(*x)) for k, x in solvers(mechanism != "H2/O2").items()
        }
        for T, pressure in CASES:
            case = Ignition(mechanism, T, pressure * ATM).find_reference()
            runs = []
            for rtol in 10.0 ** -np.arange(4, 10.1, 0.5):
                run = lambda case=case, rtol=rtol: case.run(rtol, 2 * case.tau)  # noqa: B023, E731
                runs.append(("Cantera", case.error_of_cantera(rtol), run))
            inputs = case.reactor, jnp.asarray(case.y0), jnp.asarray(case.tau)
            for label, program in programs.items():
                for rtol in 10.0 ** -np.arange(2, 6.1, 0.5):
                    ys, _ = program(*inputs, jnp.asarray(rtol))
                    error = case.error(float(ys[0, 0]), np.asarray(ys[1]))
                    run = lambda p=program, i=inputs, r=rtol: seconds(lambda: p(*i, jnp.asarray(r)))  # noqa: E731
                    runs.append((label, error, run))
            times = [[] for _ in runs]
            for _ in range(repeats):
                for (_, _, run), found in zip(runs, times, strict=True):
                    found.append(run()[1])
            curves: dict = {}
            for (label, error, _), found in zip(runs, times, strict=True):
                curves.setdefault(label, []).append((error, statistics.median(found)))
            agreement = min(error for label, error, _ in runs if label != "Cantera")
            print(f"{mechanism}, {T:.0f} K, {pressure} atm: delay {case.tau:.9e} s, ", end="")
            print(f"closest to Cantera at 1e-13: {agreement:.1e}")
            show(f"{mechanism} {T:.0f} K", curves)


def lanes(repeats):
    name, pressure = "GRI 3.0", 5 * ATM
    temperatures, starts = np.linspace(1000.0, 1600.0, LANES), range(0, LANES, CHUNK)
    checked = np.linspace(0, LANES - 1, CHECKED).round().astype(int)
    cases = [Ignition(name, temperatures[i], pressure).find_reference(1e-12) for i in checked]
    delays = np.interp(temperatures, temperatures[checked], [np.log(c.tau) for c in cases])
    delays = np.exp(delays)
    delays[checked] = [c.tau for c in cases]
    curves: dict = {"Cantera": []}
    for rtol in 10.0 ** -np.arange(4, 8.1, 0.5):
        error = statistics.median(c.error_of_cantera(rtol) for c in cases)
        each = [c.run(rtol, 2 * c.tau)[1] for c in cases]
        curves["Cantera"].append((error, statistics.mean(each)))
    mechanism, fractions = cases[0].reactor.mechanism, jnp.asarray(cases[0].y0[1:])
    # A Rosenbrock method has one matrix a step, which a library factors for all lanes in turn.
    for label, parts in (("Rodas5P", solvers(factors=True)["Rodas5P"]),):
        solve = make_solve(*parts)

        def lane(x, solve=solve):
            T, tau, rtol = x
            density = mechanism.density(T, pressure, fractions)
            reactor = srx.cantera.ConstantVolumeReactor(mechanism, density)
            return solve(reactor, jnp.append(T[None], fractions), tau, rtol)

        program = jax.jit(jax.vmap(lane))
        for rtol in 10.0 ** -np.arange(2, 3.1):
            inputs = temperatures, delays, np.full(LANES, rtol)
            chunks = [[jnp.asarray(x[i : i + CHUNK]) for x in inputs] for i in starts]
            run = lambda f=program, chunks=chunks: [f(x) for x in chunks]  # noqa: E731
            ys, steps = (np.concatenate(x) for x in zip(*run(), strict=True))
            pairs = zip(cases, checked, strict=True)
            errors = [c.error(float(ys[i, 0, 0]), np.asarray(ys[i, 1])) for c, i in pairs]
            clock, cpu = np.median([seconds(run) for _ in range(repeats)], axis=0) / LANES
            print(
                f"{label:10} rtol {rtol:.0e}, median error {statistics.median(errors):.1e}, "
                f"largest {max(errors):.1e}, {steps.min()} to {steps.max()} steps, a lane "
                f"{1e3 * clock:.1f} ms, {1e3 * cpu:.1f} of the processor",
                flush=True,
            )
            curves.setdefault(label, []).append((statistics.median(errors), cpu))
    show("256 lanes", curves)


def gradient(repeats):
    case = Ignition("GRI 3.0", 1200.0, 5 * ATM)
    tau, y0 = case.delay(), jnp.asarray(case.y0)
    # Newton's method leaves the long step in which the temperature begins to rise.
    event = diffrax.Event(
        lambda t, y, args, **_: y[0] - case.start[0] - RISE, optx.Bisection(1e-12, 1e-9)
    )

    @eqx.filter_jit
    def log_delay(logarithms):
        reactor = eqx.tree_at(
            lambda r: (r.mechanism.rates.high.log_A, r.mechanism.rates.low.log_A),
            case.reactor,
            logarithms,
        )
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(reactor),
            srx.RadauIIA5(structure=srx.Dense(lx.LU()), control_interior=True),
            0.0,
            10 * tau,
            None,
            y0,
            stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-13),
            adjoint=srx.DiscreteAdjoint(),
            event=event,
            max_steps=1024,
        )
        return jnp.log(solution.ts[-1])

    rates = case.reactor.mechanism.rates
    at = rates.high.log_A, rates.low.log_A
    with_gradient = eqx.filter_jit(jax.value_and_grad(log_delay))
    value, (high, low) = with_gradient(at)
    # A multiplier of Cantera's changes both limits of a falloff.
    slopes = np.array(high)
    np.add.at(slopes, case.reactor.mechanism.reactions.falloffs, np.asarray(low))
    print(f"delay {np.exp(value):.10e}, of Cantera {tau:.10e}: {np.expm1(value - np.log(tau)):.1e}")
    for i in np.argsort(-np.abs(slopes))[:5]:
        ends = []
        for factor in (1.001, 0.999):
            case.gas.set_multiplier(factor, int(i))
            ends.append(np.log(case.delay(near=tau)))
        case.gas.set_multiplier(1.0, int(i))
        difference = (ends[0] - ends[1]) / (np.log(1.001) - np.log(0.999))
        print(
            f"{case.reactor.mechanism.equations[i]:32} {slopes[i]:+.8f}, Cantera {difference:+.8f}: "
            f"{abs(slopes[i] / difference - 1):.1e}",
            flush=True,
        )
    times = [np.median([seconds(lambda f=f: f(at)) for _ in range(repeats)], axis=0) for f in
             (log_delay, with_gradient)]  # fmt: skip
    cantera = statistics.median(case.run(1e-9, tau)[1] for _ in range(repeats))
    print(
        "s of the processor: delay {:.3f}, with its gradient {:.3f}".format(*[t[1] for t in times])
    )
    print(f"one run of Cantera at 1e-9: {cantera:.3f}; central differences take {2 * len(slopes)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", default=["one", "lanes", "gradient"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mechanism", choices=MECHANISMS, help="of `one`; both by default")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, cantera {ct.__version__}, float64")
    for row in options.rows:
        if row == "one":
            one(options.repeats, [options.mechanism] if options.mechanism else MECHANISMS)
        else:
            {"lanes": lanes, "gradient": gradient}[row](options.repeats)


if __name__ == "__main__":
    main()
