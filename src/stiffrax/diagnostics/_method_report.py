"""What order and stability a method has."""

from typing import Any, final

import equinox as eqx
import numpy as np
from jaxtyping import Float

from .._arguments import check_instance
from ..tableaus import (
    AbstractLearnableTableau,
    Method,
    Tableau,
    is_a_stable,
    order_conditions,
    stability_angle,
    stability_at_infinity,
    stability_function,
)

_HIGHEST_ORDER = 6
# How far out the interval of stability is followed, and the growth that still counts as rounding.
_FARTHEST = 1e3
_ROUNDING = 1e-9


@final
class MethodReport(eqx.Module):
    """Order and linear stability of one method; `print` shows it.

    **Attributes:**

    - `name`, `stages`: of the method, and how many stages it has.
    - `order`: the order of convergence, from the order conditions to 1e-10; 0 if inconsistent.
    - `residuals`: the largest residual among the conditions of the orders 1 to 6,
      `Float[ndarray, "6"]`.
    - `row_sums`: the largest entry of `c - A 1`.
    - `real_interval`, `imaginary_interval`: how far `|R| <= 1` holds on the negative real and on
      the imaginary axis, in units of `1 / |h lambda|`; infinite beyond 1000.
    - `at_infinity`: `|R(inf)|`; infinite for explicit methods.
    - `a_stable`: whether `|R| <= 1` on all of the left half-plane.
    - `angle`: of A(alpha)-stability, in degrees.

    ```python
    >>> import stiffrax as srx
    >>> report = srx.diagnostics.method_report(srx.tableaus.radau_iia(2))
    >>> report.order, report.a_stable
    (3, True)

    ```
    """

    name: str
    stages: int
    order: int
    residuals: Float[np.ndarray, " orders"]
    row_sums: float
    real_interval: float
    imaginary_interval: float
    at_infinity: float
    a_stable: bool
    angle: float

    def __repr__(self) -> str:
        stability = "A-stable" if self.a_stable else f"A(alpha)-stable, alpha = {self.angle:.1f}"
        if self.a_stable and self.at_infinity < _ROUNDING:
            stability = "L-stable"
        lines = [
            f"{self.name}: {self.stages} stages, order {self.order}, {stability}",
            f"  c - A 1:             {self.row_sums:.1e}",
            *(
                f"  order {p} residual:    {residual:.1e}"
                for p, residual in enumerate(self.residuals, start=1)
            ),
            f"  stable on real axis to   {-self.real_interval:.4g}",
            f"  on imaginary axis to     {self.imaginary_interval:.4g} i",
            f"  |R(inf)|                 {self.at_infinity:.3g}",
        ]
        return "\n".join(lines)


def _interval(method: Method, direction: complex) -> float:
    """The first distance from 0 at which the method is not stable, by scan and bisection."""

    def unstable(r: Float[np.ndarray, "*n"]) -> Any:
        return np.abs(stability_function(method, direction * r)) > 1 + _ROUNDING

    radii = np.concatenate([np.linspace(1e-3, 30, 6000), np.geomspace(30, _FARTHEST, 500)])
    found = np.flatnonzero(unstable(radii))
    if not found.size:
        return np.inf
    low, high = radii[found[0] - 1] if found[0] else 0.0, radii[found[0]]
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if unstable(np.asarray(middle)) else (middle, high)
    return float(low)


def method_report(tableau: Method) -> MethodReport:
    """Measures order and linear stability of a method, fixed or trained.

    **Arguments:**

    - `tableau`: a [`stiffrax.tableaus.Tableau`][], that of a [`stiffrax.LearnableRungeKutta`][], or
      arrays `(A, b, c)`.

    **Returns:** A [`stiffrax.diagnostics.MethodReport`][].

    **Raises:** `ValueError` for arrays that do not belong together.

    Cost: some ten thousand values of the stability function.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, sections IV.2 and IV.3.

    ```python
    >>> import stiffrax as srx
    >>> print(srx.diagnostics.method_report(srx.tableaus.gauss(1)))
    Gauss 2: 1 stages, order 2, A-stable
    ...

    ```
    """
    learned = isinstance(tableau, AbstractLearnableTableau)
    check_instance(
        "tableau",
        tableau,
        Tableau | AbstractLearnableTableau | tuple,
        "a tableau, or arrays `(A, b, c)`",
        "method_report(stiffrax.tableaus.radau_iia(3))",
    )
    name = "trained method" if learned else getattr(tableau, "name", "method")
    if learned:
        tableau = (tableau.masked_A, tableau.b, tableau.c)
    if isinstance(tableau, tuple):
        tableau = tuple(np.asarray(x, float) for x in tableau)
    A, b, c = tableau if isinstance(tableau, tuple) else (tableau.A, tableau.b, tableau.c)
    largest = [np.max(np.abs(order_conditions((A, b, c), p))) for p in range(1, _HIGHEST_ORDER + 1)]
    row_sums = float(np.max(np.abs(c - np.sum(A, axis=1))))
    holds = [residual < 1e-10 for residual in largest] + [False]
    explicit = not np.any(np.triu(A))
    with np.errstate(over="ignore", invalid="ignore"):
        a_stable = not explicit and is_a_stable((A, b, c))
        return MethodReport(
            name=name,
            stages=len(b),
            order=holds.index(False) if row_sums < 1e-10 else int(holds[0]),
            residuals=np.array(largest, float),
            row_sums=row_sums,
            real_interval=_interval((A, b, c), -1.0 + 0.0j),
            imaginary_interval=_interval((A, b, c), 1j),
            at_infinity=np.inf if explicit else float(abs(stability_at_infinity(tableau))),
            a_stable=a_stable,
            angle=0.0 if explicit else float(np.degrees(stability_angle((A, b, c)))),
        )
