"""The van der Pol oscillator, in its own time and in slow time."""

from ._problem import Problem


def _components(t, y, args):
    del t
    y1, y2 = y
    (mu,) = args
    return y2, mu * (1 - y1**2) * y2 - y1


def _scaled_components(t, y, args):
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
        _components,
        y0=(2.0, 0.0),
        t1=2 * mu,
        args=(mu,),
        reference=((2e3, (1.706167732170465012, -8.928097010248165442e-4)),) if mu == 1e3 else (),
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
        _scaled_components,
        y0=(2.0, 0.0),
        t1=2.0,
        args=(epsilon,),
        reference=((2.0, (1.706167732170465006, -0.8928097010248165501)),)
        if epsilon == 1e-6
        else (),
    )
