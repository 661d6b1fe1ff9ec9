"""Updates that keep a trained tableau at its order."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import stiffrax as srx

KEY = jax.random.key(0)
SOLVER = srx.LearnableRungeKutta(5, order=4, key=KEY)


def test_after_ten_thousand_updates_the_order_conditions_hold_to_rounding():
    optimizer = optax.chain(optax.adam(1e-2), srx.project_order())

    @jax.jit
    def train(params):
        def update(carry, key):
            params, state = carry
            noise = jax.tree.map(lambda x: jax.random.normal(key, x.shape), params)
            updates, state = optimizer.update(noise, state, params)
            return (eqx.apply_updates(params, updates), state), None

        keys = jax.random.split(KEY, 10_000)
        return jax.lax.scan(update, (params, optimizer.init(params)), keys)[0][0]

    (solver, weight) = train((SOLVER, jnp.array(1.0)))
    assert jnp.max(jnp.abs(srx.tableaus.order_residuals(solver.tableau, 4))) < 1e-12
    assert jnp.max(jnp.abs(solver.tableau.A - SOLVER.tableau.A)) > 0.1
    assert weight != 1


def test_other_parameters_pass_unchanged():
    optimizer = srx.project_order()
    updates: Any = (SOLVER, jnp.array(3.0))
    updates, _ = optimizer.update(updates, optimizer.init(SOLVER), (SOLVER, 1.0))
    assert updates[1] == 3


def test_it_refuses_to_work_without_parameters():
    with pytest.raises(ValueError, match=r"Write `optimizer.update\(gradients, state, params\)`"):
        srx.project_order().update(SOLVER, optax.EmptyState())


def test_it_refuses_parameters_without_a_tableau():
    with pytest.raises(ValueError, match="found no tableau among the parameters"):
        srx.project_order().update(jnp.ones(2), optax.EmptyState(), jnp.ones(2))


def test_it_refuses_a_tableau_of_which_a_part_is_frozen():
    trained = eqx.tree_at(lambda s: s.tableau.c, SOLVER, None)
    with pytest.raises(ValueError, match="Make the whole tableau a parameter"):
        srx.project_order().update(trained, optax.EmptyState(), trained)
