# %% [markdown]
# # What an ignition waits for
# Hydrogen in air, with the 29 reactions and the data that come with Cantera (`pip install
# 'stiffrax[cantera]'`). One solve gives the delay of the ignition, and one backward pass how much each
# rate constant matters for it: by differences of Cantera's own reactor that takes 58 solves more.

# %%
from pathlib import Path

import cantera as ct  # pyright: ignore[reportMissingImports]
import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optimistix as optx

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

# %% The gas: nothing of Cantera is left in the mechanism, which is a tree of arrays.
RISE, TEMPERATURES = 400.0, np.array([950.0, 1100.0, 1250.0])
gas = ct.Solution("h2o2.yaml")
gas.TPX = 1100, ct.one_atm, "H2:2, O2:1, N2:3.76"
mechanism, fractions = srx.cantera.Mechanism.from_solution(gas), jnp.asarray(gas.Y)


# %% Faster reactions: the rate constant of a falloff has a limit of low and one of high pressure.
def faster(changes):
    limits = mechanism.rates.high.log_A, mechanism.rates.low.log_A
    changed = limits[0] + changes, limits[1] + changes[mechanism.reactions.falloffs]
    return eqx.tree_at(lambda m: (m.rates.high.log_A, m.rates.low.log_A), mechanism, changed)


# %% The delay: when the temperature has risen by 400 K. The event is found within a step.
def log_delay(changes, T):
    changed = faster(changes)
    density = mechanism.density(T, ct.one_atm, fractions)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(srx.cantera.ConstantVolumeReactor(changed, density)),
        srx.RadauIIA5(control_interior=True),
        t0=0.0,
        t1=1.0,
        dt0=None,
        y0=jnp.append(T[None], fractions),
        stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-13),
        adjoint=srx.DiscreteAdjoint(),
        event=diffrax.Event(
            lambda t, y, args, **kwargs: y[0] - T - RISE, optx.Bisection(1e-12, 1e-9)
        ),
        max_steps=512,
    )
    return jnp.log(solution.ts[-1])


# %% The delay and its derivatives by the logarithms of all rates, at three temperatures at once.
no_change = jnp.zeros(len(mechanism.equations))
value_and_gradient = jax.jit(jax.vmap(jax.value_and_grad(log_delay), in_axes=(None, 0)))
values, gradients = map(np.asarray, value_and_gradient(no_change, jnp.asarray(TEMPERATURES)))


# %% The same delay by Cantera.
def delay_of_cantera(T):
    gas.TPX = T, ct.one_atm, "H2:2, O2:1, N2:3.76"
    net = ct.ReactorNet([ct.IdealGasReactor(gas, clone=False)])
    net.rtol, net.atol = 1e-10, 1e-18
    times, temperatures = [0.0], [T]
    while temperatures[-1] < T + RISE:
        net.step()
        times.append(net.time)
        temperatures.append(gas.T)
    return np.interp(T + RISE, temperatures, times)


print("    K   delay, ms   Cantera")
for T, value in zip(TEMPERATURES, values, strict=True):
    print(f"{T:5.0f} {1e3 * np.exp(value):11.6f} {1e3 * delay_of_cantera(T):9.6f}")

# %% The figure: the reactions that matter most. A faster one to the left ignites earlier.
order = np.argsort(np.max(np.abs(gradients), axis=0))[-8:]
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for k, T in enumerate(TEMPERATURES):
    ax.barh(np.arange(8) + 0.27 * (1 - k), gradients[k, order], 0.25, label=f"{T:.0f} K")
ax.set_yticks(np.arange(8), [mechanism.equations[i] for i in order])
ax.axvline(0, color="black", linewidth=0.8)
ax.set_xlabel("change of log(delay) per change of log(rate constant)")
ax.legend()
path = Path(__file__).with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
