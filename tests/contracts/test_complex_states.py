"""Complex states: solves, error control, dense output, gradients, constraints."""

import functools
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest
import scipy.integrate
import scipy.linalg
from jax import lax

import stiffrax as srx

pytestmark = pytest.mark.filterwarnings("ignore:Complex dtype support in Diffrax")

CONTROL = diffrax.PIDController(rtol=1e-8, atol=1e-10)
CHECKPOINTS = diffrax.RecursiveCheckpointAdjoint()


def solve(field, solver, y0, args=None, *, t1=1.0, control=CONTROL, **kwargs) -> Any:
    term = field if isinstance(field, diffrax.AbstractTerm) else diffrax.ODETerm(field)
    return diffrax.diffeqsolve(
        term, solver, 0.0, t1, None, y0, args, stepsize_controller=control, **kwargs
    )


# --- A rotation beside a real state that reads it ---------------------------------------------------


def rotation(t, y, omega):
    return {"z": 1j * omega * y["z"], "x": -y["x"] + jnp.real(y["z"][0])}


START = {"z": jnp.array([1 + 0.5j, 0.3 - 1j]), "x": jnp.array(0.5)}
OMEGA = 3.0


def rotated(t):
    z = np.asarray(START["z"]) * np.exp(1j * OMEGA * t)
    # Of x' = -x + Re(a e^{i w t}).
    part = z[..., :1] / (1 + 1j * OMEGA)
    start = START["z"][0] / (1 + 1j * OMEGA)
    x = float(START["x"] - start.real) * np.exp(-t) + part.real
    return {"z": z, "x": x}


SOLVERS = {
    "RadauIIA5": (srx.RadauIIA5(), 1e-7),
    "Rodas5P": (srx.Rodas5P(), 1e-7),
    "RadauIIA3": (srx.RadauIIA3(), 1e-6),
    "RadauIIA9": (srx.RadauIIA9(), 1e-7),
    "RadauIIA13": (srx.RadauIIA13(), 1e-7),
    "GaussLegendre4": (srx.GaussLegendre4(), 1e-6),
    "Trapezoid": (srx.Trapezoid(), 1e-3),
    "BackwardEuler": (srx.BackwardEuler(), 1e-2),
    "variable": (srx.RadauIIA(order="auto"), 1e-7),
}


@pytest.mark.slow_cases(
    "RadauIIA3",
    "RadauIIA1*",
    "RadauIIA9",
    "GaussLegendre4",
    "Trapezoid",
    "Back*",
    "variable",
    "Rodas5P",
)
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_rotates_and_keeps_the_types_of_leaves(name):
    solver, bound = SOLVERS[name]
    control = CONTROL if bound < 1e-4 else diffrax.PIDController(rtol=bound / 10, atol=bound / 10)
    ts = jnp.linspace(0.0, 1.0, 4)
    # Of leaves of two types diffrax takes the common one.
    with jax.numpy_dtype_promotion("standard"):
        ys = solve(rotation, solver, START, OMEGA, control=control, saveat=diffrax.SaveAt(ts=ts)).ys
    expected = rotated(np.asarray(ts)[:, None])
    assert ys["z"].dtype == jnp.complex128
    assert ys["x"].dtype == jnp.float64
    np.testing.assert_allclose(ys["z"], expected["z"], atol=bound)
    np.testing.assert_allclose(ys["x"], expected["x"][:, 0], atol=bound)


def test_single_precision_stays_single():
    start = START["z"].astype(jnp.complex64)
    field = lambda t, z, args: jax.lax.complex(0.0 * z.real, 3 * jnp.ones_like(z.real)) * z
    control = diffrax.PIDController(rtol=1e-4, atol=1e-6)
    ys = solve(field, srx.RadauIIA5(), start, control=control, t1=jnp.float32(1.0)).ys
    assert ys.dtype == jnp.complex64
    np.testing.assert_allclose(ys[-1], rotated(1.0)["z"], rtol=1e-3)


# --- A limit cycle: a field that is not holomorphic -------------------------------------------------

STIFFNESS = 1e4


def cycle(t, z, k):
    return k * (1 - jnp.abs(z) ** 2).astype(z.dtype) * z + 1j * z


@functools.cache
def on_cycle(turn):
    start = jnp.array(0.5 * np.exp(1j * turn))
    saveat = diffrax.SaveAt(dense=True, t1=True)
    return solve(cycle, srx.RadauIIA5(), start, STIFFNESS, t1=2.0, saveat=saveat)


def test_a_stiff_field_that_is_not_holomorphic():
    sol = on_cycle(0.0)
    np.testing.assert_allclose(sol.ys[-1], np.exp(2j), atol=1e-7)
    # As a state of two real components it takes 660, at tolerances of each of them.
    assert sol.stats["num_steps"] < 660
    t = 2e-5
    radius = (1 + 3 * np.exp(-2 * STIFFNESS * t)) ** -0.5
    np.testing.assert_allclose(sol.evaluate(t), radius * np.exp(1j * t), rtol=1e-5)


def test_a_tolerance_is_that_of_an_absolute_value():
    # Where one part passes zero, its own tolerance would be `atol`.
    plain, turned = on_cycle(0.0), on_cycle(0.7)
    np.testing.assert_allclose(turned.stats["num_steps"], plain.stats["num_steps"], rtol=0.1)
    np.testing.assert_allclose(turned.ys, plain.ys * np.exp(0.7j), atol=1e-8)


@pytest.mark.slow_cases("Rodas")
@pytest.mark.parametrize("solver", [srx.RadauIIA5(), srx.Rodas4P()], ids=["Radau", "Rodas"])
def test_a_step_that_fails_is_rejected_and_not_taken(solver):
    # Beyond |z| = 2 the field is NaN: what is not a number in one part is an infinite error.
    field = lambda t, z, args: jnp.where(jnp.abs(z) < 2, 1 + 0j, jnp.nan) * jnp.ones_like(z)
    sol = solve(field, solver, jnp.array([1j]), t1=3.0, throw=False)
    assert sol.result != diffrax.RESULTS.successful
    assert sol.stats["num_rejected_steps"] > 0
    assert np.abs(sol.ys[-1, 0]) == pytest.approx(2, abs=1e-3)


def test_what_is_said_of_a_failure_names_an_entry_of_the_state():
    start = jnp.array([1 + 0j, 1 + 0j])
    field = lambda t, z, args: jnp.array([0, 1e3]) * z**2
    with jax.numpy_dtype_promotion("standard"):
        sol = solve(
            field, srx.RadauIIA5(), start, adjoint=srx.DiscreteAdjoint(), throw=False, max_steps=64
        )
    assert "b has the largest error" in srx.diagnostics.explain(sol, names=["a", "b"])


# --- Two levels, one of which decays fast -----------------------------------------------------------

LEVELS = (jnp.array(0.8), jnp.array(2.0 + 1.5j))
AMPLITUDES = jnp.array([1.0 + 0j, 0.2j])
DECAY = 1e3


def generator(detuning, coupling):
    zero = jnp.zeros_like(coupling)
    diagonal = jax.lax.complex(-DECAY * jnp.ones_like(detuning), -detuning)
    return jnp.stack(
        [jnp.stack([zero, -1j * coupling]), jnp.stack([-1j * jnp.conj(coupling), diagonal])]
    )


def population(c):
    return jnp.abs(c[0]) ** 2 + 100 * jnp.real(c[1] * jnp.conj(c[0]))


def of_amplitudes(levels, start, solver, adjoint):
    field = lambda t, c, levels: generator(*levels) @ c
    return population(solve(field, solver, start, levels, adjoint=adjoint).ys[-1])


def exact(levels, start):
    return population(jax.scipy.linalg.expm(generator(*levels), max_squarings=32) @ start)


exact_gradient = jax.jit(jax.grad(exact, (0, 1)))


ADJOINTS = {
    "DiscreteAdjoint": (srx.DiscreteAdjoint(), 1e-6),
    "steps": (srx.DiscreteAdjoint(memory="steps", recurrence="solve"), 1e-6),
    "ForwardSensitivity": (srx.ForwardSensitivity(), 1e-6),
    "GaussAdjoint": (srx.GaussAdjoint(), 1e-4),
    "InterpolatingAdjoint": (srx.InterpolatingAdjoint(), 1e-4),
    "QuadratureAdjoint": (srx.QuadratureAdjoint(), 1e-4),
    "ImexAdjoint": (srx.ImexAdjoint(), 1e-4),
}


@pytest.mark.slow_cases("steps-*", "Forward*", "Gauss*", "Interp*", "Quad*", "Imex*", "*-Rodas5P")
@pytest.mark.parametrize("solver", [srx.RadauIIA5(), srx.Rodas5P()], ids=["RadauIIA5", "Rodas5P"])
@pytest.mark.parametrize("name", ADJOINTS)
def test_gradients_by_real_and_complex_parameters(name, solver):
    adjoint, bound = ADJOINTS[name]
    if bound > 1e-6 and isinstance(solver, srx.AbstractRosenbrock):
        pytest.skip("continuous adjoints need an implicit Runge-Kutta method")
    gradient = jax.grad(of_amplitudes, (0, 1))
    found = jax.jit(lambda *at: gradient(*at, solver, adjoint))(LEVELS, AMPLITUDES)
    expected = exact_gradient(LEVELS, AMPLITUDES)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=bound)


@pytest.mark.slow
def test_gradients_are_those_of_the_steps_and_of_other_solvers():
    ours, _ = ADJOINTS["DiscreteAdjoint"]
    at, start = LEVELS, AMPLITUDES
    found = jax.grad(of_amplitudes, (0, 1))(at, start, srx.RadauIIA5(), ours)
    same = jax.grad(of_amplitudes, (0, 1))(at, start, srx.RadauIIA5(), CHECKPOINTS)
    other = jax.grad(of_amplitudes, (0, 1))(at, start, diffrax.Dopri8(), CHECKPOINTS)
    for a, b, c in zip(*map(jax.tree.leaves, (found, same, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(a, c, atol=1e-5)


@pytest.mark.slow
def test_forward_mode_is_the_transpose_of_reverse_mode_and_has_a_derivative():
    def loss(levels, start):
        return of_amplitudes(levels, start, srx.RadauIIA5(), srx.DiscreteAdjoint())

    at = (LEVELS, AMPLITUDES)
    along = ((jnp.array(0.3), jnp.array(-0.4 + 0.9j)), jnp.array([0.1j, 1.0 - 2j]))
    gradient = jax.grad(loss, (0, 1))(*at)
    _, pushed = jax.jvp(loss, at, along)
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True)
    # JAX pairs cotangents and tangents by the real part of their product.
    pulled = sum(np.sum(np.asarray(g * d)).real for g, d in pairs)
    np.testing.assert_allclose(pushed, pulled, rtol=1e-11)
    _, second = jax.jvp(jax.grad(loss, (0, 1)), at, along)
    _, expected = jax.jvp(jax.grad(exact, (0, 1)), at, along)
    for a, b in zip(jax.tree.leaves(second), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


# --- Lindblad equations -----------------------------------------------------------------------------


def lindblad(levels, seed=0):
    """A Hamiltonian, a fast and a slow jump operator: random, but the same."""
    rng = np.random.default_rng(seed)
    H, L = (rng.normal(size=(2, levels, levels)) for _ in range(2))
    H, L = H[0] + 1j * H[1], np.triu(L[0] + 1j * L[1], 1)
    return H + H.conj().T, [20 * L, 0.1 * np.diag(np.arange(levels)) + 0j]


def density_field(t, rho, system):
    H, jumps = system
    slope = -1j * (H @ rho - rho @ H)
    for L in jumps:
        both = L.conj().T @ L
        slope = slope + L @ rho @ L.conj().T - 0.5 * (both @ rho + rho @ both)
    return slope


def liouvillian(system):
    n = len(system[0])
    units = np.eye(n * n).reshape(n * n, n, n)
    return np.stack([density_field(0.0, unit, system).reshape(-1) for unit in units], axis=1)


def mixed(levels):
    return np.full((levels, levels), 1 / levels) + 0j


@pytest.mark.slow
def test_a_lindblad_equation_keeps_trace_and_symmetry():
    system, rho = lindblad(4), mixed(4)
    found = solve(density_field, srx.RadauIIA5(), jnp.asarray(rho), system).ys[-1]
    expected = (scipy.linalg.expm(liouvillian(system)) @ rho.reshape(-1)).reshape(4, 4)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_allclose(jnp.trace(found), 1, atol=1e-12)
    np.testing.assert_allclose(found, found.conj().T, atol=1e-12)


@pytest.mark.slow
def test_sixteen_levels_as_scipy_solves_them():
    system, rho = lindblad(16), mixed(16)
    found = solve(density_field, srx.RadauIIA5(), jnp.asarray(rho), system, t1=0.1).ys[-1]
    matrix = liouvillian(system)
    expected = scipy.linalg.expm(0.1 * matrix) @ rho.reshape(-1)
    np.testing.assert_allclose(found.reshape(-1), expected, atol=1e-8)
    # Its only implicit method for complex states.
    reference = scipy.integrate.solve_ivp(
        lambda t, y: matrix @ y, (0, 0.1), rho.reshape(-1), "BDF", jac=matrix, rtol=1e-8, atol=1e-10
    )
    np.testing.assert_allclose(found.reshape(-1), reference.y[:, -1], atol=1e-6)


# --- Constraints ------------------------------------------------------------------------------------


def constrained(t, y, args):
    """Z' = -i z + w, of which the constraint says w = -z conj(a)."""
    z, w = y
    return jnp.stack([-1j * z + w, w + jnp.conj(args) * z])


@pytest.mark.slow
@pytest.mark.parametrize(
    "mass",
    [jnp.array([1.0, 0.0]), jnp.array([[1.0, 0.0], [1.0, 0.0]])],
    ids=["diagonal", "matrix"],
)
def test_a_constraint_between_complex_states(mass):
    a = jnp.array(0.5 + 0.25j)
    field = constrained
    if mass.ndim == 2:
        # The same equations, the first added to the second.
        field = lambda t, y, args: jnp.cumsum(constrained(t, y, args))
    term = srx.MassMatrixTerm(field, mass)
    start = srx.consistent_initial_values(term, 0.0, jnp.array([1 + 1j, 0j]), a)
    np.testing.assert_allclose(start[1], -jnp.conj(a) * start[0], rtol=1e-12)

    def end(a):
        return jnp.real(
            solve(term, srx.RadauIIA5(), start, a, adjoint=srx.DiscreteAdjoint()).ys[-1, 0]
        )

    value, gradient = eqx.filter_value_and_grad(end)(a)
    expected = lambda a: jnp.real((1 + 1j) * jnp.exp(-1j - jnp.conj(a)))
    np.testing.assert_allclose(value, expected(a), rtol=1e-7)
    np.testing.assert_allclose(gradient, jax.grad(expected)(a), rtol=1e-6)


@pytest.mark.parametrize(
    "mass",
    [jnp.array([1j, 1.0]), lx.MatrixLinearOperator(jnp.eye(2, dtype=complex))],
    ids=["array", "operator"],
)
def test_a_complex_mass_is_refused(mass):
    with pytest.raises(ValueError, match="it needs finite real numbers"):
        srx.MassMatrixTerm(lambda t, y, args: y, mass)


@pytest.mark.slow
def test_an_event_of_a_complex_state_has_its_time_and_gradient_in_every_lane():
    # y = exp((-a + i w) t) has the real part zero at t = pi / (2 w).
    def event(parameters):
        a, w = parameters
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: lax.complex(-a, w) * y),
            srx.RadauIIA9(control_interior=True),
            0.0,
            10.0,
            None,
            jnp.array(1.0 + 0j),
            stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-11),
            event=diffrax.Event(lambda t, y, args, **_: y.real, optx.Newton(1e-10, 1e-10)),
            adjoint=srx.DiscreteAdjoint(),
            max_steps=128,
        )
        return solution.ts[-1], solution.ys[-1].imag

    a, w = np.array([0.3, 0.1, 1.0]), np.array([1.0, 2.0, 0.5])
    by_time, by_state = jax.jit(jax.vmap(jax.jacrev(event)))(jnp.stack([a, w], axis=1))
    t = np.pi / (2 * w)
    state = np.exp(-a * t)
    np.testing.assert_allclose(by_time, np.stack([0 * t, -t / w], axis=1), atol=1e-7)
    np.testing.assert_allclose(
        by_state, np.stack([-t, a * t / w], axis=1) * state[:, None], atol=1e-7
    )
