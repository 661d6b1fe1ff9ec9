"""Collocation methods from their nodes, and the transform that splits their stages.

Coefficients are mpmath numbers: a tableau is rounded to double precision exactly once.
"""

from dataclasses import dataclass, fields
from typing import Any, TypeAlias, final

import numpy as np
from jaxtyping import Complex, Float

# mpmath matrices and vectors carry no usable static types.
Exact: TypeAlias = Any

_DIGITS = 60


def extended_precision() -> Any:
    """The mpmath context in which every tableau is computed: 60 decimal digits."""
    # mpmath costs more to import than all of stiffrax; only methods in use should pay for it.
    import mpmath

    context = mpmath.MPContext()
    context.dps = _DIGITS
    return context


def _roots_of_derivative(mp: Any, left: int, right: int, times: int) -> list[Exact]:
    """Ascending zeros of the derivative of order `times` of x^left (x - 1)^right."""
    degree = left + right
    coefficients = [mp.mpf(0)] * (degree + 1)
    for k in range(right + 1):
        coefficients[degree - (left + k)] = mp.binomial(right, k) * (-1) ** (right - k)
    for _ in range(times):
        top = len(coefficients) - 1
        coefficients = [a * (top - k) for k, a in enumerate(coefficients[:-1])]
    zeros = mp.polyroots(coefficients, maxsteps=200, extraprec=400)
    return sorted(mp.re(zero) for zero in zeros)


def radau_nodes(mp: Any, stages: int) -> list[Exact]:
    """Zeros of d^(s-1)/dx^(s-1) [x^(s-1) (x-1)^s]; the last one is 1."""
    nodes = _roots_of_derivative(mp, stages - 1, stages, stages - 1)
    return [*nodes[:-1], mp.mpf(1)]


def gauss_nodes(mp: Any, stages: int) -> list[Exact]:
    """Zeros of d^s/dx^s [x^s (x-1)^s], the Legendre polynomial on [0, 1]."""
    return _roots_of_derivative(mp, stages, stages, stages)


def lobatto_nodes(mp: Any, stages: int) -> list[Exact]:
    """Zeros of d^(s-2)/dx^(s-2) [x^(s-1) (x-1)^(s-1)]; the ends are 0 and 1."""
    nodes = _roots_of_derivative(mp, stages - 1, stages - 1, stages - 2)
    return [mp.mpf(0), *nodes[1:-1], mp.mpf(1)]


def collocation_coefficients(mp: Any, nodes: list[Exact]) -> tuple[Exact, Exact]:
    """Returns `A` (integrals of the Lagrange basis to each node) and `b` (to 1)."""
    stages = len(nodes)
    powers = mp.matrix(stages, stages)
    integrals = mp.matrix(stages, stages)
    for i, c in enumerate(nodes):
        for j in range(stages):
            powers[i, j] = c**j if j else mp.mpf(1)
            integrals[i, j] = c ** (j + 1) / (j + 1)
    inverse = powers**-1
    ones = mp.matrix([[mp.mpf(1) / (j + 1) for j in range(stages)]])
    return integrals * inverse, ones * inverse


def have_same_values(one: Any, other: Any) -> bool:
    """Whether two objects of NumPy arrays are of one class and equal: a copy is."""
    if one is other or type(one) is not type(other):
        return one is other
    # Not `vars`, which also has what was computed on first use.
    names = [field.name for field in fields(one)]
    pairs = ((getattr(one, name), getattr(other, name)) for name in names)
    return all(np.array_equal(a, b) for a, b in pairs)


def keep_arrays(tableau: Any) -> None:
    """Makes read-only arrays of what was given, and leaves that as it is."""
    for name, value in vars(tableau).items():
        if isinstance(value, np.ndarray | list):
            array = np.array(value)
            array.flags.writeable = False
            object.__setattr__(tableau, name, array)


@final
@dataclass(frozen=True, eq=False)
class SplitTransform:
    r"""Eigendecomposition of the inverse of the stage coefficients.

    $$A^{-1} = T \Lambda T^{-1}$$

    A complex pair is kept by its member with positive imaginary part: for a real stage matrix `R`,
    the transformed right-hand sides are `to_real @ R` and `to_pair @ R`, and a solution returns as
    `from_real @ w + 2 Re(from_pair @ u)`.

    **Attributes:**

    - `real`: real eigenvalues, `Float[ndarray, " reals"]`; none or one.
    - `pair`: those with positive imaginary part, the largest first, `Complex[ndarray, " pairs"]`.
    - `to_real`, `to_pair`: their rows of `T^-1`.
    - `from_real`, `from_pair`: their columns of `T`; those of a method are scaled to end in one.

    ??? cite "Reference"
        Butcher, *On the implementation of implicit Runge-Kutta methods*, BIT 16 (1976).

    ```python
    >>> import stiffrax as srx
    >>> transform = srx.tableaus.radau_iia(3).transform
    >>> transform.real.round(4), transform.pair.round(4)
    (array([3.6378]), array([2.6811+3.0504j]))

    ```
    """

    real: Float[np.ndarray, " reals"]
    pair: Complex[np.ndarray, " pairs"]
    to_real: Float[np.ndarray, "reals stages"]
    to_pair: Complex[np.ndarray, "pairs stages"]
    from_real: Float[np.ndarray, "stages reals"]
    from_pair: Complex[np.ndarray, "stages pairs"]

    __post_init__ = keep_arrays

    def __eq__(self, other: object) -> bool:
        return have_same_values(self, other)

    def __hash__(self) -> int:
        return hash(self.to_real.shape + self.to_pair.shape)

    @property
    def transposed(self) -> "SplitTransform":
        """That of the transposed coefficients."""
        back, ahead = (self.from_real.T, self.from_pair.T), (self.to_real.T, self.to_pair.T)
        return SplitTransform(self.real, self.pair, *back, *ahead)


def split_transform(mp: Any, A_inverse: Exact) -> SplitTransform:
    """Computes the split transform in extended precision and rounds it once."""
    values, vectors = mp.eig(A_inverse)
    stages = len(values)
    # Normalized so that the last component is one: the last stage is then a plain sum.
    for k in range(stages):
        last = vectors[stages - 1, k]
        for i in range(stages):
            vectors[i, k] = vectors[i, k] / last
    inverse = vectors**-1
    tiny = mp.mpf(10) ** (-mp.dps // 2)
    reals = [k for k in range(stages) if abs(mp.im(values[k])) < tiny]
    pairs = [k for k in range(stages) if mp.im(values[k]) >= tiny]
    pairs.sort(key=lambda k: abs(mp.im(values[k])), reverse=True)

    def rows(matrix: Exact, index: list[int], dtype: type) -> np.ndarray:
        entries = [[matrix[k, j] for j in range(stages)] for k in index]
        if dtype is float:
            entries = [[mp.re(x) for x in row] for row in entries]
        return np.array([[dtype(x) for x in row] for row in entries], dtype).reshape(-1, stages)

    return SplitTransform(
        real=np.array([float(mp.re(values[k])) for k in reals]),
        pair=np.array([complex(values[k]) for k in pairs], complex),
        to_real=rows(inverse, reals, float),
        to_pair=rows(inverse, pairs, complex),
        from_real=rows(vectors.T, reals, float).T,
        from_pair=rows(vectors.T, pairs, complex).T,
    )
