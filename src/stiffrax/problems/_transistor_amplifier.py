"""The transistor amplifier: index 1, with a singular mass matrix that is not diagonal."""

import jax.numpy as jnp
import numpy as np

from ._problem import Problem

_SUPPLY = 6.0  # volts
_THERMAL = 0.026
_ALPHA = 0.99
_BETA = 1e-6
_R0 = 1e3  # ohms; R1 to R9 are equal
_R = 9e3


def _diode(x):
    return _BETA * jnp.expm1(x / _THERMAL)


def _components(t, y, args):
    del args
    y1, y2, y3, y4, y5, y6, y7, y8 = y
    signal = 0.1 * jnp.sin(200 * jnp.pi * t)
    first, second = _diode(y2 - y3), _diode(y5 - y6)
    return (
        (y1 - signal) / _R0,
        y2 / _R + (y2 - _SUPPLY) / _R + (1 - _ALPHA) * first,
        y3 / _R - first,
        (y4 - _SUPPLY) / _R + _ALPHA * first,
        y5 / _R + (y5 - _SUPPLY) / _R + (1 - _ALPHA) * second,
        y6 / _R - second,
        (y7 - _SUPPLY) / _R + _ALPHA * second,
        y8 / _R,
    )


def _mass() -> np.ndarray:
    """Capacitors C1 to C5: alternately between two neighboring nodes and to the ground."""
    mass = np.zeros((8, 8))
    for node, capacitance in ((0, 1e-6), (3, 3e-6), (6, 5e-6)):
        mass[node : node + 2, node : node + 2] = capacitance * np.array([[-1, 1], [1, -1]])
    mass[2, 2] = -2e-6
    mass[5, 5] = -4e-6
    return mass


def transistor_amplifier() -> Problem:
    """Node voltages of a two-stage amplifier driven at 100 Hz; `M` has rank 5 of 8.

    **Returns:** `Problem` of 8 states (volts), t from 0 to 0.2 (seconds), consistent `y0`.

    Source: the Bari test set for initial value problem solvers.

    ```python
    >>> import numpy as np
    >>> import stiffrax as srx
    >>> int(np.linalg.matrix_rank(srx.problems.transistor_amplifier().mass))
    5

    ```
    """
    return Problem(
        "transistor amplifier",
        _components,
        y0=(0.0, 3.0, 3.0, 6.0, 3.0, 3.0, 6.0, 0.0),
        t1=0.2,
        mass=_mass(),
        reference=(
            (
                0.2,
                (
                    -0.005562145012261693,
                    3.006522471903042,
                    2.849958788608128,
                    2.926422536206241,
                    2.704617865010554,
                    2.761837778393145,
                    4.770927631616772,
                    1.236995868091548,
                ),
            ),
        ),
        polynomial=False,
    )
