# %% [markdown]
# # A noisy oscillation learned by homotopy
# A neural ODE that is trained on a whole trajectory at once can end in a bad local minimum, such as
# the mean of the data. Homotopy couples the model to the data and anneals the coupling to zero (Ko
# and others, NeurIPS 2023). With clipped gradients plain training gets as far on such data, in about
# twelve times the steps (`benchmarks/homotopy.py`). Predator and prey, 61 samples with 5 % noise.
# In the black box all terms are unknown, in the gray box only the interaction.

# %%
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
SEEDS = (10, 20, 30)
PROBLEM = srx.problems.lotka_volterra()
TIMES = np.arange(122) * 0.1  # half of them to train on, half to extrapolate to


class Net(eqx.Module):
    """A network as a vector field that does not depend on the time."""

    net: eqx.nn.MLP

    def __call__(self, t, y, args=None):
        return self.net(y)


# %% Data: the first 61 samples, and all 122.
def samples(seed):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(PROBLEM.vector_field),
        diffrax.Dopri8(),
        0.0,
        TIMES[-1],
        0.01,
        jnp.asarray(PROBLEM.y0),
        saveat=diffrax.SaveAt(ts=jnp.asarray(TIMES)),
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-10),
    )
    clean = np.asarray(solution.ys)
    noise = np.random.default_rng(seed).normal(size=clean.shape)
    noisy = clean + 0.05 * clean.mean(axis=0) * noise
    return tuple(srx.Trajectories.from_arrays(TIMES[:k], noisy[:k]) for k in (61, 122))


# %% Models.
def black_box(key):
    return Net(eqx.nn.MLP(2, 2, 32, 1, activation=jax.nn.gelu, key=key))


def gray_box(key):
    def known(t, y, args):
        return jnp.stack([1.3 * y[0], -1.8 * y[1]])

    net = Net(eqx.nn.MLP(2, 2, 20, 2, activation=jax.nn.gelu, key=key))
    return srx.PartiallyKnown(known, net, num_states=2)


# %% Training: learning rate and coupling of the paper.
TRAJECTORY = srx.TrajectoryLoss(
    diffrax.Tsit5(), srx.ScaledMSE([1.0, 1.0]), rtol=1e-6, atol=1e-6, max_steps=512
)


def errors(model, whole):
    """Mean square errors on the samples trained on, and on those after them."""
    square = np.asarray((TRAJECTORY.predict(model, whole) - whole.ys[:, 1:]) ** 2)[0]
    return float(square[:60].mean()), float(square[60:].mean())


def draw(fits):
    """The first seed of both models beside its samples; training ends at the line."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 5), layout="constrained")
    for (name, (model, whole)), row in zip(fits.items(), axes, strict=True):
        predicted = TRAJECTORY.predict(model, whole)[0]
        srx.plots.trajectories(whole, {name: (TIMES[1:], predicted)}, axes=row)
        for ax in row:
            ax.axvline(TIMES[60], color="0.7", lw=0.8)
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path, dpi=150)
    print(f"figure: {path.name}")


def main():
    fits = {}
    for name, make, rate, coupling in (
        ("black box", black_box, 0.05, 6.0),
        ("gray box", gray_box, 0.02, 4.0),
    ):
        loss = srx.HomotopyLoss(TRAJECTORY, coupling, alpha=1e-3)
        optimizer = optax.adamw(rate)
        for seed in SEEDS:
            data, whole = samples(seed)
            start = time.perf_counter()
            fit = srx.fit_homotopy(
                make(jax.random.key(seed)),
                data,
                loss,
                schedule=srx.HomotopySchedule(values=6, steps=100),
                optimizer=optimizer,
            )
            fits.setdefault(name, (fit.model, whole))
            inside, outside = errors(fit.model, whole)
            best = int(fit.history.held_out_steps[np.argmin(fit.history.held_out_loss)])
            print(
                f"{name}, seed {seed}: error {inside:.2e} in, {outside:.2e} after the data; "
                f"best step {best}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    draw(fits)


if __name__ == "__main__":
    main()
