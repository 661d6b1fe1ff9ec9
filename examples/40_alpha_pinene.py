# %% [markdown]
# # Rates of a measured reaction
# Heated to 189.5 degrees Celsius, alpha-pinene turns into dipentene and allo-ocimene, which reacts on
# to alpha- and beta-pyronene and a dimer. Fuguitt and Hawkins measured all five at eight times (*Rate
# of the thermal isomerization of alpha-pinene in the liquid phase*, JACS 69, 1947; numbers as in Box
# and others, *Some problems associated with the analysis of multiresponse data*, Technometrics 15,
# 1973). Five rates are estimated from twenty random starts, with intervals and profiles. The data are
# measured.

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

# %% Weight percent of each species; times in minutes.
NAMES = ["pinene", "dipentene", "allo_ocimene", "pyronene", "dimer"]
TS = [1230, 3060, 4920, 7800, 10680, 15030, 22620, 36420]
PERCENT = [
    [88.35, 7.3, 2.3, 0.4, 1.75],
    [76.4, 15.6, 4.5, 0.7, 2.8],
    [65.1, 23.1, 5.3, 1.1, 5.8],
    [50.4, 32.9, 6.0, 1.5, 9.3],
    [37.5, 42.7, 6.0, 1.9, 12.0],
    [25.9, 49.1, 5.9, 2.2, 17.0],
    [14.0, 57.4, 5.1, 2.6, 21.0],
    [4.5, 63.1, 3.8, 2.9, 25.7],
]
data = srx.Measurements.from_arrays(TS, PERCENT, names=NAMES, start=0.0)
print(data)


# %% The reactions: four forward, and the dimer falls apart again.
class Reactions(eqx.Module):
    k: Any

    def __call__(self, t, y, args):
        pinene, _, ocimene, _, dimer = y
        r1, r2 = self.k[0] * pinene, self.k[1] * pinene
        r3, r4, r5 = self.k[2] * ocimene, self.k[3] * ocimene, self.k[4] * dimer
        return jnp.stack([-r1 - r2, r1, r2 - r3 - r4 + r5, r3, r4 - r5])


system = srx.System(
    Reactions(srx.positive(np.full(5, 1e-4), 1e-7, 1e-1)),
    initial_state={"pinene": 100.0} | dict.fromkeys(NAMES[1:], 0.0),
    sd=srx.positive(1.0, 1e-2, 1e2),  # one for all species, estimated
    states=NAMES,
)

# %% Twenty starts over six decades of each rate.
fit = srx.fit_parameters(
    system, data, srx.LikelihoodLoss(), starts=20, key=jax.random.key(0), progress=False
)
print(fit)
published = np.array([5.93e-5, 2.96e-5, 2.05e-5, 27.5e-5, 4.00e-5])
found = np.array([fit.values[f"field.k[{i}]"] for i in range(5)])
print("rates over the published ones:", np.round(found / published, 3))

# %% How well each rate is known.
profiles = fit.profile("k[0]", "k[2]", "k[4]")
for name, profile in profiles.items():
    print(f"{name}: {profile.lower:.3g} to {profile.upper:.3g} per minute, {profile.verdict}")

# %% Measurements, fit and band; three profiles; residuals; starts.
figure, axes = plt.subplots(2, 5, figsize=(15, 6), layout="constrained")
srx.plots.measured_fit(fit, axes=axes[0])
srx.plots.profiles(profiles, axes=axes[1, :3])
srx.plots.normal_quantiles(fit, axes[1, 3])
srx.plots.waterfall(fit, axes[1, 4])
figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)
