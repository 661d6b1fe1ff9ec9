"""How often 95 % intervals hold the true rates of Robertson's reaction, one species never measured.

Simulated data: the two slow species at 24 times over nine decades, log-normal noise of 5 % whose size
is estimated. Every fit starts from rates three times too large.

Usage: `python benchmarks/interval_coverage.py [data sets]`.
"""

import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

RATES = {"k1": 0.04, "k2": 3e7, "k3": 1e4}
TS = np.geomspace(1e-4, 1e5, 24)


class Robertson(eqx.Module):
    """Robertson's reaction with trainable rates."""

    k1: Any
    k2: Any
    k3: Any

    def __call__(self, t, y, args):
        """The vector field."""
        slow, fast, back = self.k1 * y[0], self.k2 * y[1] ** 2, self.k3 * y[1] * y[2]
        return jnp.stack([-slow + back, slow - back - fast, fast])


def observe(t, y, args):
    """What is measured: all but the fast species."""
    return {"A": y[0], "C": y[2]}


def system(factor: float, *, free_start: bool) -> srx.System:
    """The system with rates off by a factor, and the first species unknown at the start if asked."""
    rates = (srx.positive(factor * k, 1e-4 * k, 1e4 * k) for k in RATES.values())
    first = srx.positive(1.5, 0.1, 10.0) if free_start else srx.fixed(1.0)
    start = {"A": first, "B": 0.0, "C": 0.0}
    return srx.System(Robertson(*rates), start, observe, states=["A", "B", "C"])


def run(sets: int, *, free_start: bool) -> None:
    """Prints a table of coverage over the data sets."""
    loss = srx.LikelihoodLoss(noise=srx.LogNormalNoise())
    empty = srx.Measurements.from_arrays(TS, np.ones((len(TS), 2)), names=["A", "C"], start=0.0)
    exact = np.asarray(loss.simulate(system(1.0, free_start=False), empty).values)[0]
    covered = {kind: dict.fromkeys(RATES, 0) for kind in ("profile", "standard error")}
    converged, verdicts, begin = 0, [], time.perf_counter()
    guess = system(3.0, free_start=free_start)
    for k in range(sets):
        noise = np.random.default_rng(k).normal(size=exact.shape)
        values = exact * np.exp(0.05 * noise)
        data = srx.Measurements.from_arrays(TS, values, names=["A", "C"], start=0.0)
        fit = srx.fit_parameters(guess, data, loss)
        converged += fit.converged
        for name, profile in fit.profile(*RATES).items():
            short = name.removeprefix("field.")
            true, error = RATES[short], fit.estimates[name]
            covered["profile"][short] += profile.lower <= true <= profile.upper
            covered["standard error"][short] += error.lower <= true <= error.upper
            verdicts.append(profile.verdict)
    seconds = time.perf_counter() - begin
    start = "unknown" if free_start else "known"
    print(
        f"{sets} data sets, start {start}: {converged} fits converged, {seconds / sets:.2f} s each"
    )
    print("profiles:", {x: verdicts.count(x) for x in dict.fromkeys(verdicts)})
    print(f"{'interval':16}" + "".join(f"{name:>8}" for name in RATES) + "     all")
    for kind, counts in covered.items():
        shares = [counts[name] / sets for name in RATES]
        print(f"{kind:16}" + "".join(f"{x:8.3f}" for x in (*shares, np.mean(shares))))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    run(count, free_start=False)
    run(min(count, 20), free_start=True)
