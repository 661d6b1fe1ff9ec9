"""Updates that keep a trained tableau at its order."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import stiffrax as srx

KEY = jax.random.key(0)
# One that is known is made without compiling a search.
KNOWN = srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2))


@pytest.mark.slow
def test_after_ten_thousand_updates_the_order_conditions_hold_to_rounding():
    start = srx.LearnableRungeKutta(5, order=4, key=KEY)
    optimizer = optax.chain(optax.adam(1e-2), srx.project_order())

    @jax.jit
    def train(params):
        def update(carry, key):
            params, state = carry
            noise = jax.tree.map(lambda x: jax.random.normal(key, x.shape), params)
            with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
                updates, state = optimizer.update(noise, state, params)
            return (eqx.apply_updates(params, updates), state), None

        keys = jax.random.split(KEY, 10_000)
        return jax.lax.scan(update, (params, optimizer.init(params)), keys)[0][0]

    (solver, weight) = train((start, jnp.array(1.0)))
    assert jnp.max(jnp.abs(srx.tableaus.order_residuals(solver.tableau, 4))) < 1e-12
    assert jnp.max(jnp.abs(solver.tableau.A - start.tableau.A)) > 0.1
    assert weight != 1


@pytest.mark.slow
@pytest.mark.parametrize("order", [2, 3])
def test_a_trained_method_has_its_order_on_another_problem(order):
    """Trained on an oscillation in steps of 1.5, measured on predators and prey."""
    solver = srx.LearnableRungeKutta(5, order=order, key=KEY)
    optimizer = optax.chain(optax.adam(optax.cosine_decay_schedule(1e-2, 300)), srx.project_order())

    def stepped(solver, field, h):
        term = diffrax.ODETerm(field)
        return lambda k, y: solver.step(term, k * h, (k + 1) * h, y, None, None, False)[0]

    def loss(solver):
        step = stepped(solver, lambda t, y, args: jnp.stack([-y[1], y[0]]), 1.5)
        turned = step(1.0, step(0.0, jnp.eye(2)[0]))
        return jnp.sum((turned - jnp.stack([jnp.cos(3.0), jnp.sin(3.0)])) ** 2)

    @jax.jit
    def train(solver):
        def update(carry, _):
            solver, state = carry
            with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
                updates, state = optimizer.update(jax.grad(loss)(solver), state, solver)
            return (eqx.apply_updates(solver, updates), state), None

        return jax.lax.scan(update, (solver, optimizer.init(solver)), length=300)[0][0]

    trained = train(solver)
    assert loss(trained) < loss(solver) / 2
    wolves = srx.problems.lotka_volterra()

    @jax.jit
    def end(n):
        field = lambda t, y, args: wolves.vector_field(t, y, wolves.args)
        step = stepped(trained, field, 2.0 / n)
        _, y = jax.lax.while_loop(
            lambda at: at[0] < n, lambda at: (at[0] + 1, step(*at)), (0 * n, jnp.asarray(wolves.y0))
        )
        return y

    coarse, fine = (jnp.linalg.norm(end(n) - end(4096.0)) for n in (128.0, 256.0))
    assert abs(jnp.log2(coarse / fine) - order) < 0.2


def test_other_parameters_pass_unchanged():
    optimizer = srx.project_order()
    updates: Any = (KNOWN, jnp.array(3.0))
    updates, _ = optimizer.update(updates, optimizer.init(KNOWN), (KNOWN, 1.0))
    assert updates[1] == 3


def test_it_refuses_to_work_without_parameters():
    with pytest.raises(ValueError, match=r"Write `optimizer.update\(gradients, state, params\)`"):
        srx.project_order().update(KNOWN, optax.EmptyState())


def test_it_refuses_parameters_without_a_tableau():
    with pytest.raises(ValueError, match="found no tableau among the parameters"):
        srx.project_order().update(jnp.ones(2), optax.EmptyState(), jnp.ones(2))


def test_it_refuses_a_tableau_of_which_a_part_is_frozen():
    trained = eqx.tree_at(lambda s: s.tableau.c, KNOWN, None)
    with pytest.raises(ValueError, match="Make the whole tableau a parameter"):
        srx.project_order().update(trained, optax.EmptyState(), trained)


def test_an_update_of_a_method_whose_conditions_depend_on_each_other_keeps_its_order():
    start = srx.LearnableRungeKutta.from_tableau(diffrax.Tsit5.tableau)
    rng = np.random.default_rng(1)
    moved = jax.tree.map(
        lambda x: jnp.asarray(1e-3 * rng.choice([-1.0, 1.0], x.shape)),
        eqx.filter(start, eqx.is_inexact_array),
    )
    updates, _ = jax.jit(srx.project_order().update)(moved, optax.EmptyState(), start)
    tableau = eqx.apply_updates(start, updates).tableau
    assert jnp.max(jnp.abs(srx.tableaus.order_residuals(tableau, 5))) < 1e-14
    assert jnp.max(jnp.abs(tableau.A - start.tableau.A)) > 1e-4
