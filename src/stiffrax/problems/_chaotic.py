"""Chaotic flows: of three and four states, a double pendulum, a flame front."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._flat_state import inexact
from ._problem import Problem


def _lorenz_components(t, y, args):
    del t
    x, y, z = y
    sigma, rho, beta = args
    return sigma * (y - x), x * (rho - z) - y, x * y - beta * z


def lorenz() -> Problem:
    """Lorenz-63: `x' = sigma (y - x)`, `y' = x (rho - z) - y`, `z' = x y - beta z`; chaotic.

    Errors grow about 10^4-fold up to t = 10, the last reference time.

    **Returns:** `Problem` of 3 states, t from 0 to 10; `args` is
    `(sigma, rho, beta) = (10, 28, 8/3)`.

    Source: Lorenz, Deterministic nonperiodic flow (1963).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.lorenz().true_equations()["x"]
    -10.0*x + 10.0*y

    ```
    """
    return Problem(
        "Lorenz-63",
        _lorenz_components,
        y0=(1.2, 2.1, 1.7),
        t1=10.0,
        names=("x", "y", "z"),
        args=(10.0, 28.0, 8.0 / 3.0),
        reference=(
            (3.0, (-6.83448005335564, -5.740386900967388, 26.554001644415383)),
            (10.0, (-6.0677963647846145, -1.7051469564459736, 29.663683269371088)),
        ),
    )


def _roessler_components(t, y, args):
    del t
    x, y, z = y
    a, b, c = args
    return -y - z, x + a * y, b + z * (x - c)


def _hyperchaotic_roessler_components(t, y, args):
    del t
    x, y, z, w = y
    a, b, c, d = args
    return -y - z, x + a * y + w, b + x * z, -c * z + d * w


def roessler() -> Problem:
    """`x' = -y - z`, `y' = x + a y`, `z' = b + z (x - c)`; chaotic, one folded band.

    **Returns:** `Problem` of 3 states, t from 0 to 100, no reference value; `args` is
    `(a, b, c) = (0.2, 0.2, 5.7)`.

    Source: Roessler, An equation for continuous chaos (1976).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.roessler().true_equations()["z"]
    x*z - 5.7*z + 0.2

    ```
    """
    return Problem(
        "Roessler",
        _roessler_components,
        y0=(1.0, 1.0, 0.0),
        t1=100.0,
        names=("x", "y", "z"),
        args=(0.2, 0.2, 5.7),
    )


def hyperchaotic_roessler() -> Problem:
    """`x' = -y - z`, `y' = x + a y + w`, `z' = b + x z`, `w' = -c z + d w`; two growing directions.

    Starts near the origin diverge: keep to the given one, or to states of its solution.

    **Returns:** `Problem` of 4 states, t from 0 to 100, no reference value; `args` is
    `(a, b, c, d) = (0.25, 3, 0.5, 0.05)`.

    Source: Roessler, An equation for hyperchaos (1979).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.hyperchaotic_roessler().true_equations()["z"]
    x*z + 3.0

    ```
    """
    return Problem(
        "hyperchaotic Roessler",
        _hyperchaotic_roessler_components,
        y0=(-20.0, 0.0, 0.0, 15.0),
        t1=100.0,
        names=("x", "y", "z", "w"),
        args=(0.25, 3.0, 0.5, 0.05),
    )


def _chen_components(t, y, args):
    del t
    x, y, z, w = y
    a, b, c, d, r = args
    return a * (y - x) + w, d * x - x * z + c * y, x * y - b * z, y * z + r * w


def hyperchaotic_chen() -> Problem:
    """`x' = a (y - x) + w`, `y' = d x - x z + c y`, `z' = x y - b z`, `w' = y z + r w`.

    **Returns:** `Problem` of 4 states, t from 0 to 20, no reference value; `args` is
    `(a, b, c, d, r) = (35, 3, 12, 7, 0.58)`.

    Source: Li, Tang and Chen, Generating hyperchaos via state feedback control (2005).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.hyperchaotic_chen().true_equations()["z"]
    x*y - 3.0*z

    ```
    """
    return Problem(
        "hyperchaotic Chen",
        _chen_components,
        y0=(1.0, 1.0, 1.0, 1.0),
        t1=20.0,
        names=("x", "y", "z", "w"),
        args=(35.0, 3.0, 12.0, 7.0, 0.58),
    )


def _pendulum_components(t, y, args):
    del t
    th1, th2, w1, w2 = y
    m1, m2, l1, l2, g = args
    total = m1 + m2
    sine, cosine = jnp.sin(th2 - th1), jnp.cos(th2 - th1)
    pull1, pull2 = g * jnp.sin(th1), g * jnp.sin(th2)
    reduced = total - m2 * cosine**2
    return (
        w1,
        w2,
        (m2 * sine * (l1 * w1**2 * cosine + l2 * w2**2) + m2 * pull2 * cosine - total * pull1)
        / (l1 * reduced),
        (-m2 * l2 * w2**2 * sine * cosine + total * (pull1 * cosine - pull2 - l1 * w1**2 * sine))
        / (l2 * reduced),
    )


def double_pendulum() -> Problem:
    """Angles `th1`, `th2` from the vertical (radian) and their rates `w1`, `w2`.

    Conserved: `(m1 + m2) l1^2 w1^2 / 2 + m2 l2^2 w2^2 / 2 + m2 l1 l2 w1 w2 cos(th2 - th1)
    - (m1 + m2) g l1 cos(th1) - m2 g l2 cos(th2)`.

    **Returns:** `Problem` of 4 states, t from 0 to 10 (seconds), no reference value; `args` is
    `(m1, m2, l1, l2, g) = (1, 1, 1, 1, 9.81)` in kilogram, metre, second.

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.double_pendulum().names
    ('th1', 'th2', 'w1', 'w2')

    ```
    """
    return Problem(
        "double pendulum",
        _pendulum_components,
        y0=(2.0, 1.0, 0.0, 0.0),
        t1=10.0,
        names=("th1", "th2", "w1", "w2"),
        args=(1.0, 1.0, 1.0, 1.0, 9.81),
        polynomial=False,
    )


_MODES = 15


@functools.cache
def _on_grid() -> np.ndarray:
    """`u = _on_grid() @ y` at so many points that the square of `u` has no alias."""
    points = 3 * _MODES + 3
    phase = 2 * np.pi / points * np.outer(np.arange(points), np.arange(1, _MODES + 1))
    return 2 * np.concatenate([np.cos(phase), -np.sin(phase)], axis=1)


def _flame_components(t, y, args) -> Any:
    del t
    (length,) = args
    on_grid = _on_grid()
    y = inexact(y)
    wave_number = jnp.asarray(2 * np.pi * np.arange(1, _MODES + 1), y.dtype) / length
    u = jnp.asarray(on_grid, y.dtype) @ y
    square = jnp.asarray(on_grid.T / (2 * len(on_grid)), y.dtype) @ u**2
    growth = wave_number**2 - wave_number**4
    real, imaginary = square[:_MODES], square[_MODES:]
    advection = 0.5 * jnp.concatenate([wave_number * imaginary, -wave_number * real])
    return jnp.concatenate([growth, growth]) * y + advection


def kuramoto_sivashinsky() -> Problem:
    """`u_t = -u u_x - u_xx - u_xxxx`, periodic with zero mean; chaotic, stiff in its fine modes.

    The states are the real and imaginary parts of the Fourier coefficients `a_1, ..., a_15` of
    `u(x) = sum_k a_k exp(2 pi i k x / L)` plus its conjugate; the product has no alias.

    **Returns:** `Problem` of 30 states, t from 0 to 100, no reference value; `args` is `(L,) =
    (22,)`.

    Source: Cvitanovic, Davidchack and Siminos, On the state space geometry of the
    Kuramoto-Sivashinsky flow in a periodic domain (2010).

    ```python
    >>> import stiffrax as srx
    >>> srx.problems.kuramoto_sivashinsky().names[14:17]
    ('re15', 'im1', 'im2')

    ```
    """
    y0 = np.zeros(2 * _MODES)
    y0[0], y0[1], y0[_MODES + 2] = 0.5, 0.3, 0.1
    return Problem(
        "Kuramoto-Sivashinsky",
        _flame_components,
        y0=tuple(y0),
        t1=100.0,
        names=tuple(f"{part}{k}" for part in ("re", "im") for k in range(1, _MODES + 1)),
        args=(22.0,),
        polynomial=False,
    )
