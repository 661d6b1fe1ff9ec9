"""A flame front: a partial differential equation with a low-dimensional chaotic attractor."""

import functools

import jax.numpy as jnp
import numpy as np

from ._problem import Problem

_MODES = 15


@functools.cache
def _on_grid() -> np.ndarray:
    """`u = _on_grid() @ y` at so many points that the square of `u` has no alias."""
    points = 3 * _MODES + 3
    phase = 2 * np.pi / points * np.outer(np.arange(points), np.arange(1, _MODES + 1))
    return 2 * np.concatenate([np.cos(phase), -np.sin(phase)], axis=1)


def _components(t, y, args):
    del t
    (length,) = args
    on_grid = _on_grid()
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
        _components,
        y0=tuple(y0),
        t1=100.0,
        names=tuple(f"{part}{k}" for part in ("re", "im") for k in range(1, _MODES + 1)),
        args=(22.0,),
        polynomial=False,
    )
