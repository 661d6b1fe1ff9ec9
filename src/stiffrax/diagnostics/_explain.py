"""What a solve did, and what a method is like, in words."""

from collections.abc import Sequence
from typing import Any, final

import diffrax
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
    stability_function,
)

_ADVICE = (
    (
        diffrax.RESULTS.max_steps_reached,
        "raise `max_steps`, loosen rtol and atol, or take a method of higher order "
        "(`RadauIIA9`); if h stays tiny, look for a singularity or a jump there",
    ),
    (
        diffrax.RESULTS.dt_min_reached,
        "lower `dtmin`; if the solution has a jump there, pass its time as `jump_ts` of "
        "`diffrax.ClipStepSizeController`; if it grows without bound, end the solve before",
    ),
    (
        diffrax.RESULTS.nonlinear_divergence,
        "take an adaptive controller, such as `PredictiveController`, or smaller fixed steps",
    ),
    (
        diffrax.RESULTS.nonlinear_max_steps_reached,
        "take an adaptive controller, such as `PredictiveController`, or smaller fixed steps",
    ),
    (
        diffrax.RESULTS.nonfinite,
        "look for a root, logarithm or division that has no value at a state on the way, and "
        "take a smaller `dt0` or an adaptive controller",
    ),
)


def explain(solution: diffrax.Solution, names: Sequence[str] | None = None) -> str:
    """Explains a solve in words: its work, and where, why and in which component it failed.

    **Arguments:**

    - `solution`: of a solve with `adjoint=stiffrax.DiscreteAdjoint()`, which counts the work in
      `solution.stats`; for failed solves with `throw=False`. One lane of a batch.
    - `names`: names of the components of the flat state; `y1`, `y2`, ... without.

    **Returns:** a few lines of text.

    **Raises:** `ValueError` if the solution has no counts, or is a whole batch.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> blow_up = diffrax.ODETerm(lambda t, y, args: y**2)
    >>> solution = diffrax.diffeqsolve(blow_up, srx.BackwardEuler(), 0.0, 2.0, 0.5, jnp.ones(1),
    ...     adjoint=srx.DiscreteAdjoint(), throw=False)
    >>> print(srx.diagnostics.explain(solution).splitlines()[0])
    Failed in the step from t = 0 with h = 0.5: the iteration for y1 did not converge.

    ```
    """
    stats = solution.stats
    if "last_step" not in stats:
        raise ValueError(
            "The solution has no counts in its `stats`. Solve with "
            "`adjoint=stiffrax.DiscreteAdjoint()`."
        )
    if np.ndim(stats["num_steps"]):
        raise ValueError(
            f"A batch of shape {np.shape(stats['num_steps'])} was given; one solution is needed. "
            "Write `jax.tree.map(lambda x: x[0], solution)` for its first lane."
        )
    lines = [_work(stats)]
    good = solution.result == diffrax.RESULTS.successful
    if not good and solution.result != diffrax.RESULTS.event_occurred:
        lines = [_failure(solution, names), *lines]
        advice = [text for code, text in _ADVICE if solution.result == code]
        lines += [f"To try: {text}." for text in advice]
    elif stats["num_rejected_by_newton"] > 0.2 * stats["num_steps"]:
        lines.append(
            "To try: many steps were rejected because the iteration failed; "
            "`PredictiveController` takes that into account."
        )
    return "\n".join(lines)


def _failure(solution: diffrax.Solution, names: Sequence[str] | None) -> str:
    last = solution.stats["last_step"]
    direction = -1 if solution.t1 < solution.t0 else 1
    k = int(last["component"])
    name = f"y{k + 1}" if names is None else names[k]
    where = f"in the step from t = {direction * float(last['t']):.6g} with h = {last['h']:.3g}"
    if solution.result == diffrax.RESULTS.max_steps_reached:
        return f"Stopped at the limit of steps, {where}; {name} has the largest error there."
    if last["converged"]:
        return f"Failed {where}: the error of {name} is the largest, and too large."
    return f"Failed {where}: the iteration for {name} did not converge."


def _work(stats: dict) -> str:
    return (
        f"{stats['num_steps']} steps, {stats['num_rejected_steps']} of them rejected "
        f"({stats['num_rejected_by_error']} by their error, {stats['num_rejected_by_newton']} "
        f"because the iteration failed); {stats['num_newton_iterations']} iterations, "
        f"{stats['num_f_evaluations']} evaluations of the vector field, "
        f"{stats['num_jacobians']} Jacobians, {stats['num_factorizations']} factorizations."
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
