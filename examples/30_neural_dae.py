# %% [markdown]
# # A neural network under an exact algebraic constraint
# Robertson's reaction conserves mass. One model learns two derivatives and keeps `y1 + y2 + y3 = 1`
# exactly: a differential-algebraic equation with a singular mass matrix. The other learns all three
# derivatives with the same network and the same data, and does not conserve mass.

# %%
import time
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import stiffrax as srx

jax.config.update("jax_enable_x64", True)

EPOCHS = 400
PROBLEM = srx.problems.robertson()
Y0, END = jnp.array(PROBLEM.y0), 1e4
TS = jnp.logspace(-2, 4, 40)
Y_SCALE = (1.0, 3.6e-5, 1.0)


# %% One solve of either model.
def solve(term, ts, tolerance, args=None, max_steps=1024):
    return diffrax.diffeqsolve(
        term,
        srx.RadauIIA5(),
        0.0,
        END,
        None,
        Y0,
        args,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=srx.PredictiveController(
            rtol=tolerance, atol=tolerance * jnp.array(Y_SCALE)
        ),
        adjoint=srx.DiscreteAdjoint(),
        max_steps=max_steps,
        throw=False,
    )


# %% The models: the network alone, and its first two derivatives with the constraint.
class FirstTwo(eqx.Module):
    """The derivatives of `y1` and `y2` alone."""

    field: srx.ScaledField

    def __call__(self, t, y, args):
        return self.field(t, y, args)[:2]


def network():
    net = eqx.nn.MLP(4, 3, width_size=16, depth=2, activation=jnp.tanh, key=jax.random.key(0))
    return srx.ScaledField(net, Y_SCALE, END, states="scaled", log_time=True, floor=1e-8)


def constrained():
    return srx.ConstrainedField(
        FirstTwo(network()), lambda t, y, args: jnp.sum(y) - 1, num_states=3
    )


def term_of(model):
    if isinstance(model, srx.ConstrainedField):
        return srx.MassMatrixTerm(model, model.mass)
    return diffrax.ODETerm(model)


# %% Training, by a loop of our own.
def train(model, data):
    schedule = optax.cosine_decay_schedule(1e-2, EPOCHS)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    def loss(model):
        sol = solve(term_of(model), TS, 1e-3, max_steps=256)
        error = (sol.ys - data) / jnp.array(Y_SCALE)
        return jnp.where(sol.result == diffrax.RESULTS.successful, jnp.mean(error**2), 1.0)

    @eqx.filter_jit
    def step(model, state):
        value, gradient = eqx.filter_value_and_grad(loss)(model)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(model, updates), state, value

    value = jnp.inf
    for _ in range(EPOCHS):
        model, state, value = step(model, state)
    return model, value


# %% Both trained, and how well they conserve mass along the way.
data = solve(diffrax.ODETerm(PROBLEM.vector_field), TS, 1e-8, PROBLEM.args).ys
along = jnp.concatenate([jnp.zeros(1), jnp.logspace(-6, 4, 2000)])
violations = {}
print("model            loss   largest |y1 + y2 + y3 - 1|   seconds")
for name, model in (("constrained", constrained()), ("unconstrained", network())):
    begin = time.perf_counter()
    model, loss = train(model, data)
    ys = solve(term_of(model), along, 1e-6).ys
    violations[name] = jnp.abs(jnp.sum(ys, axis=1) - 1)
    seconds = time.perf_counter() - begin
    print(f"{name:13} {loss:8.1e}   {jnp.max(violations[name]):26.1e}   {seconds:7.0f}")

# %% The figure.
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for (name, violation), dash in zip(violations.items(), ("-", "--"), strict=True):
    ax.loglog(along[1:], violation[1:] + 1e-17, dash, label=name)
ax.set(xlabel="time", ylabel="|y1 + y2 + y3 - 1|, plus 1e-17")
ax.legend()
path = Path(__file__).with_suffix(".png")
figure.savefig(path, dpi=150)
print(f"figure: {path.name}")
