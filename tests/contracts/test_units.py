"""Nothing depends on the units of states, times and parameters, from 1e-60 to 1e60."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import stiffrax as srx
from stiffrax.stages import Mass, flat_field

RATES = jnp.array([0.04, 3e7, 1e4])
RTOL = 1e-8


def reactions(y, rates):
    k1, k2, k3 = rates
    slow, fast, back = k1 * y[0], k3 * y[1] * y[2], k2 * y[1] ** 2
    return jnp.stack([-slow + fast, slow - fast - back, back])


@eqx.filter_jit
def value_and_gradients(solver, adjoint, states, time, parameters):
    """The end of a solve in these units, and its gradients by start and rates, in units of one."""

    def end(y0, rates):
        sol = diffrax.diffeqsolve(
            diffrax.ODETerm(
                lambda t, y, rates: reactions(y / states, rates / parameters) * states / time
            ),
            solver,
            0.0,
            1e5 * time,
            1e-6 * time,
            y0,
            rates,
            stepsize_controller=diffrax.PIDController(
                rtol=RTOL, atol=RTOL * jnp.array([1e-2, 1e-8, 1e-2]) * states
            ),
            adjoint=adjoint,
            max_steps=256,
        )
        return sol.ys[-1, 0] / states[0]

    y0, rates = jnp.array([1.0, 0.0, 0.0]) * states, RATES * parameters
    value, (by_start, by_rates) = jax.value_and_grad(end, argnums=(0, 1))(y0, rates)
    return value, by_start * states, by_rates * parameters * RATES


ADJOINTS = {
    "DiscreteAdjoint": srx.DiscreteAdjoint(),
    "RecursiveCheckpointAdjoint": diffrax.RecursiveCheckpointAdjoint(),
    "ForwardSensitivity": srx.ForwardSensitivity(),
    "GaussAdjoint": srx.GaussAdjoint(rtol=1e-7),
    "InterpolatingAdjoint": srx.InterpolatingAdjoint(rtol=1e-7),
    "QuadratureAdjoint": srx.QuadratureAdjoint(rtol=1e-7),
}
# The error control of continuous adjoints is theirs: their steps move with rounding.
DIGITS = {"GaussAdjoint": 1e-4, "InterpolatingAdjoint": 1e-4, "QuadratureAdjoint": 1e-4}


def powers_of_ten(shapes, count):
    """Draws of units from 1e-60 to 1e60, for each of the shapes."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield [jnp.asarray(10.0 ** rng.integers(-60, 61, shape)) for shape in shapes]


CHEAP = ("RecursiveCheckpointAdjoint", "DiscreteAdjoint")


@pytest.mark.slow
@pytest.mark.parametrize("name", ADJOINTS)
def test_solutions_and_gradients_do_not_depend_on_units(name):
    solver, adjoint = srx.RadauIIA9(), ADJOINTS[name]
    one = jnp.ones(3)
    expected = value_and_gradients(solver, adjoint, one, jnp.array(1.0), one)
    draws = [[jnp.array([1.0, 1e-12, 1e12]), jnp.array(1.0), one]]
    draws += powers_of_ten((3, (), 3), 20 if name in CHEAP else 5)
    for states, time, parameters in draws:
        found = value_and_gradients(solver, adjoint, states, time, parameters)
        for a, b in zip(found, expected, strict=True):
            atol = DIGITS.get(name, 1e-9) * np.max(np.abs(b))
            np.testing.assert_allclose(a, b, rtol=DIGITS.get(name, 1e-6), atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["diagonally_implicit", "implicit"])
def test_gradients_of_learnable_methods_do_not_depend_on_units(kind):
    @eqx.filter_jit
    def gradients(states, time, parameters):
        def end(inputs):
            solver, y0, rates = inputs
            sol = diffrax.diffeqsolve(
                diffrax.ODETerm(
                    lambda t, y, rates: reactions(y / states, rates / parameters) * states / time
                ),
                solver,
                0.0,
                time,
                time / 8,
                y0,
                rates,
                max_steps=8,
                adjoint=srx.DiscreteAdjoint(),
            )
            return sol.ys[-1, 0] / states[0]

        solver = srx.LearnableRungeKutta(2, kind, 2, key=jax.random.key(1))
        y0, rates = jnp.array([1.0, 1e-5, 0.1]) * states, RATES * parameters
        by_solver, by_start, by_rates = eqx.filter_grad(end)((solver, y0, rates))
        return ravel_pytree(by_solver)[0], by_start * states, by_rates * parameters * RATES

    one = jnp.ones(3)
    expected = gradients(one, jnp.array(1.0), one)
    for units in powers_of_ten((3, (), 3), 5):
        for a, b in zip(gradients(*units), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9 * np.max(np.abs(b)))


FORMS = {"diagonal": np.eye(4), "general": np.array(
    [[1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
)}  # fmt: skip


def dissociation(y, rates):
    """A source of a weak acid, its fast dissociation as a constraint, and what its ion becomes."""
    acid, ion, product, water = y
    supply, balance, decay = rates
    loss = decay * ion
    return jnp.stack(
        [-supply * acid, supply * acid - loss, loss, ion**2 + 1e-3 * ion - balance * water]
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_differential_algebraic_equations_do_not_depend_on_units(form):
    @eqx.filter_jit
    def solution(states, rows, time, parameters):
        L = jnp.asarray(FORMS[form])

        def field(t, y, rates):
            return L @ dissociation(y / states, rates / parameters) * rows

        # Rows of equations have units of their own as well.
        mass = L @ jnp.diag(jnp.array([1.0, 1.0, 1.0, 0.0]) * time / states) * rows[:, None]
        mass = jnp.diag(mass) if form == "diagonal" else mass

        def end(y0, rates):
            sol = diffrax.diffeqsolve(
                srx.MassMatrixTerm(field, mass),
                srx.RadauIIA5(),
                0.0,
                time,
                1e-3 * time,
                y0,
                rates,
                stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10 * states),
                adjoint=srx.DiscreteAdjoint(),
                max_steps=256,
            )
            return sol.ys[-1, 3] / states[3]

        y0 = jnp.array([1.0, 0.1, 0.0, 0.0101]) * states
        rates = jnp.array([2.0, 1.0, 1e3]) * parameters
        value, by_rates = jax.value_and_grad(end, argnums=1)(y0, rates)
        return value, by_rates * rates

    expected = solution(jnp.ones(4), jnp.ones(4), jnp.array(1.0), jnp.ones(3))
    assert np.all(np.isfinite(expected[1]))
    assert np.all(expected[1] != 0)
    for units in powers_of_ten((4, 4, (), 3), 5):
        for a, b in zip(solution(*units), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9 * np.max(np.abs(b)))


def acid_in_units(form, states, rows):
    """The vector field and the mass of the dissociation, equations in units of their own."""
    L, rates = jnp.asarray(FORMS[form]), jnp.array([2.0, 1.0, 1e3])
    mass = L @ jnp.diag(jnp.array([1.0, 1.0, 1.0, 0.0]) / states) * rows[:, None]
    return srx.MassMatrixTerm(
        lambda t, y, args: L @ dissociation(y / states, rates) * rows,
        jnp.diag(mass) if form == "diagonal" else mass,
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_whether_a_start_is_consistent_does_not_depend_on_units(form):
    @jax.jit
    def result(states, rows, water):
        y0 = jnp.array([1.0, 0.1, 0.0, 1.0]).at[3].set(water) * states
        solver = srx.RadauIIA5()
        term = acid_in_units(form, states, rows)
        return diffrax.diffeqsolve(term, solver, 0.0, 1e-6, 1e-6, y0, throw=False).result

    for states, rows in [[jnp.ones(4)] * 2, *powers_of_ten((4, 4), 5)]:
        for water, fits in ((0.0101, True), (0.0102, False)):
            found = result(states, rows, water)
            assert (found == diffrax.RESULTS.successful) == fits


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_consistent_starts_do_not_depend_on_units(form):
    for states, rows in powers_of_ten((4, 4), 2):
        y0 = jnp.array([1.0, 0.1, 0.0, 3.0])
        term = acid_in_units(form, states, rows)
        found = srx.consistent_initial_values(term, 0.0, y0 * states) / states
        np.testing.assert_allclose(found, y0.at[3].set(0.0101), rtol=1e-12, atol=1e-15)


STRUCTURES = {
    "Dense": (srx.Dense(), 5, lambda i, j: i == i),
    "Banded": (srx.Banded(1, 1), 20, lambda i, j: abs(i - j) <= 1),
    "Banded in blocks": (srx.Banded(4, 3), 40, lambda i, j: (i - j <= 4) & (j - i <= 3)),
    "BlockDiagonal": (srx.BlockDiagonal(4), 8, lambda i, j: i // 4 == j // 4),
}


@pytest.mark.slow_cases(
    "False-Dense",
    "False-BlockDiagonal",
    "True-BlockDiagonal",
    "False-Banded",
    "True-Banded",
    "True-Banded in blocks",
)
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("with_mass", [False, True])
def test_factors_do_not_depend_on_units(name, with_mass):
    structure, n, pattern = STRUCTURES[name]
    rng = np.random.default_rng(1)
    J = jnp.where(pattern(*np.indices((n, n))), rng.normal(size=(n, n)), 0) - 4 * jnp.eye(n)
    b = jnp.asarray(rng.normal(size=(2, n)))

    @jax.jit
    def solution(rows, states):
        field, *_ = flat_field(lambda t, y: rows * (J @ (y / states)), jnp.array(0.0), states)
        hJ = structure.jacobian(field, jnp.array(0.0), states)
        # The last equation of each block is a constraint.
        kept = jnp.arange(n) % 4 < 3
        mass = (
            structure.mass_matrix(Mass(jnp.where(kept, rows / states, 0.0))) if with_mass else None
        )
        factors = structure.factor(np.array([3.0, 2.0 + 1j]), hJ, mass)
        return structure.solve(factors, (rows[None] * b).astype(complex)) / states[None].astype(
            complex
        )

    expected = solution(jnp.ones(n), jnp.ones(n))
    for rows, states in powers_of_ten((n, n), 5):
        found = solution(rows if with_mass else states, states)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
