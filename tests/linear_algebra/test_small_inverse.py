import re

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

import stiffrax as srx
from stiffrax.linear_algebra._small_inverse import small_inverse, unchecked_inverse

# Closed forms to three; above, elimination that is written out. Nine columns of it compile for long.
SIZES = (1, 2, 3, 4, 5, pytest.param(9, marks=pytest.mark.slow))
# Alone, or as the second of a batch: different code computes them.
both_forms = pytest.mark.parametrize("batched", [False, True], ids=["one", "batch"])


one_inverse = jax.jit(small_inverse)
batch_of_inverses = jax.jit(jax.vmap(small_inverse))


def inverse_of(matrix, batched):
    if not batched:
        return one_inverse(matrix)
    neighbor = np.eye(matrix.shape[-1], dtype=matrix.dtype)
    return batch_of_inverses(np.stack([neighbor, matrix]))[1]


def random_matrix(n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, n))
    return matrix + 1j * rng.normal(size=(n, n)) if dtype is complex else matrix


@both_forms
@pytest.mark.parametrize("n", [3, 4])
def test_columns_of_very_different_size_do_not_underflow_in_single_precision(n, batched):
    # Densities in 1/m^3, and a temperature that drives them.
    matrix = np.eye(n)
    matrix[:-1, -1] = -1e22
    expected = np.eye(n)
    expected[:-1, -1] = 1e22
    inverse = inverse_of(matrix.astype(np.float32), batched)
    np.testing.assert_allclose(inverse, expected, rtol=1e-6)


@both_forms
@pytest.mark.parametrize("n", SIZES)
def test_a_singular_matrix_has_no_finite_inverse_and_raises_nothing(n, batched):
    matrix = random_matrix(n, float)
    matrix[:, 0] = 0
    assert not jnp.any(jnp.all(jnp.isfinite(inverse_of(matrix, batched)), axis=(0, 1)))


@both_forms
@pytest.mark.parametrize("n", SIZES)
def test_a_nan_entry_gives_no_finite_inverse_and_raises_nothing(n, batched):
    matrix = random_matrix(n, float)
    matrix[n - 1, 0] = np.nan
    assert not jnp.all(jnp.isfinite(inverse_of(matrix, batched)))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_singular_lane_changes_no_bit_of_its_neighbors(n):
    matrices = np.stack([random_matrix(n, float, seed) for seed in range(3)])
    healthy = batch_of_inverses(matrices)
    matrices[1] = 0
    spoiled = batch_of_inverses(matrices)
    np.testing.assert_array_equal(spoiled[::2], healthy[::2])


@both_forms
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("rate", [1e-30, 1e14, 1e30])
def test_float32_matrices_of_extreme_size_do_not_overflow(n, rate, batched):
    # A determinant of size rate**n that overflows would make the inverse exactly zero.
    matrix = np.float32(rate) * np.eye(n, dtype=np.float32)
    np.testing.assert_allclose(inverse_of(matrix, batched), np.eye(n) / rate, rtol=1e-6)


@both_forms
@pytest.mark.parametrize("n", [2, 3, 4])
def test_rows_of_very_different_size_keep_their_digits(n, batched):
    scale = 10.0 ** np.linspace(-9, 9, n)
    matrix = random_matrix(n, float)
    inverse = inverse_of(scale[:, None] * matrix, batched)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix) / scale, rtol=1e-12)


@both_forms
@pytest.mark.parametrize("n", SIZES)
def test_a_zero_diagonal_needs_pivots_and_gets_them(n, batched):
    matrix = np.roll(np.eye(n), 1, axis=0) * 2.0
    np.testing.assert_allclose(inverse_of(matrix, batched), matrix.T / 4, rtol=1e-15)


@both_forms
@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("n", SIZES)
def test_inverses_agree_with_numpy(n, dtype, batched):
    matrix = random_matrix(n, dtype)
    inverse = inverse_of(matrix, batched)
    assert inverse.dtype == dtype
    np.testing.assert_allclose(inverse @ matrix, np.eye(n), atol=1e-11)


def test_matrices_above_the_largest_elimination_are_inverted_in_a_batch():
    matrices = np.stack([random_matrix(65, float, seed) for seed in range(2)])
    inverses = jax.vmap(small_inverse)(jnp.asarray(matrices))
    np.testing.assert_allclose(inverses @ matrices, np.stack([np.eye(65)] * 2), atol=1e-10)


@pytest.mark.parametrize(
    ("inverse", "shape"),
    [
        (small_inverse, (3, 50, 50)),
        (unchecked_inverse, (2, 50, 50)),
        (jax.vmap(small_inverse), (4, 70, 70)),
        (jax.vmap(unchecked_inverse), (4, 70, 70)),
    ],
)
def test_the_library_gets_one_matrix_at_a_time(inverse, shape):
    # Of two batches side by side, one real and one complex, neither returned: four runs of a model
    # with 75 states.
    program = str(jax.make_jaxpr(inverse)(jnp.zeros(shape)))
    assert "= lu" in program
    assert not re.search(r"f64\[\d+,\d+,\d+\]( \w+:i32\[[\d,]+\])* = lu", program)


def test_a_factorization_of_the_library_shows_in_a_program():
    assert "getrf" in jax.jit(jnp.linalg.inv).lower(jnp.eye(4)).as_text()


@pytest.mark.slow_cases("True-Rodas5P()", "False-RadauIIA9()")
@pytest.mark.parametrize("solver", [srx.Rodas5P(), srx.RadauIIA9()], ids=repr)
@pytest.mark.parametrize("has_mass", [False, True])
def test_a_small_solve_calls_no_library_factorization(solver, has_mass):
    # XLA compiles a loop without library calls into one function: Robertson's problem in a third of
    # the time.
    def end(y0):
        field = lambda t, y, args: -y * jnp.sum(y)
        mass = jnp.diag(jnp.array([1.0, 1.0, 1.0, 2.0]))
        term = srx.MassMatrixTerm(field, mass) if has_mass else diffrax.ODETerm(field)
        controller = diffrax.PIDController(rtol=1e-3, atol=1e-6)
        return diffrax.diffeqsolve(
            term, solver, 0.0, 1.0, 0.1, y0, stepsize_controller=controller, throw=False
        ).ys

    assert "getrf" not in jax.jit(end).lower(jnp.ones(4)).as_text()


def test_nested_batches_keep_their_order():
    matrices = np.stack([random_matrix(4, float, seed) for seed in range(6)]).reshape(2, 3, 4, 4)
    inverses = jax.vmap(jax.vmap(small_inverse))(jnp.asarray(matrices))
    np.testing.assert_allclose(inverses, np.linalg.inv(matrices), rtol=1e-10)


def test_an_empty_matrix_has_an_empty_inverse():
    assert small_inverse(jnp.zeros((0, 0))).shape == (0, 0)


class TestSmallInverse:
    def test_a_matrix_that_is_not_square_is_refused(self):
        operator = lx.MatrixLinearOperator(jnp.ones((3, 2)))
        with pytest.raises(ValueError, match=r"given a 3 x 2 matrix.*needs a square.*Use `lineax"):
            lx.linear_solve(operator, jnp.ones(3), srx.SmallInverse())

    def test_refinement_makes_the_residual_as_small_as_an_lu_leaves_it(self):
        # Condition number 1e10: an explicit inverse alone leaves a residual of about 1e-6.
        n = 6
        hilbert = 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)
        b = hilbert @ np.ones(n)
        operator = lx.MatrixLinearOperator(jnp.asarray(hilbert))
        x = lx.linear_solve(operator, jnp.asarray(b), srx.SmallInverse()).value
        assert np.max(np.abs(hilbert @ x - b)) < 1e-15 * np.max(np.abs(x)) * n

    def test_transposed_and_conjugated_states_solve_those_systems(self):
        matrix = random_matrix(3, complex)
        solver, b = srx.SmallInverse(), jnp.array([1.0 + 0j, 2.0, 3.0])
        state = solver.init(lx.MatrixLinearOperator(jnp.asarray(matrix)), {})
        for change, other in ((solver.transpose, matrix.T), (solver.conj, matrix.conj())):
            x, _, _ = solver.compute(change(state, {})[0], b, {})
            np.testing.assert_allclose(other @ x, b, rtol=1e-13)

    def test_pytree_right_hand_sides_come_back_as_they_went_in(self):
        blocks = {
            "a": {"a": jnp.array(2.0), "b": jnp.zeros(2)},
            "b": {"a": jnp.zeros(2), "b": jnp.eye(2)},
        }
        structure = jax.eval_shape(lambda: {"a": jnp.array(0.0), "b": jnp.zeros(2)})
        operator = lx.PyTreeLinearOperator(blocks, structure)
        b = {"a": jnp.array(4.0), "b": jnp.array([1.0, 3.0])}
        x = lx.linear_solve(operator, b, srx.SmallInverse()).value
        assert x["a"] == 2.0
        np.testing.assert_array_equal(x["b"], b["b"])
