import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

import stiffrax as srx
from stiffrax.stages import (
    Dense,
    Mass,
    StageMethod,
    StageSystem,
    factorize,
    flat_field,
    rounding_rule,
    solve_stages,
)
from stiffrax.tableaus import lobatto_iiia, radau_iia

SUCCESS = optx.RESULTS.successful


def solve(
    vector_field,
    y0,
    h=0.5,
    tableau=radau_iia(1),
    *,
    retry=True,
    root_finder=srx.SimplifiedNewton(),
    linear_solver=None,
    max_steps=50,
    mass=None,
):
    h = jnp.asarray(h)
    t = jnp.zeros((), h.dtype)
    field, flat, _ = flat_field(vector_field, t, y0)
    system = StageSystem(tableau, field, t, h, h, flat, None, mass).with_start_slope()
    hJ = jax.lax.stop_gradient(Dense().scaled(h, field.jacobian(t, flat)))
    method = StageMethod(
        root_finder,
        rounding_rule(jax.lax.stop_gradient(flat)),
        factorize(tableau.transform, hJ, Dense(linear_solver), mass),
        srx.SmallInverse() if linear_solver is None else linear_solver,
        max_steps=max_steps,
        retry_exactly=retry,
    )
    guess = jnp.zeros((tableau.num_stages, flat.size), flat.dtype)
    return solve_stages(system, guess, method)


FAILURES = {
    "no real root": (lambda t, y: y**2, 1.0, 1.0),
    "no value at the start": (lambda t, y: jnp.log(y), -1.0, 0.5),
    "no value on the way": (lambda t, y: -10 * jnp.sqrt(y), 0.01, 1.0),
    "NaN state": (lambda t, y: -y, jnp.nan, 0.5),
    "infinite state": (lambda t, y: -y, jnp.inf, 0.5),
    "singular matrix": (lambda t, y: y, 1.0, 1.0),
}


def failing(name, p, y0, h, **options):
    """One program for all of them."""
    fields = [vector_field for vector_field, _, _ in FAILURES.values()]
    return solve(lambda t, y: p * jax.lax.switch(name, fields, t, y), y0[None], h, **options)


def failure(name):
    _, y0, h = FAILURES[name]
    return jnp.array(list(FAILURES).index(name)), jnp.array(1.0), jnp.array(y0), jnp.array(h)


SOLVE_FAILING = eqx.filter_jit(failing)


@pytest.mark.parametrize("root_finder", [srx.SimplifiedNewton(), optx.Newton(1e-10, 1e-10)])
@pytest.mark.parametrize("name", FAILURES)
def test_a_system_that_cannot_be_solved_is_never_called_solved(name, root_finder):
    solution = SOLVE_FAILING(*failure(name), root_finder=root_finder)
    assert not solution.converged
    assert solution.result != SUCCESS


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_newton_proper_takes_no_infinite_jacobian_for_convergence(dtype):
    field, h = (lambda t, y: 1 + jnp.sqrt(y)), jnp.asarray(0.1, dtype)
    run = eqx.filter_jit(lambda y0: solve(field, y0, h, linear_solver=lx.LU()))
    assert not run(jnp.zeros(1, dtype)).converged


@jax.jit
@functools.partial(jax.grad, argnums=(1, 2))
def increment_pulled(name, p, y0, h):
    solution = failing(name, p, y0, h)
    return jnp.where(solution.converged, solution.Z[0, 0], 0.0)


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_solve_has_derivative_zero(name):
    assert jax.tree.map(float, increment_pulled(*failure(name))) == (0.0, 0.0)


def test_a_failed_solve_with_a_singular_mass_has_derivative_zero_in_forward_mode():
    mass = Mass(jnp.array([1.0, 0.0]))

    @jax.jit
    def pushed(p):
        failing = lambda p: solve(lambda t, y: p + jnp.log(y), -jnp.ones(2), mass=mass).Z
        return jax.jvp(failing, (p,), (1.0,))[1]

    np.testing.assert_array_equal(pushed(1.0), jnp.zeros((1, 2)))


def test_too_few_iterations_are_reported_as_such():
    few = eqx.filter_jit(lambda y0: solve(lambda t, y: -(y**3), y0, max_steps=2))
    solution = few(jnp.array([10.0]))
    assert not solution.converged
    assert solution.result == optx.RESULTS.nonlinear_max_steps_reached


def test_newton_proper_rescues_a_start_whose_jacobian_says_nothing():
    # The Jacobian is zero at the start, the slope is not: frozen, it makes the iteration diverge.
    start = jnp.array([0.0])

    @eqx.filter_jit
    def stiff(retry):
        return solve(lambda t, y: 1 - 100 * y**3, start, 1.0, retry=retry)

    assert not stiff(False).converged
    solution = stiff(True)
    assert solution.converged
    y1 = solution.Z[0, 0]
    assert abs(y1 - (1 - 100 * y1**3)) < 1e-14
    # The frozen iterations before it count as well.
    assert 0 < solution.exact < solution.iterations


SMALL = {
    "frozen iteration": (lambda y: -1e9 * y**2, 3.1573e-7),
    "exact iteration": (lambda y: -1e9 * jnp.expm1(y / 1e-5), 1e-18),
}


@pytest.mark.slow_cases("frozen iteration-float64", "exact iteration-float64")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SMALL)
def test_a_large_component_does_not_hide_a_small_one_that_is_far_from_its_root(name, dtype):
    # Both iterations are slow in the small component: from 1e-4, by a tenth of it at a time.
    field, root = SMALL[name]
    y0 = jnp.array([1.0, 1e-4], dtype)
    vector_field = lambda t, y: jnp.stack([0 * y[0], field(y[1])])
    solution = eqx.filter_jit(functools.partial(solve, vector_field))(y0, jnp.ones((), dtype))
    assert solution.converged
    # What the increment is added to is rounded to 1.2e-11 in single precision.
    atol = 2 * float(jnp.finfo(dtype).eps) * 1e-4
    np.testing.assert_allclose(y0[1] + solution.Z[0, 1], root, rtol=1e-3, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("linear_solver", [lx.LU(), lx.QR(), lx.GMRES(1e-12, 1e-12)])
def test_any_linear_solver_gives_the_same_stages_and_derivatives(linear_solver):
    @eqx.filter_jit
    def stages_and_jacobian(y0, linear_solver):
        def stages(y0):
            Z = solve(
                lambda t, y: jnp.stack([-y[0] * y[1], y[0] - 20 * y[1]]),
                y0,
                tableau=radau_iia(3),
                linear_solver=linear_solver,
            ).Z
            return Z, Z

        return jax.jacrev(stages, has_aux=True)(y0)

    y0 = jnp.array([1.0, 0.5])
    for a, b in zip(
        stages_and_jacobian(y0, None), stages_and_jacobian(y0, linear_solver), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


def riccati_end(p, y0):
    """Backward Euler for `y' = -p y^2` with `h = 1/2`: a closed form to differentiate."""
    return (jnp.sqrt(1 + 2 * p * y0) - 1) / p


def solved_end(p, y0):
    return y0 + solve(lambda t, y: -p * y**2, y0[None]).Z[0, 0]


@pytest.mark.slow_cases("jacfwd-jacfwd", "jacfwd-jacrev", "jacrev-jacfwd")
@pytest.mark.parametrize("first", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("second", [jax.jacfwd, jax.jacrev])
def test_second_derivatives_are_exact_in_every_order_of_modes(first, second):
    def hessian(f):
        return jax.jit(second(first(f, argnums=(0, 1)), argnums=(0, 1)))

    at = jnp.array(0.7), jnp.array(2.0)
    ours, exact = hessian(solved_end)(*at), hessian(riccati_end)(*at)
    np.testing.assert_allclose(jnp.array(ours), jnp.array(exact), rtol=1e-13)


@pytest.mark.slow
def test_batches_of_derivatives_and_derivatives_of_batches_agree():
    p, y0 = jnp.array([0.5, 0.7, 0.9]), jnp.array([1.0, 2.0, 3.0])
    batch = jax.jit(jax.vmap(jax.grad(solved_end), (0, 0)))(p, y0)
    total = jax.jit(jax.grad(lambda p: jnp.sum(jax.vmap(solved_end)(p, y0))))(p)
    exact = jax.vmap(jax.grad(riccati_end))(p, y0)
    np.testing.assert_allclose(batch, exact, rtol=1e-13)
    np.testing.assert_allclose(total, exact, rtol=1e-13)


@pytest.mark.slow
def test_the_derivative_does_not_depend_on_the_guess():
    def end(y0):
        field, flat, _ = flat_field(lambda t, y: -(y**2), jnp.array(0.0), y0[None])
        t, h = jnp.array(0.0), jnp.array(0.5)
        system = StageSystem(radau_iia(1), field, t, h, h, flat, None)
        factors = factorize(radau_iia(1).transform, h * field.jacobian(t, flat), Dense())
        rule = rounding_rule(flat)
        newton = srx.SimplifiedNewton()
        method = StageMethod(newton, rule, factors, srx.SmallInverse(), 50, True)
        return y0 + solve_stages(system, -0.1 * y0[None, None] ** 2, method).Z[0, 0]

    exact = jax.grad(riccati_end, argnums=1)(1.0, 2.0)
    np.testing.assert_allclose(jax.grad(end)(jnp.array(2.0)), exact, rtol=1e-13)


@pytest.mark.slow
def test_the_slope_at_the_start_is_differentiated_with_the_stages():
    def parts(p):
        solution = solve(lambda t, y: -p * y, jnp.ones(1), tableau=lobatto_iiia(2))
        return solution.Z[0, 0], solution.hf0[0]

    Z_dot, hf0_dot = jax.jacrev(parts)(2.0)
    # y1 = (1 - hp/2) / (1 + hp/2) with h = 1/2, and h f0 = -h p.
    np.testing.assert_allclose(Z_dot, -0.5 / 1.5**2, rtol=1e-14)
    np.testing.assert_allclose(hf0_dot, -0.5, rtol=1e-15)


@pytest.mark.slow
def test_a_singular_matrix_in_the_derivative_of_one_lane_raises_nothing_for_the_others():
    # Backward Euler for y' = y^2 - c has a double root where 1 = 4 h (y0 - h c): no derivative.
    @jax.jit
    def gradient(y0, weight):
        def loss(y0):
            ends = jax.vmap(lambda y: y + solve(lambda t, y: y**2, y[None], 1.0).Z[0, 0])(y0)
            return jnp.sum(weight * ends)

        return jax.grad(loss)(y0)

    y0 = jnp.array([0.1, 0.0, -1.0])
    exact = 1 / jnp.sqrt(1 - 4 * y0)
    np.testing.assert_allclose(gradient(y0, jnp.ones(3)), exact, rtol=1e-13)
    spoiled = gradient(y0, jnp.array([1.0, jnp.nan, 1.0]))
    np.testing.assert_allclose(spoiled[::2], exact[::2], rtol=1e-13)
    assert jnp.isnan(spoiled[1])
