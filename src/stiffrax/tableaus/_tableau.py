"""The coefficients of a method, and those of the classical ones."""

import functools
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float

from .._arguments import check_count
from ._collocation import (
    Exact,
    SplitTransform,
    collocation_coefficients,
    extended_precision,
    gauss_nodes,
    have_same_values,
    keep_arrays,
    lobatto_nodes,
    radau_nodes,
    split_transform,
)


@final
@dataclass(frozen=True, eq=False, repr=False)
class Tableau:
    r"""An implicit Runge-Kutta method as data.

    The engine solves for stage increments `Z` (never slopes). With `f0 = f(t0, y0)`,

    $$\sum_j (A^{-1})_{ij} Z_j = h f(t_0 + c_i h, y_0 + Z_i) + w_i h f_0,$$

    $$y_1 = y_0 + \sum_i d_i Z_i.$$

    Both are over the implicit stages only. `w` is zero but for methods whose first stage is
    explicit (Lobatto IIIA): it is eliminated, and `A` stands for the block of the others.

    **Attributes:**

    - `name`: short name.
    - `order`: classical order of convergence.
    - `stage_order`: order of the stages, and of the dense output between the ends of a step.
    - `A`, `b`, `c`: the full Butcher tableau, `Float[ndarray, "s s"]`, `" s"`, `" s"`.
    - `nodes`: abscissae of the implicit stages, `Float[ndarray, " m"]`.
    - `A_inverse`: inverse of the implicit block, `Float[ndarray, "m m"]`.
    - `explicit_weights`: `w` above, `Float[ndarray, " m"]`; all zero without an explicit stage.
    - `d`: weights of the stage increments in `y1`.
    - `stiffly_accurate`: the last stage is the end of the step (`d` is the last unit vector).
    - `transform`: eigendecomposition of `A_inverse` (a `SplitTransform`).
    - `polynomial`: `Float[ndarray, "m s"]`, the collocation polynomial's coefficients of
      theta, ..., theta^s for each stage increment; `polynomial_explicit` those of `h f0`.
    - `error_weights`: slope at 0, negated, of the polynomial through 0 and the stage increments;
      the error estimate is its defect against `f0`.
    - `gamma`: the real number of the filter `(gamma M / h - J)^-1`: the real eigenvalue where there
      is one, else the modulus of the smallest pair.

    The arrays are double precision and read-only: a tableau is shared by everything that uses it.

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.radau_iia(2)
    Tableau(Radau IIA 3, order=3, stages=2)
    >>> srx.tableaus.radau_iia(2).c.round(4).tolist()
    [0.3333, 1.0]

    ```
    """

    name: str
    order: int
    stage_order: int
    A: Float[np.ndarray, "s s"]
    b: Float[np.ndarray, " s"]
    c: Float[np.ndarray, " s"]
    nodes: Float[np.ndarray, " m"]
    A_inverse: Float[np.ndarray, "m m"]
    explicit_weights: Float[np.ndarray, " m"]
    d: Float[np.ndarray, " m"]
    stiffly_accurate: bool
    transform: SplitTransform
    polynomial: Float[np.ndarray, "m s"]
    polynomial_explicit: Float[np.ndarray, " s"]
    error_weights: Float[np.ndarray, " m"]
    gamma: float

    __post_init__ = keep_arrays

    @property
    def num_stages(self) -> int:
        """Number of implicit stages, the rows of `Z`."""
        return len(self.nodes)

    @property
    def error_order(self) -> int:
        """The power of the step size in the embedded error estimate."""
        return self.num_stages + 1

    @property
    def explicit_first_stage(self) -> bool:
        """Whether the first stage is the slope at the start of the step."""
        return len(self.c) > len(self.nodes)

    def __eq__(self, other: object) -> bool:
        return have_same_values(self, other)

    def __hash__(self) -> int:
        return hash((self.name, self.order, self.A.shape))

    def __repr__(self) -> str:
        return f"Tableau({self.name}, order={self.order}, stages={len(self.c)})"


def _numpy(matrix: Exact) -> np.ndarray:
    return np.array(matrix.tolist(), dtype=float)


def _vector(values: Any) -> np.ndarray:
    return np.array([float(x) for x in values])


def _collocation_polynomial(mp: Any, nodes: list[Exact], explicit: bool) -> tuple[Exact, Exact]:
    """Coefficients of theta, ..., theta^s for each stage increment, and for `h f0`."""
    size = len(nodes) + explicit
    conditions = mp.matrix(size, size)
    if explicit:
        conditions[0, 0] = 1
    for i, c in enumerate(nodes):
        for j in range(size):
            conditions[i + explicit, j] = c ** (j + 1)
    inverse = conditions**-1
    stages = mp.matrix(len(nodes), size)
    for i in range(len(nodes)):
        for j in range(size):
            stages[i, j] = inverse[j, i + explicit]
    slope = [inverse[j, 0] if explicit else mp.mpf(0) for j in range(size)]
    return stages, slope


def tableau_from_collocation(
    mp: Any, name: str, order: int, nodes: list[Exact], A: Exact, b: Exact
) -> Tableau:
    """Derives everything the engine needs from exact collocation coefficients."""
    s = len(nodes)
    explicit = int(nodes[0] == 0)
    m = s - explicit
    block = mp.matrix(m, m)
    first = mp.matrix(m, 1)
    weights = mp.matrix(1, m)
    for i in range(m):
        weights[0, i] = b[0, i + explicit]
        first[i, 0] = A[i + explicit, 0] if explicit else 0
        for j in range(m):
            block[i, j] = A[i + explicit, j + explicit]
    A_inverse = block**-1
    stiffly_accurate = nodes[-1] == 1
    implicit_nodes = nodes[explicit:]
    polynomial, slope = _collocation_polynomial(mp, implicit_nodes, bool(explicit))
    through_stages, _ = _collocation_polynomial(mp, implicit_nodes, False)
    transform = split_transform(mp, A_inverse)
    unit = [mp.mpf(0)] * (m - 1) + [mp.mpf(1)]
    return Tableau(
        name=name,
        order=order,
        stage_order=s,
        A=_numpy(A),
        b=_numpy(b)[0],
        c=_vector(nodes),
        nodes=_vector(implicit_nodes),
        A_inverse=_numpy(A_inverse),
        explicit_weights=_numpy(A_inverse * first)[:, 0],
        d=_vector(unit if stiffly_accurate else (weights * A_inverse)),
        stiffly_accurate=bool(stiffly_accurate),
        transform=transform,
        polynomial=_numpy(polynomial),
        polynomial_explicit=_vector(slope),
        error_weights=-_numpy(through_stages)[:, 0],
        gamma=float(transform.real[0]) if len(transform.real) else float(abs(transform.pair[-1])),
    )


_NODES = {"radau_iia": radau_nodes, "gauss": gauss_nodes, "lobatto_iiia": lobatto_nodes}


def _checked(stages: object, least: int, family: str) -> int:
    return check_count("stages", stages, least=least, most=15, write=f"{family}(3)")


# One object a method, so that programs compiled for it are found again.
@functools.cache
def _collocation_tableau(family: str, name: str, order: int, stages: int) -> Tableau:
    mp = extended_precision()
    nodes = _NODES[family](mp, stages)
    A, b = collocation_coefficients(mp, nodes)
    return tableau_from_collocation(mp, f"{name} {order}", order, nodes, A, b)


def radau_iia(stages: int) -> Tableau:
    """Radau IIA: order `2 s - 1`, stiffly accurate, L-stable.

    **Arguments:**

    - `stages`: number of stages `s`, from 1 (backward Euler) to 15.

    **Returns:** A [`stiffrax.tableaus.Tableau`][], computed in 60 digits and rounded once.

    **Raises:** `ValueError` for a stage count outside that range.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.radau_iia(3).order
    5

    ```
    """
    s = _checked(stages, 1, "radau_iia")
    return _collocation_tableau("radau_iia", "Radau IIA", 2 * s - 1, s)


def gauss(stages: int) -> Tableau:
    """Gauss-Legendre: order `2 s`, A-stable and symplectic, not stiffly accurate.

    **Arguments:**

    - `stages`: number of stages `s`, from 1 (implicit midpoint) to 15.

    **Returns:** A [`stiffrax.tableaus.Tableau`][].

    **Raises:** `ValueError` for a stage count outside that range.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import stiffrax as srx
    >>> float(srx.tableaus.gauss(1).c[0])
    0.5

    ```
    """
    s = _checked(stages, 1, "gauss")
    return _collocation_tableau("gauss", "Gauss", 2 * s, s)


def lobatto_iiia(stages: int) -> Tableau:
    """Lobatto IIIA: order `2 s - 2`, first stage explicit, A-stable, stiffly accurate.

    **Arguments:**

    - `stages`: number of stages `s`, from 2 (the trapezoid rule) to 15.

    **Returns:** A [`stiffrax.tableaus.Tableau`][].

    **Raises:** `ValueError` for a stage count outside that range.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.lobatto_iiia(2).A.tolist()
    [[0.0, 0.0], [0.5, 0.5]]

    ```
    """
    s = _checked(stages, 2, "lobatto_iiia")
    return _collocation_tableau("lobatto_iiia", "Lobatto IIIA", 2 * s - 2, s)
