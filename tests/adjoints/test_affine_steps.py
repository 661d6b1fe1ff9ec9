"""Three ways to run the recurrence over steps give one answer."""

import functools as ft

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import stiffrax as srx
from stiffrax import linear_algebra
from stiffrax.adjoints._affine_steps import RECURRENCES, LinearizedChunk, entering
from stiffrax.adjoints._linearized_step import LinearizedStep

TABLEAUS = [srx.tableaus.radau_iia(3), srx.tableaus.gauss(2), srx.tableaus.lobatto_iiia(2)]


def run(name, chunk, nodes, p_bar, end):
    start, _, V = RECURRENCES[name](chunk).run(end, entering(chunk, nodes, p_bar), back=True)
    return start, V


RUN = {name: eqx.filter_jit(ft.partial(run, name)) for name in RECURRENCES}


def random_chunk(key, tableau, interior=True, k=6, n=3):
    m, s = tableau.polynomial.shape
    keys = jax.random.split(key, 4)
    decay = jnp.diag(jnp.logspace(0, 4, n))
    hJ_T = jax.random.normal(keys[0], (k, m, n, n)) - decay[None, None]
    hJ0 = jax.random.normal(keys[1], (k, n, n)) if tableau.explicit_first_stage else None
    p_bar = jax.random.normal(keys[2], (k, s, n)) if interior else None
    nodes = jax.random.normal(keys[3], (k, n))
    return (
        LinearizedChunk(LinearizedStep(tableau, hJ_T, hJ0), jnp.arange(k) < 4, None),
        nodes,
        p_bar,
    )


@pytest.mark.slow_cases(
    "associative-*",
    "solve-*Gauss*",
    "solve-Tableau(Radau IIA 5, order=5, stages=3)-True",
    "solve-Tableau(Radau IIA 5, order=5, stages=3)-False",
)
@pytest.mark.parametrize("interior", [True, False])
@pytest.mark.parametrize("tableau", TABLEAUS, ids=repr)
@pytest.mark.parametrize("name", ["associative", "solve"])
def test_every_recurrence_is_that_of_taking_steps_in_turn(name, tableau, interior, getkey):
    inputs = (*random_chunk(getkey(), tableau, interior), jnp.ones(3))
    start, V = RUN["scan"](*inputs)
    other_start, other_V = RUN[name](*inputs)
    np.testing.assert_allclose(other_start, start, rtol=1e-11)
    np.testing.assert_allclose(other_V[:4], V[:4], rtol=1e-10, atol=1e-12)


@pytest.mark.slow_cases("scan", "associative")
@pytest.mark.parametrize("name", RUN)
def test_steps_not_used_pass_on_what_they_get(name, getkey):
    inputs, end = random_chunk(getkey(), TABLEAUS[0]), jnp.ones(3)
    later = inputs[1][4:].sum(axis=0)
    used = jax.tree.map(lambda x: x[:4] if eqx.is_array(x) else x, inputs)
    start, _ = RUN[name](*inputs, end)
    np.testing.assert_allclose(start, RUN[name](*used, end + later)[0], rtol=1e-12)


# The recurrences have their solver from one place, `LinearizedStep`.
@pytest.mark.slow_cases("scan", "associative")
@pytest.mark.parametrize("name", RUN)
def test_any_lineax_solver_solves_the_steps(name, getkey):
    chunk, *inputs = (*random_chunk(getkey(), TABLEAUS[0]), jnp.ones(3))
    by_qr = eqx.tree_at(lambda c: c.linear_solver, chunk, lx.QR(), is_leaf=lambda x: x is None)
    start, _ = RUN[name](by_qr, *inputs)
    np.testing.assert_allclose(start, RUN["scan"](chunk, *inputs)[0], rtol=1e-11)


def test_factors_are_computed_and_judged_once_for_all_that_is_solved(monkeypatch, getkey):
    calls = []
    for name in ("factor_blocks", "equations_hold"):
        function = getattr(linear_algebra, name)
        counted = lambda *args, name=name, function=function: calls.append(name) or function(*args)
        monkeypatch.setattr(linear_algebra, name, counted)
    chunk, nodes, p_bar = random_chunk(getkey(), TABLEAUS[0])

    def twice(ends):
        equations, given = RECURRENCES["scan"](chunk), entering(chunk, nodes, p_bar)
        back = ft.partial(equations.run, given=given, back=True)
        return jax.vmap(lambda end: back(end)[0])(ends), back(ends[0])

    jaxpr = jax.make_jaxpr(twice)(jnp.ones((9, 3)))
    assert sorted(calls) == ["equations_hold", "factor_blocks"]
    loops = [e for e in jaxpr.eqns if e.primitive.name == "scan" and e.params["reverse"]]
    assert len(loops) == 2
    # Small steps are taken without a call of the library, which costs more than all else of them.
    assert not any("dot_general" in str(e.params["jaxpr"]) for e in loops)
