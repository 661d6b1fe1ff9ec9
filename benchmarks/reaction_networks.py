"""Reaction networks recovered from simulated samples: missed and extra reactions, and rates.

Robertson's reaction from five runs under four levels of noise (parts of the root mean square of a
state), with what a chemist knows: three isomers, so that their sum is conserved, and reactions of up
to two molecules. Candidates are all such reactions; settings are those of
`benchmarks/pysindy_comparison.py`, which has the same samples, and were not changed here.
"""

import sys
import time

import jax
import numpy as np
from sampled_runs import ROBER_STARTS, sampled_runs

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
NOISE = (0.0, 0.001, 0.01, 0.05)
SAMPLES = (20, 40, 80)
TRUE = srx.ReactionNetwork(
    ["A -> B", "2 B -> B + C", "B + C -> A + C"], ["A", "B", "C"], rates=[0.04, 3e7, 1e4]
)


def found(ts, ys, size, noise):
    """The network of `prune_and_refit`: whole runs, an information criterion under noise."""
    data = srx.Trajectories.from_arrays(ts, ys, names=["A", "B", "C"])
    candidates = srx.ReactionNetwork.candidates(["A", "B", "C"], conserved=[1, 1, 1])
    pruned = srx.prune_and_refit(
        candidates,
        data,
        srx.RadauIIA5(),
        refine=1,
        scale=size,
        substeps=4 if not noise or len(ts) <= 20 else 2,
        window=len(ts) - 1,
        initial_states="free",
        start="coupled",
        criterion="ebic" if noise else "held_out",
        progress=False,
    )
    # Of networks that say the same, the one of the fewest reactions.
    return srx.to_reactions(pruned.model)


def row(samples, noise, seed):
    """One row of the table, and the network."""
    ts = np.append(0.0, np.geomspace(1e-6, 1e4, samples - 1))
    clean = sampled_runs(TRUE, ROBER_STARTS, ts)
    size = np.sqrt(np.mean(clean**2, axis=(0, 1)))
    ys = clean + noise * size * np.random.default_rng(seed).normal(size=clean.shape)
    begin = time.perf_counter()
    network = found(ts, ys, size, noise)
    seconds = time.perf_counter() - begin
    true = dict(zip(TRUE.reactions(), np.asarray(TRUE.rates), strict=True))
    rates = dict(zip(network.reactions(), np.asarray(network.rates), strict=True))
    missed, extra = set(true) - set(rates), set(rates) - set(true)
    error = max((abs(rates[x] / true[x] - 1) for x in set(true) & set(rates)), default=np.nan)
    print(
        f"| {samples} | {100 * noise:g} % | {len(missed)} | {len(extra)} | {error:.1e} "
        f"| {seconds:.0f} |",
        flush=True,
    )
    if missed or extra:
        print(network)


def main(densities):
    print("| samples | noise | missed, of 3 | extra, of 30 | largest error of a rate | s |")
    print("|---|---|---|---|---|---|")
    for samples in densities:
        for noise in NOISE:
            row(samples, noise, seed=1)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or SAMPLES)
