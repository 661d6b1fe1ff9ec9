"""A stiff relaxation oscillation learned by homotopy with Radau IIA, and without homotopy.

Van der Pol's equation with `mu = 20` in Lienard's form, `x' = mu (z + x - x^3 / 3)`, `z' = -x / mu`,
60 samples over one and a half periods with noise of 2 %. The first equation is learned as a cubic
polynomial of both states, from zero; the second is known. `error` is the mean square of the free
solution over the samples, `floor` that of the true equation.
"""

import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)
MU, SAMPLES = 20.0, 60
SCALE = np.array([2.0, 0.6])


def known(t, y, args):
    return jnp.stack([jnp.zeros_like(y[0]), -y[0] / MU])


def truth(t, y, args):
    return jnp.stack([MU * (y[1] + y[0] - y[0] ** 3 / 3), -y[0] / MU])


class Fast(eqx.Module):
    """`x' = mu p(x, z)` with a cubic polynomial `p`."""

    polynomial: srx.Polynomial

    def __call__(self, t, y, args=None):
        return MU * self.polynomial(t, y)


def series():
    ts = np.linspace(0.0, 1.5 * 1.7 * MU, SAMPLES)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(truth),
        srx.RadauIIA5(),
        0.0,
        ts[-1],
        None,
        jnp.array([2.0, -0.2]),
        saveat=diffrax.SaveAt(ts=jnp.asarray(ts)),
        stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-8),
    )
    clean = np.asarray(solution.ys)
    noise = 0.02 * SCALE * np.random.default_rng(0).normal(size=clean.shape)
    return srx.Trajectories.from_arrays(ts, clean + noise, names=["x", "z"])


def main(steps=60):
    data = series()
    trajectory = srx.TrajectoryLoss(srx.RadauIIA5(), srx.ScaledMSE(SCALE), rtol=1e-4, max_steps=512)
    model = srx.PartiallyKnown(
        known, Fast(srx.Polynomial(2, degree=3, num_outputs=1)), outputs=(0,), num_states=2
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.03))
    print(f"floor: error {float(eqx.filter_jit(trajectory)(truth, data)):.2e}", flush=True)
    start = time.perf_counter()
    loss = srx.HomotopyLoss(trajectory, np.array([2.0 * MU, 0.0]))
    schedule = srx.HomotopySchedule(values=6, steps=steps)
    fit = srx.fit_homotopy(model, data, loss, schedule=schedule, optimizer=optimizer)
    best = int(fit.history.held_out_steps[np.argmin(fit.history.held_out_loss)])
    seconds = time.perf_counter() - start
    print(f"homotopy: error {fit.loss:.2e}, best step {best}, {seconds:.0f} s", flush=True)
    learned = np.asarray(fit.model.learned.polynomial.coefficients)[0]
    names = fit.model.learned.polynomial.feature_names(("x", "z"))
    print("  " + " ".join(f"{c:+.3f}*{n}" for c, n in zip(learned, names, strict=True)))
    start = time.perf_counter()
    fit = srx.fit(model, data, trajectory, optimizer=optimizer, steps=schedule.total_steps)
    best = int(np.argmin(fit.history.loss))
    seconds = time.perf_counter() - start
    print(f"vanilla: error {fit.loss:.2e}, best step {best}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
