import numpy as np
import pytest

from stiffrax.tableaus import gauss, lobatto_iiia, radau_iia

METHODS = [
    *((radau_iia, s) for s in (1, 2, 3, 5, 7)),
    *((gauss, s) for s in (1, 2, 3)),
    *((lobatto_iiia, s) for s in (2, 3, 4)),
]
every_method = pytest.mark.parametrize(("family", "stages"), METHODS)

# Published eigenvalues of A^-1: the real one, and those with positive imaginary part.
EIGENVALUES = {
    1: ([1], []),
    2: ([], [2 + 1.4142135624j]),
    3: ([3.6378342527445], [2.6810828736278 + 3.0504301992474j]),
    5: (
        [6.2867047517293],
        [3.6556943254636 + 6.5437368993601j, 5.7009532986718 + 3.2102656003085j],
    ),
    7: (
        [8.9368327884052],
        [
            4.3786935615068 + 10.169693283795j,
            7.1410552191876 + 6.6230459226393j,
            8.5118348251029 + 3.2810136243251j,
        ],
    ),
}


@pytest.mark.parametrize("stages", EIGENVALUES)
def test_radau_eigenvalues_are_the_published_ones(stages):
    transform = radau_iia(stages).transform
    real, pair = EIGENVALUES[stages]
    np.testing.assert_allclose(transform.real, real, rtol=2e-14)
    np.testing.assert_allclose(transform.pair, pair, rtol=2e-11 if stages == 2 else 2e-14)


def test_eigenvalues_of_three_stages_are_the_closed_form():
    transform = radau_iia(3).transform
    a, b = 3 ** (1 / 3), 3 ** (2 / 3)
    pair = 3 + (a - b) / 2 + 0.5j * (3 ** (5 / 6) + 3 ** (7 / 6))
    np.testing.assert_allclose(transform.real, [3 + b - a], rtol=1e-15)
    np.testing.assert_allclose(transform.pair, [pair], rtol=1e-15)


@every_method
def test_transform_reproduces_the_inverse_to_rounding(family, stages):
    method = family(stages)
    T = method.transform
    columns = np.hstack([T.from_real, T.from_pair])
    rows = np.vstack([T.to_real, T.to_pair])
    rebuilt = (T.from_real * T.real) @ T.to_real
    rebuilt = rebuilt + 2 * ((T.from_pair * T.pair) @ T.to_pair).real
    # Rounding of the two factors is all that is allowed, and it is multiplied by their size.
    allowed = (
        1e-16 * np.linalg.norm(columns) * np.linalg.norm(rows) * np.max(np.abs(T.pair), initial=1)
    )
    assert np.max(np.abs(rebuilt - method.A_inverse)) <= 4 * allowed


@every_method
def test_transform_inverts_itself(family, stages):
    T = family(stages).transform
    identity = T.from_real @ T.to_real + 2 * (T.from_pair @ T.to_pair).real
    np.testing.assert_allclose(identity, np.eye(len(identity)), atol=2e-13)


@every_method
def test_last_stage_is_a_plain_sum(family, stages):
    T = family(stages).transform
    np.testing.assert_array_equal(T.from_real[-1], np.ones(len(T.real)))
    np.testing.assert_array_equal(T.from_pair[-1], np.ones(len(T.pair)))


@every_method
@pytest.mark.parametrize("stiffness", [1e-3, 1.0, 1e6])
def test_split_systems_solve_the_stage_system(family, stages, stiffness):
    """`(h^-1 A^-1 (x) I - I (x) J) Z = R` by n x n systems, and by one that is dense."""
    method, n, h = family(stages), 4, 0.1
    m, T = method.num_stages, method.transform
    rng = np.random.default_rng(stages)
    J = stiffness * (rng.normal(size=(n, n)) - 3 * np.eye(n))
    R = rng.normal(size=(m, n))
    dense = np.kron(method.A_inverse / h, np.eye(n)) - np.kron(np.eye(m), J)
    expected = np.linalg.solve(dense, R.ravel()).reshape(m, n)

    def solve(values, rhs):
        solutions = [
            np.linalg.solve(value / h * np.eye(n) - J, row)
            for value, row in zip(values, rhs, strict=True)
        ]
        return np.array(solutions).reshape(-1, n)

    Z = T.from_real @ solve(T.real, T.to_real @ R)
    Z = Z + 2 * (T.from_pair @ solve(T.pair, T.to_pair @ R)).real
    np.testing.assert_allclose(Z, expected, rtol=0, atol=1e-11 * np.max(np.abs(expected)))
