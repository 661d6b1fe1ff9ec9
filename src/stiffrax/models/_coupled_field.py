"""A vector field drawn toward a given path."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


@final
class CoupledField(eqx.Module):
    r"""A vector field with a proportional coupling to a path, which its solution then follows.

    $$\frac{du}{dt} = f(t, u) - \lambda K (u - target(t))$$

    With large $\lambda K$ the solution stays near the path whatever `f` is; with $\lambda = 0$ it is
    that of `f`. [`stiffrax.HomotopyLoss`][] wraps the model that is trained in it.

    **Arguments:**

    - `field`: `field(t, u, args) -> du/dt`, any model.
    - `target`: a path of `n` states, such as [`stiffrax.SmoothingSpline`][].
    - `coupling`: `K`, per unit of time: a number, `n` of them, or an `n x n` matrix.
    - `strength`: $\lambda$, from 0 to 1.

    **Raises:** `ValueError` for a coupling that does not fit the state.

    ??? cite "Reference"
        Ko, Koh, Park and Jhe, *Homotopy-based training of NeuralODEs for accurate dynamics
        discovery*, NeurIPS 36 (2023).

    ```python
    >>> import jax.numpy as jnp, numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> target = srx.SmoothingSpline(ts, np.ones((6, 1)))
    >>> coupled = srx.CoupledField(lambda t, y, args: -y, target, coupling=2.0)
    >>> print(coupled(0.5, jnp.array([3.0])))
    [-7.]

    ```
    """

    field: Callable[..., Any]
    target: diffrax.AbstractPath
    coupling: Any
    strength: Any = 1.0

    def __call__(self, t: Any, y: Float[Array, " n"], args: Any = None) -> Float[Array, " n"]:
        """`f(t, y) - strength * coupling @ (y - target(t))`."""
        coupling = jnp.asarray(self.coupling, y.dtype)
        check_coupling(coupling, y.size)
        distance = y - jnp.asarray(self.target.evaluate(t), y.dtype)
        # A sum, not `@`: for a few states a library call costs more than the product.
        pull = jnp.sum(coupling * distance, axis=-1) if coupling.ndim == 2 else coupling * distance
        return jnp.asarray(self.field(t, y, args)) - jnp.asarray(self.strength, y.dtype) * pull


def check_coupling(coupling: Any, n: int) -> None:
    """Raises `ValueError` unless the coupling is a number, `n` of them, or an `n x n` matrix."""
    if jnp.shape(coupling) not in ((), (n,), (n, n)):
        raise ValueError(
            f"`coupling` of shape {jnp.shape(coupling)} was given for {n} states; it needs one "
            f"number, {n} of them, or a matrix of shape ({n}, {n})."
        )
