"""The transposed equations of Rosenbrock steps against JAX's derivative of the steps as maps."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.adjoints._recorded_steps import Chunk, StepMaps
from stiffrax.adjoints._rosenbrock_equations import RosenbrockEquations
from stiffrax.diffrax_loop import Step

# Masses that couple, a field that reads the time and bends, stiff in the second component.
MASS = jnp.array([[2.0, 1.0], [0.5, 3.0]])


def field(t, y, rate):
    return jnp.stack([jnp.sin(t * y[1]) - y[0] * y[1], rate * (y[0] ** 2 - y[1])])


def steps(kind: Any, key: jax.Array) -> tuple[Any, Step]:
    """Four steps, as the equations of `kind` and as they were recorded."""
    solver, y0 = srx.Rodas3P(), jax.random.normal(key, (4, 2))
    inputs = srx.MassMatrixTerm(field, MASS), jnp.array(300.0)
    parameters, others = eqx.partition(inputs, eqx.is_inexact_array)
    t0 = jnp.array([0.0, 0.1, 0.3, 0.4])
    given: Any = (parameters, others, y0[0])
    given = (*given, solver) if kind is StepMaps else (solver, *given)
    return kind(*given), Step(t0, t0 + 0.1, y0, y0, None)


@pytest.mark.slow_cases("scan", "associative")
@pytest.mark.parametrize("recurrence", ["scan", "associative", "solve"])
def test_cotangents_are_pulled_as_through_the_steps_themselves(recurrence, getkey):
    key, used = getkey(), jnp.array([True, True, True, False])
    nodes = jax.random.normal(getkey(), (5, 2))
    polynomials = jax.random.normal(getkey(), (4, 3, 2)).at[-1].set(0)

    def pulled(kind: Any, recurrence: str) -> Any:
        equations, recorded = steps(kind, key)
        pull = lambda *bar: equations.pulled(Chunk(recorded, used, recurrence), *bar, times=True)
        start, bar = jax.jit(pull)(nodes, polynomials)
        return [start, *jax.tree.leaves(bar)]

    for x, y in zip(pulled(RosenbrockEquations, recurrence), pulled(StepMaps, "scan"), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-11 * np.max(np.abs(y)))


@pytest.mark.slow_cases("scan")
@pytest.mark.parametrize("recurrence", ["scan", "solve"])
def test_a_step_of_no_length_passes_on_what_it_gets_with_a_constraint(recurrence):
    inputs = srx.MassMatrixTerm(field, jnp.array([1.0, 0.0])), jnp.array(300.0)
    y0, t0 = jnp.array([[0.1, 0.01]]), jnp.array([0.5])
    equations = RosenbrockEquations(
        srx.Rodas3P(), *eqx.partition(inputs, eqx.is_inexact_array), y0[0]
    )
    nodes, still = jnp.array([[1.0, 2.0], [3.0, 4.0]]), Step(t0, t0, y0, y0, None)
    chunk = Chunk(still, jnp.array([True]), recurrence)
    pull = jax.jit(lambda: equations.pulled(chunk, nodes, None, times=True))
    start, bar = pull()
    np.testing.assert_array_equal(start, [4.0, 6.0])
    assert all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(bar))


@pytest.mark.slow
@pytest.mark.parametrize("recurrence", ["scan", "solve"])
def test_they_change_with_starts_and_parameters_as_those_of_the_steps_do(recurrence, getkey):
    key, used = getkey(), jnp.ones(4, bool)
    bar = jax.random.normal(getkey(), (5, 2)), jax.random.normal(getkey(), (4, 3, 2))
    direction = jax.random.normal(getkey(), (4, 2))

    def change(kind: Any, recurrence: str) -> Any:
        equations, recorded = steps(kind, key)

        def pulled(parameters: Any, y0: jax.Array) -> Any:
            at = eqx.tree_at(lambda e: e.parameters, equations, parameters)
            moved = eqx.tree_at(lambda s: s.y0, recorded, y0)
            return at.pulled(Chunk(moved, used, recurrence), *bar, times=True)

        given = equations.parameters, recorded.y0
        along = jax.tree.map(jnp.ones_like, equations.parameters), direction
        return jax.tree.leaves(jax.jit(lambda: jax.jvp(pulled, given, along)[1])())

    for x, y in zip(change(RosenbrockEquations, recurrence), change(StepMaps, "scan"), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10 * np.max(np.abs(y)))
