# %% [markdown]
# # A network inside a measured system
# The Hudson's Bay Company counted pelts of hares and lynxes from 1900 to 1920 (thousands; numbers of
# Hewitt, *The Conservation of the Wild Life of Canada*, 1921, as in Howard, *Modeling Basics*, 2009).
# Births and deaths are known up to their rates; what the two do to each other is left to a small
# network. Noise is log-normal with a size that is estimated, and both starts are unknown. The data
# are measured.

# %%
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

# %%
YEARS = np.arange(1900, 1921)
HARES = [30, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4, 27.1]
HARES += [40.3, 57, 76.6, 52.3, 19.5, 11.2, 7.6, 14.6, 16.2, 24.7]
LYNXES = [4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4]
LYNXES += [8, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7, 10.1, 8.6]
PELTS = np.stack([HARES, LYNXES], axis=1)
data = srx.Measurements.from_arrays(YEARS - 1900.0, PELTS, names=["hares", "lynxes"])
start = {"hares": srx.positive(30.0, 3.0, 300.0), "lynxes": srx.positive(4.0, 0.4, 40.0)}
loss = srx.LikelihoodLoss(noise=srx.LogNormalNoise())


# %% Lotka and Volterra: encounters are the product of both numbers.
class LotkaVolterra(eqx.Module):
    birth: Any
    eaten: Any
    eating: Any
    death: Any

    def __call__(self, t, y, args):
        hares, lynxes = y
        return jnp.stack(
            [
                hares * (self.birth - self.eaten * lynxes),
                lynxes * (self.eating * hares - self.death),
            ]
        )


rates = (srx.positive(x, x / 30, 30 * x) for x in (0.5, 0.03, 0.03, 0.8))
system = srx.System(LotkaVolterra(*rates), start, states=data.names)
mechanistic = srx.fit_parameters(
    system, data, loss, starts=16, key=jax.random.key(0), progress=False
)
print(mechanistic)


# %% The same with a factor on each encounter that a network reads off both numbers.
class Hybrid(eqx.Module):
    known: LotkaVolterra
    network: eqx.nn.MLP

    def __call__(self, t, y, args):
        hares, lynxes = y
        factors = jnp.exp(self.network(jnp.log(jnp.maximum(y, 1e-3) / 20.0)))
        eaten, eating = factors * jnp.stack([self.known.eaten, self.known.eating])
        known = self.known
        return jnp.stack(
            [hares * (known.birth - eaten * lynxes), lynxes * (eating * hares - known.death)]
        )


def weights_are_small(system, data):
    """A normal prior on every weight, of width a half."""
    weights = jax.tree.leaves(eqx.filter(system.field.network, eqx.is_inexact_array))
    return sum(jnp.sum(w**2) for w in weights) / (2 * 0.5**2)


network = eqx.nn.MLP(2, 2, 4, 1, jax.nn.tanh, key=jax.random.key(0))
found = mechanistic.system
hybrid = srx.fit_parameters(
    srx.System(Hybrid(found.field, network), found.initial_state, states=data.names),
    data,
    loss + weights_are_small,
    progress=False,
)
print(f"{len(hybrid.x)} parameters; search {hybrid.starts[0].stopped}")
for name, fit in (("Lotka and Volterra", mechanistic), ("with a network", hybrid)):
    spread = fit.spread()[0, 0]
    print(
        f"{name}: noise of {100 * spread[0]:.0f} % for hares and {100 * spread[1]:.0f} % for lynxes"
    )

# %% Both fits over the counts, and the encounters that the network found.
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
srx.plots.measured_fit(hybrid, axes=axes[:2])
for j, ax in enumerate(axes[:2]):
    band = mechanistic.band(points=200)
    ax.plot(band.ts[0], band.values[0, :, j], "--", color="#D55E00", label="Lotka and Volterra")
    ax.set_xlabel("years after 1900")
axes[0].legend()
field = hybrid.system.field
hares = np.linspace(5, 80, 50)
for lynxes, style in ((5.0, "-"), (20.0, "--"), (50.0, ":")):
    states = jnp.stack([jnp.asarray(hares), jnp.full(50, lynxes)], axis=1)
    factors = jax.vmap(lambda y: jnp.exp(field.network(jnp.log(y / 20.0))))(states)
    axes[2].plot(hares, factors[:, 0], style, color="#0072B2", label=f"{lynxes:.0f} lynxes")
axes[2].set_xlabel("hares")
axes[2].set_title("eaten per encounter, over Lotka and Volterra's")
axes[2].legend()
figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)
