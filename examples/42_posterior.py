# %% [markdown]
# # A posterior of reaction rates
# Robertson's reaction with its fast species never measured, and 5 % noise on the two others
# (simulated data). A fit gives rates and their covariance; NUTS of blackjax draws from the posterior
# in four chains at once, each gradient by the discrete adjoint. The covariance of the fit makes the
# posterior round, so that no warm-up is needed for it. Needs `pip install 'stiffrax[posterior]'`.

# %%
import time
from pathlib import Path
from typing import Any

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
RATES = np.array([0.04, 3e7, 1e4])
TS = np.geomspace(1e-4, 1e5, 24)
CHAINS, WARM_UP, DRAWS = 4, 50, 250


# %% The reaction with unknown rates; what is measured are the first and the last species.
class Robertson(eqx.Module):
    k1: Any
    k2: Any
    k3: Any

    def __call__(self, t, y, args):
        slow, fast, back = self.k1 * y[0], self.k2 * y[1] ** 2, self.k3 * y[1] * y[2]
        return jnp.stack([-slow + back, slow - back - fast, fast])


def system(factor):
    rates = (srx.positive(factor * k, 1e-3 * k, 1e3 * k) for k in RATES)
    start = {"A": 1.0, "B": 0.0, "C": 0.0}
    return srx.System(
        Robertson(*rates),
        start,
        lambda t, y, args: {"A": y[0], "C": y[2]},
        sd=0.05,
        states=["A", "B", "C"],
    )


loss = srx.LikelihoodLoss(noise=srx.LogNormalNoise())
empty = srx.Measurements.from_arrays(TS, np.ones((24, 2)), names=["A", "C"], start=0.0)
exact = np.asarray(loss.simulate(system(1.0), empty).values)[0]
noise = np.random.default_rng(0).normal(scale=0.05, size=exact.shape)
data = srx.Measurements.from_arrays(TS, exact * np.exp(noise), names=["A", "C"], start=0.0)

# %% The best rates, from three times too large ones.
fit = srx.fit_parameters(system(3.0), data, loss)
print(fit)

# %% Four chains at once. In `z` the posterior is round, with a standard deviation of about one.
root = np.linalg.cholesky(fit.covariance)
nuts: Any = blackjax.nuts(lambda z: fit.log_density(fit.x + root @ z), 0.5, np.ones(3))


@jax.jit
def sample(key):
    def draw(states, key):
        states, info = jax.vmap(nuts.step)(jax.random.split(key, CHAINS), states)
        return states, (states.position, info.is_divergent, info.num_integration_steps)

    first, key = jax.random.split(key)
    states = jax.vmap(nuts.init)(jax.random.normal(first, (CHAINS, 3)))
    return jax.lax.scan(draw, states, jax.random.split(key, WARM_UP + DRAWS))[1]


begin = time.perf_counter()
z, divergent, steps = (np.asarray(x)[WARM_UP:] for x in sample(jax.random.key(0)))
x = fit.x + z @ root.T
print(
    f"{z.shape[0]} draws of {CHAINS} chains, {steps.mean():.1f} gradients a draw, "
    f"{int(divergent.sum())} diverged, {time.perf_counter() - begin:.0f} s with compilation"
)
r_hat = np.asarray(blackjax.rhat(z, chain_axis=1, sample_axis=0))
effective = np.asarray(blackjax.ess(z, chain_axis=1, sample_axis=0))
print(f"R-hat at most {r_hat.max():.3f}, effective draws at least {effective.min():.0f}")
for i, name in enumerate(fit.estimates):
    print(
        f"{name}: true {np.log(RATES[i]):.3f}, fit {fit.x[i]:.3f} +- "
        f"{fit.covariance[i, i] ** 0.5:.3f}, posterior {x[..., i].mean():.3f} +- {x[..., i].std():.3f}"
    )

# %% One figure: draws of two rates that the data hardly tell apart, with the ellipse of the fit.
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), constrained_layout=True)
angle = np.linspace(0, 2 * np.pi, 100)
for ax, (i, j) in zip(axes, ((1, 2), (0, 1), (0, 2)), strict=True):
    own = np.linalg.cholesky(fit.covariance[np.ix_([i, j], [i, j])])
    for chain in range(CHAINS):
        ax.plot(x[:, chain, i], x[:, chain, j], ".", ms=2, alpha=0.6)
    ax.plot(*(fit.x[[i, j], None] + 2.45 * own @ [np.cos(angle), np.sin(angle)]), "k", lw=1)
    ax.plot(*np.log(RATES[[i, j]]), "k*", ms=9)
    ax.set_xlabel(f"log k{i + 1}")
    ax.set_ylabel(f"log k{j + 1}")
axes[0].set_title("draws of four chains, 95 % of the fit, true rates (star)", fontsize=9)
path = Path(__file__).resolve().with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
