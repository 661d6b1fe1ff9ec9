"""The length of a gradient: measured, or set."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ..data import check_sizes


def gradient_norm(gradient: PyTree[Array]) -> Array:
    """The Euclidean norm of all entries together."""
    return jnp.sqrt(sum(jnp.sum(jnp.abs(x) ** 2) for x in jax.tree.leaves(gradient)))


def rescale_gradient(norm: float) -> optax.GradientTransformation:
    r"""Gives every gradient the same Euclidean norm, as a transformation of optax.

    $$g \leftarrow \mathrm{norm} \, \frac{g}{|g|}$$

    Clipping (`optax.clip_by_global_norm`) bounds gradients from above only; this lifts the small
    ones too, which matters before optimizers that do not normalize by themselves. A gradient of
    zero stays zero.

    **Arguments:**

    - `norm`: positive.

    **Returns:** an `optax.GradientTransformation`, to be chained in front of an optimizer.

    **Raises:** `ValueError` if `norm` is not positive.

    ```python
    >>> import jax.numpy as jnp, optax, stiffrax as srx
    >>> optimizer = optax.chain(srx.rescale_gradient(1.0), optax.sgd(0.1))
    >>> gradient = jnp.array([3e-6, -4e-6])
    >>> updates, _ = optimizer.update(gradient, optimizer.init(gradient))
    >>> print(updates)
    [-0.06  0.08]

    ```
    """
    (norm,) = check_sizes("norm", [norm])

    def rescaled(gradient: Any, params: Any) -> Any:
        del params
        size = gradient_norm(gradient)
        factor = norm / jnp.where(size > 0, size, 1)
        return jax.tree.map(lambda x: (factor * x).astype(x.dtype), gradient)

    return optax.stateless(rescaled)
