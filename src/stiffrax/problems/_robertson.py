"""Robertson's reaction, as an ODE and as a differential-algebraic equation."""

import numpy as np

from ._problem import Problem

_RATES = (0.04, 3e7, 1e4)


def _components(t, y, args):
    del t
    y1, y2, y3 = y
    k1, k2, k3 = args
    return (
        -k1 * y1 + k3 * y2 * y3,
        k1 * y1 - k3 * y2 * y3 - k2 * y2**2,
        k2 * y2**2,
    )


def _dae_components(t, y, args):
    y1, y2, y3 = y
    return (*_components(t, y, args)[:2], y1 + y2 + y3 - 1)


def robertson() -> Problem:
    """ROBER: `y1 -> y2` (k1), `2 y2 -> y2 + y3` (k2), `y2 + y3 -> y1 + y3` (k3); the sum is 1.

    **Returns:** `Problem` of 3 states, t from 0 to 1e11, with known values from t = 0.4 on; `args`
    are the rates `(k1, k2, k3) = (0.04, 3e7, 1e4)`.

    Source: Robertson, The solution of a set of reaction rate equations (1966).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.robertson().true_equations()["y2"]
    0.04*y1 - 30000000.0*y2**2 - 10000.0*y2*y3

    ```
    """
    return Problem(
        "ROBER", _components, y0=(1.0, 0.0, 0.0), t1=1e11, args=_RATES, reference=_REFERENCE
    )


def robertson_dae() -> Problem:
    """ROBER of index 1: `0 = y1 + y2 + y3 - 1` in place of the third equation.

    **Returns:** `Problem` as `robertson`, with mass matrix diag(1, 1, 0) and the same solution.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.robertson_dae().true_equations()["y3"]
    y1 + y2 + y3 - 1

    ```
    """
    return Problem(
        "ROBER as DAE",
        _dae_components,
        y0=(1.0, 0.0, 0.0),
        t1=1e11,
        args=_RATES,
        mass=np.diag([1.0, 1.0, 0.0]),
        reference=_REFERENCE,
    )


_REFERENCE = (
    (0.4, (9.851721138609898617e-1, 3.386395378974904123e-5, 1.479402218522038931e-2)),
    (4.0, (9.055186785842539118e-1, 2.240475687560200911e-5, 9.445891665887048611e-2)),
    (40.0, (7.158270687194050905e-1, 9.185534764557763902e-6, 2.841637457458303518e-1)),
    (100.0, (6.172348823960877561e-1, 6.153591274639122924e-6, 3.827589640126376049e-1)),
    (400.0, (4.505186684711024245e-1, 3.222901441674611303e-6, 5.49478108627455901e-1)),
    (4e3, (1.832022577767093114e-1, 8.942371252775909262e-7, 8.167968479861654113e-1)),
    (4e4, (3.898337708548285249e-2, 1.621768315909682424e-7, 9.610164607376855568e-1)),
    (1e5, (1.786592114209946498e-2, 7.274751468436318772e-8, 9.821340061103858513e-1)),
    (4e5, (4.938274520979815567e-3, 1.984994087954375438e-8, 9.950617056290793056e-1)),
    (4e6, (5.168096014924384161e-4, 2.068294491224453555e-9, 9.99483188330213071e-1)),
    (4e7, (5.203071844120547367e-5, 2.081335731892532717e-10, 9.999479690734252218e-1)),
    (4e8, (5.207702103573172522e-6, 2.083091559415364984e-11, 9.999947922770655115e-1)),
    (4e9, (5.208276611435935061e-7, 2.08331171660457196e-12, 9.999994791702555451e-1)),
    (4e10, (5.208345176799239202e-8, 2.083338177925489035e-13, 9.999999479163398985e-1)),
    (1e11, (2.083340149701294232e-8, 8.333360770334783403e-14, 9.999999791665151698e-1)),
)
