"""The compiled loop of a training: what it takes of a loss, and when it is compiled."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stiffrax as srx

TS = np.array([0.0, 0.5, 1.0])
DATA = srx.Trajectories.from_arrays(TS, np.exp(-TS)[:, None])


def run(loss, start=0.5, steps=2, **options):
    model = srx.Polynomial(1, degree=1, coefficients=[[0.0, start]])
    return srx.fit(model, DATA, loss, steps=steps, progress=False, **options)


def exact(model, data):
    return jnp.sum((model.coefficients[:, 1] + 1) ** 2)


def test_a_loss_may_count_in_plain_integers():
    class Own(srx.AbstractLoss):
        def evaluate(self, model, data):
            return srx.LossValue(exact(model, data), 0, 3)

    assert run(Own()).history.loss[0] == 1.5**2


# `scale_by_adam` takes no more than optax's first three arguments.
@pytest.mark.parametrize("optimizer", [None, optax.scale_by_adam()])
def test_a_second_training_of_the_same_kind_compiles_nothing(optimizer):
    traced = []

    def counted(model, data):
        traced.append(model)
        return exact(model, data)

    run(counted, optimizer=optimizer)
    compiled = len(traced)
    run(counted, start=0.7, optimizer=optimizer)
    assert len(traced) - compiled == 1 < compiled  # for the types of the loss alone


@pytest.mark.parametrize(
    ("added", "optimizer", "said"),
    [
        (lambda x: jnp.nan, None, "the loss is nan, though no solve fails"),
        (lambda x: jnp.sqrt(0 * x), None, "the gradient is not finite where the loss is 2.250e+00"),
        (
            lambda x: 0.0,
            optax.scale(jnp.inf),
            "the optimizer makes no finite step of a gradient of norm",
        ),
    ],
)
def test_a_training_says_what_was_not_finite(added, optimizer, said):
    def loss(model, data):
        return exact(model, data) + added(model.coefficients[0, 1])

    fit = run(loss, steps=200, optimizer=optimizer)
    assert fit.stopped == "not finite"
    assert fit.failure.startswith(said)
