"""What order and stability a method has."""

from typing import Any, final

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..tableaus import (
    AbstractLearnableTableau,
    Method,
    is_a_stable,
    order_conditions,
    stability_angle,
    stability_at_infinity,
)
from ..tableaus._order_conditions import coefficients
from ..tableaus._order_of_convergence import order_of_convergence, rounding_of
from ..tableaus._stability import stability_interval

_HIGHEST_SHOWN = 6


@final
class MethodReport(eqx.Module):
    """Order and linear stability of one method; `print` shows it.

    **Attributes:**

    - `name`, `stages`: of the method, and how many stages it has.
    - `order`: the order of convergence, to 1e-10 and the rounding of the coefficients; 0 if
      inconsistent. By all order conditions up to 10; beyond, of what `B`, `C` and `D` imply, which is
      the order of collocation methods.
    - `order_is_bound`: whether it may be higher: above 10, of methods that are no such.
    - `residuals`: the largest residual among the conditions of the orders 1 to 6,
      `Float[ndarray, "6"]`.
    - `row_sums`: the largest entry of `c - A 1`.
    - `real_interval`, `imaginary_interval`: how far `|R| <= 1` holds on the negative real and on
      the imaginary axis, in units of `1 / |h lambda|`, by the roots of a polynomial: 0 where a method
      is unstable next to 0, such as Heun's on the imaginary axis.
    - `at_infinity`: `|R(inf)|`; infinite for explicit methods.
    - `a_stable`, `l_stable`: whether `|R| <= 1` on all of the left half-plane, and `R(inf) = 0` too.
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
    order_is_bound: bool
    residuals: Float[np.ndarray, " orders"]
    row_sums: float
    real_interval: float
    imaginary_interval: float
    at_infinity: float
    a_stable: bool
    l_stable: bool
    angle: float

    def __repr__(self) -> str:
        stability = "A-stable" if self.a_stable else f"A(alpha)-stable, alpha = {self.angle:.1f}"
        stability = "L-stable" if self.l_stable else stability
        order = f"{self.order} or more" if self.order_is_bound else str(self.order)
        lines = [
            f"{self.name}: {self.stages} stages, order {order}, {stability}",
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


def method_report(tableau: Method) -> MethodReport:
    """Measures order and linear stability of a Runge-Kutta method, fixed or trained.

    **Arguments:**

    - `tableau`: a [`stiffrax.tableaus.Tableau`][], that of a [`stiffrax.LearnableRungeKutta`][], or
      arrays `(A, b, c)`.

    **Returns:** A [`stiffrax.diagnostics.MethodReport`][].

    **Raises:** `ValueError` for arrays that do not belong together, and for the tableau of a
    Rosenbrock method.

    Cost: up to 1842 order conditions, roots of polynomials of twice the number of stages, and where
    the method is not A-stable some thousand values of the stability function.

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
    name = "trained method" if learned else getattr(tableau, "name", "method")
    given = coefficients(tableau, "tableau")
    eps = rounding_of(*given)
    # Whole numbers and lists are floating, single precision stays what it is.
    arrays = map(np.asarray, given)
    A, b, c = (x if x.dtype.kind == "f" else x.astype(float) for x in arrays)
    given = A, b, c
    A, b, c = (x.astype(float) for x in given)
    largest = [np.max(np.abs(order_conditions((A, b, c), p))) for p in range(1, _HIGHEST_SHOWN + 1)]
    order, order_is_bound = order_of_convergence(A, b, c, eps)
    explicit = not np.any(np.triu(A))
    a_stable = not explicit and is_a_stable(given)
    with np.errstate(over="ignore", invalid="ignore"):
        at_infinity = float(abs(stability_at_infinity(given)))
        return MethodReport(
            name=name,
            stages=len(b),
            order=order,
            order_is_bound=order_is_bound,
            residuals=np.array(largest, float),
            row_sums=float(np.max(np.abs(c - np.sum(A, axis=1)))),
            real_interval=stability_interval(*given[:2], -1 + 0j),
            imaginary_interval=stability_interval(*given[:2], 1j),
            at_infinity=at_infinity,
            a_stable=a_stable,
            # Rounding may leave a tenth of half the digits.
            l_stable=a_stable and at_infinity < 0.1 * eps**0.5,
            angle=_angle(given, a_stable, explicit),
        )


def _angle(method: tuple[Any, Any, Any], a_stable: bool, explicit: bool) -> float:
    if explicit:
        return 0.0
    return 90.0 if a_stable else float(np.degrees(stability_angle(method)))
