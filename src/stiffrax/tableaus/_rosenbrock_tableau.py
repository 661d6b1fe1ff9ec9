"""The coefficients of a Rosenbrock method."""

import functools
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float

from ._collocation import have_same_values, keep_arrays


@final
@dataclass(frozen=True, eq=False, repr=False)
class RosenbrockTableau:
    r"""A Rosenbrock method as data, in the variables in which no product with `J` is left.

    With `J` and $f_t$ the derivatives of `f` at the start of the step,

    $$\left(\tfrac{1}{\gamma} M - h J\right) U_i = h f\Big(t_0 + c_i h, y_0 + \sum_{j<i} a_{ij} U_j\Big)
      + M \sum_{j<i} C_{ij} U_j + d_i h^2 f_t, \qquad y_1 = y_0 + \sum_i m_i U_i.$$

    **Attributes:**

    - `name`: short name.
    - `order`: classical order of convergence.
    - `error_order`: power of the step size in the embedded estimate `sum_i e_i U_i`.
    - `gamma`: the diagonal coefficient, the same in all stages.
    - `A`, `C`: `Float[ndarray, "s s"]`, lower triangles `a` and `C` above.
    - `c`, `d`: abscissae, and weights of the time derivative.
    - `m`, `e`: weights of the end of the step, and of the error estimate.
    - `e_inside`: weights of a second estimate, within the step; `None` where the first one sees all.
    - `polynomial`: `Float[ndarray, "s k"]`, the coefficients of theta, ..., theta^k in the dense
      output for each `U_i`.
    - `stiffly_accurate`: the end of the step meets the constraints of a differential-algebraic
      equation as its last stage does.

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.rodas5p()
    RosenbrockTableau(Rodas5P, order=5, stages=8)

    ```
    """

    name: str
    order: int
    error_order: int
    gamma: float
    A: Float[np.ndarray, "s s"]
    C: Float[np.ndarray, "s s"]
    c: Float[np.ndarray, " s"]
    d: Float[np.ndarray, " s"]
    m: Float[np.ndarray, " s"]
    e: Float[np.ndarray, " s"]
    polynomial: Float[np.ndarray, "s k"]
    stiffly_accurate: bool
    e_inside: Float[np.ndarray, " s"] | None = None

    __post_init__ = keep_arrays

    @property
    def num_stages(self) -> int:
        """Number of stages, each of which solves one linear system."""
        return len(self.c)

    @property
    def shift(self) -> float:
        """The number of the matrix `shift M - h J`."""
        return 1 / self.gamma

    @functools.cached_property
    def largest_growth(self) -> float:
        """The largest `h lambda` to which `exp(h lambda)` is met within a tenth.

        Between it and the pole at `shift` a growing mode is let grow by a multiple, or turned.
        """
        growths = np.linspace(0, self.shift, 201)[1:-1]
        wrong = [abs(self._stability(z) / np.exp(z) - 1) > 0.1 for z in growths]
        return float(growths[np.argmax(wrong)])

    @property
    def largest_bend(self) -> float:
        """How far `f` may be from linear at a stage: the share of the way there that it adds.

        Measured on seven fields with a pole (`benchmarks/singularities.py`): above, steps at
        tolerances of a per cent pass it. Steps of the problems of `benchmarks/never_wrong.py` stay
        below from 1e-3 on. Stages that are not stiffly accurate lag behind, and show less.
        """
        return 0.5 if self.stiffly_accurate else 0.2

    def _stability(self, z: float) -> float:
        couplings = np.eye(self.num_stages) * self.shift - self.C - z * self.A
        # Of y' = lambda y: each stage has h f = z (1 + sum_j a_ij U_j) and h J U_i = z U_i.
        couplings = couplings - z * np.eye(self.num_stages)
        return float(1 + self.m @ np.linalg.solve(couplings, z * np.ones(self.num_stages)))

    @property
    def explicit_first_stage(self) -> bool:
        """No stage is solved without the matrix."""
        return False

    def __eq__(self, other: object) -> bool:
        return have_same_values(self, other)

    def __hash__(self) -> int:
        return hash((self.name, self.order, self.A.shape))

    def __repr__(self) -> str:
        return f"RosenbrockTableau({self.name}, order={self.order}, stages={self.num_stages})"
