"""Periodic solutions: relaxation oscillations, predator and prey."""

from ._problem import Problem


def _van_der_pol_components(t, y, args):
    del t
    y1, y2 = y
    (mu,) = args
    return y2, mu * (1 - y1**2) * y2 - y1


def _slow_van_der_pol_components(t, y, args):
    del t
    y1, y2 = y
    (epsilon,) = args
    return y2, ((1 - y1**2) * y2 - y1) / epsilon


def van_der_pol(mu: float = 1e3) -> Problem:
    """VDPOL: `y1' = y2`, `y2' = mu (1 - y1^2) y2 - y1`; long slow stretches, sudden jumps.

    **Arguments:**

    - `mu`: damping. The reference value is known for the default only.

    **Returns:** `Problem` of 2 states, t from 0 to `2 mu`; `args` is `(mu,)`.

    Source: the Bari test set for initial value problem solvers.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.van_der_pol(mu=10.0).true_equations()["y2"]
    -10.0*y1**2*y2 - y1 + 10.0*y2

    ```
    """
    return Problem(
        "VDPOL",
        _van_der_pol_components,
        y0=(2.0, 0.0),
        t1=2 * mu,
        args=(mu,),
        reference=((2e3, (1.706167732170465, -0.0008928097010248166)),) if mu == 1e3 else (),
    )


def van_der_pol_scaled(epsilon: float = 1e-6) -> Problem:
    """VDPOL in slow time: `y1' = y2`, `y2' = ((1 - y1^2) y2 - y1) / epsilon`.

    **Arguments:**

    - `epsilon`: `1 / mu^2` of `van_der_pol`. The reference value is known for the default only.

    **Returns:** `Problem` of 2 states, t from 0 to 2; `args` is `(epsilon,)`.

    Source: the Bari test set for initial value problem solvers.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.van_der_pol_scaled(epsilon=0.5).true_equations()["y2"]
    -2.0*y1**2*y2 - 2.0*y1 + 2.0*y2

    ```
    """
    return Problem(
        "VDPOL in slow time",
        _slow_van_der_pol_components,
        y0=(2.0, 0.0),
        t1=2.0,
        args=(epsilon,),
        reference=((2.0, (1.706167732170465, -0.8928097010248166)),) if epsilon == 1e-6 else (),
    )


def _lotka_volterra_components(t, y, args):
    del t
    x, y = y
    alpha, beta, gamma, delta = args
    return alpha * x - beta * x * y, gamma * x * y - delta * y


def lotka_volterra() -> Problem:
    """`x' = alpha x - beta x y`, `y' = gamma x y - delta y`; not stiff.

    Conserved: `gamma x - delta ln x + beta y - alpha ln y`.

    **Returns:** `Problem` of 2 states, t from 0 to 12; `args` is
    `(alpha, beta, gamma, delta) = (1.3, 0.9, 0.8, 1.8)`.

    Source: the training data of Rackauckas and others, Universal differential equations (2020).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.lotka_volterra().true_equations()["x"]
    -0.9*x*y + 1.3*x

    ```
    """
    return Problem(
        "Lotka-Volterra",
        _lotka_volterra_components,
        y0=(0.44249296, 4.6280594),
        t1=12.0,
        names=("x", "y"),
        args=(1.3, 0.9, 0.8, 1.8),
        reference=(
            (6.0, (0.19515376127170855, 1.995551110653299)),
            (12.0, (0.20622859708261046, 0.8314034157713363)),
        ),
    )
