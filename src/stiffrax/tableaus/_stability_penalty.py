"""A loss for tableaus that let decaying components grow."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._coefficients import Method, coefficients


def characteristic_polynomial(matrix: Float[Array, "s s"]) -> list[Array]:
    """Coefficients of `det(I - z matrix)` in rising powers of `z`, by Faddeev and LeVerrier.

    Products only: determinants for thousands of `z` would be as many factorizations.
    """
    s = matrix.shape[0]
    identity = jnp.eye(s, dtype=matrix.dtype)
    coefficients, M = [jnp.ones((), matrix.dtype)], identity
    for k in range(1, s + 1):
        product = matrix @ M
        coefficients.append(-jnp.trace(product) / k)
        M = product + coefficients[-1] * identity
    return coefficients


def _squared_modulus(polynomial: list[Array], x: Array, y: Array) -> Array:
    real, imaginary = jnp.zeros_like(x), jnp.zeros_like(x)
    for a in reversed(polynomial):
        real, imaginary = real * x - imaginary * y + a, real * y + imaginary * x
    return real**2 + imaginary**2


def stability_penalty(tableau: Method, region: Any) -> Float[Array, ""]:
    r"""How far a method is from stable where it should be.

    $$\frac1m \sum_k \max(|R(z_k)| - 1, 0)^2, \qquad
      R(z) = \frac{\det(I - z (A - \mathbf{1} b^T))}{\det(I - z A)}$$

    **Arguments:**

    - `tableau`: that of a [`stiffrax.LearnableRungeKutta`][], or arrays `(A, b, c)`.
    - `region`: points `z = h lambda`, real or complex, any shape; for example the eigenvalues of the
      Jacobian along a trajectory times the step, or a grid over the region that is wanted.

    **Returns:** The mean over all points; zero if the method is stable at each. Differentiable in
    the tableau, infinite at a pole.

    **Raises:** `ValueError` for arrays that do not belong together.

    Cost: `s` products of `s x s` matrices, and two polynomials of degree `s` at each point.

    ??? cite "Reference"
        Ouala et al., *Learning Runge-Kutta integration schemes for ODE simulation and
        identification*, arXiv 2105.04999.

    ```python
    >>> import stiffrax as srx
    >>> radau = srx.tableaus.radau_iia(2)
    >>> float(srx.tableaus.stability_penalty(radau, [-1.0, -10.0 + 5.0j]))
    0.0

    ```
    """
    A, b, _ = coefficients(tableau)
    z = jnp.asarray(region)
    dtype = jnp.result_type(jnp.float32, A.dtype) if hasattr(A, "dtype") else jnp.float64
    A, b = jnp.asarray(A, dtype), jnp.asarray(b, dtype)
    x, y = jnp.real(z).astype(A.dtype), jnp.imag(z).astype(A.dtype)
    above = _squared_modulus(characteristic_polynomial(A - b), x, y)
    below = _squared_modulus(characteristic_polynomial(A), x, y)
    # Where |R| <= 1 the root is not taken: at R = 0 it has no derivative.
    grows = above > below
    modulus = jnp.sqrt(jnp.where(grows, above, 1) / jnp.where(grows, below, 1))
    return jnp.mean(jnp.where(grows, modulus - 1, 0) ** 2)
