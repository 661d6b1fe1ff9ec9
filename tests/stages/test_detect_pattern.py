import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx


def found(vector_field, y0, args=None):
    pytest.importorskip("asdex", exc_type=ImportError)
    structure = srx.Sparsity.detect(vector_field, y0, args)
    matrix = np.zeros((structure.pattern.n,) * 2, bool)
    matrix[structure.pattern.rows, structure.pattern.columns] = True
    return matrix


def entries(vector_field, y0, args=None):
    """Entries of the Jacobian at a few states and times, the diagonal among them."""
    keys = jax.random.split(jax.random.key(0), 3)
    jacobians = [
        jax.jacfwd(vector_field, argnums=1)(t, jax.random.normal(key, y0.shape), args)
        for t, key in enumerate(keys)
    ]
    return sum(np.asarray(J != 0) for J in jacobians) + np.eye(y0.size) > 0


def branches(t, y, args):
    return jnp.where(t < 1, jnp.roll(y, 1), y[::-1]) * jnp.exp(-y)


def network(t, y, stoichiometry):
    return stoichiometry @ (y[:-1] * y[1:])


@pytest.mark.slow_cases("pollution")
@pytest.mark.parametrize("name", ["robertson", "hires", "pollution"])
def test_patterns_of_reactions_are_those_of_their_jacobians(name):
    problem = getattr(srx.problems, name)()
    y0 = jnp.asarray(problem.y0)
    pattern = found(problem.vector_field, y0, problem.args)
    np.testing.assert_array_equal(pattern, entries(problem.vector_field, y0, problem.args))


def test_both_branches_belong_to_the_pattern():
    pattern = found(branches, jnp.ones(5))
    assert np.all(pattern >= entries(branches, jnp.ones(5)))
    assert pattern[1, 0]
    assert pattern[0, 4]
    assert not pattern[0, 1]


def test_zeros_of_a_stoichiometric_matrix_are_zeros_of_the_pattern():
    S = jnp.asarray(np.eye(6, 5) - np.eye(6, 5, k=-1))
    np.testing.assert_array_equal(found(network, jnp.ones(6), S), entries(network, jnp.ones(6), S))


def test_states_are_numbered_as_they_are_flattened():
    def field(t, y, args):
        return {"a": -y["b"][:2], "b": -y["b"]}

    pattern = found(field, {"a": jnp.ones(2), "b": jnp.ones(3)})
    expected = np.eye(5, dtype=bool)
    expected[[0, 1], [2, 3]] = True
    np.testing.assert_array_equal(pattern, expected)


def test_other_arguments_with_other_zeros_are_refused_in_the_solve():
    pytest.importorskip("asdex", exc_type=ImportError)
    S = jnp.asarray(np.eye(6, 5) - np.eye(6, 5, k=-1))
    structure = srx.Sparsity.detect(network, jnp.ones(6), S)
    with pytest.raises(Exception, match="entry outside of `structure=Sparsity"):
        diffrax.diffeqsolve(
            diffrax.ODETerm(network),
            srx.BackwardEuler(structure=structure),
            0.0,
            1e-3,
            1e-3,
            jnp.ones(6),
            S.at[0, 4].set(1.0),
        )


def test_without_asdex_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "asdex", None)
    with pytest.raises(ImportError, match=r"pip install 'stiffrax\[sparse\]'"):
        srx.Sparsity.detect(network, jnp.ones(6), None)
