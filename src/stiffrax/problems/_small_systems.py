"""Small equations: stiff ones, most of them with closed forms, and periodic ones."""

import jax.numpy as jnp
import numpy as np

from ._problem import Problem


def _decay_components(t, y, args):
    del t
    (y1,) = y
    (rate,) = args
    return (-rate * y1,)


def _decay_solution(t, args):
    (rate,) = args
    return (np.exp(-rate * t),)


def _relaxation_components(t, y, args):
    del t
    (y1,) = y
    (rate,) = args
    return (-rate * y1 + 2 * rate,)


def _relaxation_solution(t, args):
    (rate,) = args
    return (-2 * np.expm1(-rate * t),)


def _pair_components(t, y, args):
    del t, args
    y1, y2 = y
    return y2, -1000 * y1 - 1001 * y2


def _pair_solution(t, args):
    del args
    slow, fast = 5 / 999 * np.exp(-t), 5 / 999 * np.exp(-1000 * t)
    return 1000 * slow - fast, 1000 * (fast - slow)


def linear_decay(rate: float = 1e3, t1: float = 1.0) -> Problem:
    """`y' = -rate y` from 1: `y = e^(-rate t)`.

    **Arguments:**

    - `rate`: positive, per unit of time.
    - `t1`: the end.

    **Returns:** `Problem` of 1 state; `args` is `(rate,)`.

    ```python
    >>> import stiffrax as srx
    >>> float(srx.problems.linear_decay(rate=2.0).solution(0.5)[0])
    0.36787944117144233

    ```
    """
    return Problem(
        "linear decay",
        _decay_components,
        y0=(1.0,),
        t1=t1,
        args=(rate,),
        closed_form=_decay_solution,
    )


def linear_relaxation(rate: float = 1e3, t1: float = 1.0) -> Problem:
    """`y' = -rate y + 2 rate` from 0: `y = 2 - 2 e^(-rate t)`, a transient, then rest at 2.

    **Arguments:**

    - `rate`: positive, per unit of time.
    - `t1`: the end.

    **Returns:** `Problem` of 1 state; `args` is `(rate,)`. For the transient alone take `t1 = 10 /
    rate`.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.linear_relaxation(rate=100.0, t1=0.1).true_equations()["y1"]
    200.0 - 100.0*y1

    ```
    """
    return Problem(
        "linear relaxation",
        _relaxation_components,
        y0=(0.0,),
        t1=t1,
        args=(rate,),
        closed_form=_relaxation_solution,
    )


def linear_pair() -> Problem:
    """`y1' = y2`, `y2' = -1000 y1 - 1001 y2`: eigenvalues -1 and -1000.

    **Returns:** `Problem` of 2 states, t from 0 to 11.

    Source: Aussagues, Ouala and others, Runge-Kutta schemes for joint identification and
    integration of stiff systems.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.linear_pair().true_equations()["y2"]
    -1000*y1 - 1001*y2

    ```
    """
    return Problem(
        "linear pair", _pair_components, y0=(5.0, 0.0), t1=11.0, closed_form=_pair_solution
    )


def _prothero_robinson_components(t, y, args):
    (y1,) = y
    (rate,) = args
    phase = t + jnp.pi / 4
    return (-rate * (y1 - jnp.sin(phase)) + jnp.cos(phase),)


def _prothero_robinson_solution(t, args):
    del args
    return (np.sin(t + np.pi / 4),)


def prothero_robinson(rate: float = 1e6) -> Problem:
    """`y' = -rate (y - phi(t)) + phi'(t)`, `phi = sin(t + pi/4)`: `y = phi`, however stiff.

    Shows the order that a method keeps when `rate` times the step is large.

    **Returns:** `Problem` of 1 state, t from 0 to 10; `args` is `(rate,)`.

    Source: Prothero and Robinson, On the stability and accuracy of one-step methods (1974).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.prothero_robinson(rate=1e4)
    Problem(Prothero-Robinson, n=1, t from 0 to 10)

    ```
    """
    return Problem(
        "Prothero-Robinson",
        _prothero_robinson_components,
        y0=(np.sin(np.pi / 4),),
        t1=10.0,
        args=(rate,),
        closed_form=_prothero_robinson_solution,
        polynomial=False,
    )


def _kaps_components(t, y, args):
    del t, args
    y1, y2 = y
    return -1002 * y1 + 1000 * y2**2, y1 - y2 - y2**2


def _kaps_solution(t, args):
    del args
    return np.exp(-2 * t), np.exp(-t)


def _triple_components(t, y, args):
    del t, args
    y1, y2, y3 = y
    return -500 * y1 + 500 * y2 * y3, -2 * y2 + y1, -y3 + y1 * y2 / 2


def kaps(*, transient: bool = False) -> Problem:
    """Kaps: `y1' = -1002 y1 + 1000 y2^2`, `y2' = y1 - y2 - y2^2`.

    **Arguments:**

    - `transient`: start at (2, 0.5), off the slow curve `y1 = y2^2`, instead of at (1, 1), from
        where the solution is `(e^(-2t), e^(-t))`.

    **Returns:** `Problem` of 2 states, t from 0 to 1.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.kaps(transient=True).y0
    array([2. , 0.5])

    ```
    """
    if transient:
        end = (0.03407059746139017, 0.18458222412082417)
        return Problem(
            "Kaps, transient", _kaps_components, y0=(2.0, 0.5), t1=1.0, reference=((1.0, end),)
        )
    return Problem("Kaps", _kaps_components, y0=(1.0, 1.0), t1=1.0, closed_form=_kaps_solution)


def quadratic_triple() -> Problem:
    """`y1' = -500 y1 + 500 y2 y3`, `y2' = -2 y2 + y1`, `y3' = -y3 + y1 y2 / 2`.

    **Returns:** `Problem` of 3 states, t from 0 to 5.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.quadratic_triple().true_equations()["y1"]
    -500*y1 + 500*y2*y3

    ```
    """
    return Problem(
        "quadratic triple",
        _triple_components,
        y0=(2.0, 1.0, 1.0),
        t1=5.0,
        reference=((5.0, (1.220527245476939e-6, 1.458385605716797e-4, 8.318955890121203e-3)),),
    )


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
