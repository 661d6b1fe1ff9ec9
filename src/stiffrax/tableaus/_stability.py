"""Stability functions, and penalties on them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Complex, Float, Inexact

from .._trees import is_traced
from ._order_conditions import Method, coefficients, is_traceable
from ._order_of_convergence import rounding_of
from ._tableau import Tableau

# |z| from far below to far above every pole and zero of a method with ordinary coefficients.
_RADII = np.geomspace(1e-4, 1e5, 4000)
_ROUNDING = 1e-10


def stability_function(method: Method, z: ArrayLike) -> Inexact[Array | np.ndarray, "..."]:
    r"""The factor by which one step multiplies the solution of `y' = lambda y`, at `z = h lambda`.

    $$R(z) = 1 + z b^T (I - z A)^{-1} \mathbf{1}
      = \frac{\det(I - z A + z \mathbf{1} b^T)}{\det(I - z A)}$$

    Computed from the determinants: at a pole, where the linear system has no solution, they exist.

    **Arguments:**

    - `method`: a [`stiffrax.tableaus.Tableau`][] or arrays `(A, b, c)`.
    - `z`: real or complex numbers, any shape.

    **Returns:** `R(z)`, of the shape of `z`, infinite at a pole. A JAX array if the coefficients or
    `z` are, and then differentiable in them; else a NumPy array.

    **Raises:** `ValueError` for arrays that do not belong together.

    **Cost:** Two `s x s` factorizations for each `z`.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, proposition IV.3.2.

    ```python
    >>> import stiffrax as srx
    >>> float(srx.tableaus.stability_function(srx.tableaus.radau_iia(1), -1.0))
    0.5

    ```
    """
    A, b, _ = coefficients(method)
    xp = np
    if is_traceable(A, b, z):
        xp = jnp
        # The double precision of a tableau must not promote single-precision arguments.
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(0.0, z, *(x for x in (A, b) if is_traceable(x)))
        A, b, z = (jnp.asarray(x, dtype) for x in (A, b, z))
    z = xp.asarray(z)[..., None, None]
    # Far out both matrices over `z`, whose determinants stay within the range of numbers.
    far = xp.abs(z) > 1
    scaled, inverse = xp.where(far, 1, z), 1 / xp.where(far, z, 1)
    lead = (None,) * (z.ndim - 2)
    unit = inverse * xp.eye(len(b), dtype=A.dtype)[lead]
    A, beyond = A[lead], (b[None] - A)[lead]
    with np.errstate(divide="ignore", invalid="ignore"):
        R = xp.linalg.det(unit + scaled * beyond) / xp.linalg.det(unit - scaled * A)
    return xp.asarray(R)


def stability_at_infinity(method: Method) -> Float[Array | np.ndarray, ""] | float:
    r"""The limit of the stability function for infinitely stiff components.

    $$R(\infty) = 1 - b^T A^{-1} \mathbf{1} = \frac{\det(A - \mathbf{1} b^T)}{\det A}$$

    0 damps them in one step (Radau IIA); 1 and -1 keep them forever (Gauss, trapezoid rule).

    **Arguments:**

    - `method`: a [`stiffrax.tableaus.Tableau`][], or arrays `(A, b, c)`. The formula above is for a
      regular `A`; with a singular one, as of methods whose first stage is explicit, the limit is that
      of the polynomials.

    **Returns:** `R` at infinity; infinite for explicit methods. Not a number where a singular `A` is
    traced.

    **Raises:** `ValueError` for arrays that do not belong together.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.3.

    ```python
    >>> import stiffrax as srx
    >>> float(srx.tableaus.stability_at_infinity(srx.tableaus.lobatto_iiia(2)))
    -1.0

    ```
    """
    if isinstance(method, Tableau):
        # The stage equations with f0 = lambda y0: Z tends to -(1 + w).
        return 1 - method.d @ (1 + method.explicit_weights)
    A, b, _ = coefficients(method)
    xp = jnp if is_traceable(A, b) else np
    known = not is_traced((A, b))
    if known and np.linalg.matrix_rank(np.asarray(A, float)) < len(b):
        return xp.asarray(limit_at_infinity(A, b), dtype=xp.result_type(A, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return xp.asarray(xp.linalg.det(A - b[None]) / xp.linalg.det(A))


def _angle_of_poles(method: Method) -> float:
    """The angle of the widest sector around the negative axis that is free of poles."""
    A, _, _ = coefficients(method)
    values = np.linalg.eigvals(A)
    values = values[np.abs(values) > np.finfo(float).eps]
    return float(np.min(np.pi - np.abs(np.angle(values)), initial=np.pi))


def is_a_stable(method: Method) -> bool:
    r"""Whether no decaying component grows, whatever the step: `|R(z)| <= 1` for `Re z <= 0`.

    By the maximum principle it is enough that no pole lies in the left half-plane and that
    `|R(i y)| <= 1` for all `y`, which the coefficients of a polynomial in `y` tell: to 1e-10 of each,
    and in single precision to rounding.

    **Arguments:**

    - `method`: a [`stiffrax.tableaus.Tableau`][] or NumPy arrays `(A, b, c)`.

    **Returns:** A Boolean.

    **Raises:** `ValueError` for arrays that do not belong together.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.3.

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.is_a_stable(srx.tableaus.gauss(3))
    True

    ```
    """
    A, b, _ = coefficients(method)
    return _angle_of_poles(method) > np.pi / 2 and stability_interval(A, b, 1j) == np.inf


def stability_angle(method: Method) -> float:
    r"""The largest `alpha` for which the method is A(alpha)-stable, in radians.

    $$|R(z)| \le 1 \quad \text{for all } z \text{ with } |\arg(-z)| \le \alpha$$

    `pi / 2` for an A-stable method and 0 for an explicit one. Found by bisection: by the maximum
    principle the boundary of a sector without poles speaks for all of it.

    **Arguments:**

    - `method`: a [`stiffrax.tableaus.Tableau`][] or NumPy arrays `(A, b, c)`.

    **Returns:** The angle, from 0 to `pi / 2`.

    **Raises:** `ValueError` for arrays that do not belong together.

    **Cost:** 40 times 4000 values of the stability function.

    ??? cite "Reference"
        Widlund, *A note on unconditionally stable linear multistep methods*, BIT 7 (1967).

    ```python
    >>> import stiffrax as srx
    >>> round(srx.tableaus.stability_angle(srx.tableaus.radau_iia(3)), 4)
    1.5708

    ```
    """
    if is_a_stable(method):
        return np.pi / 2
    low, high = 0.0, min(np.pi / 2, _angle_of_poles(method))
    for _ in range(40):
        middle = (low + high) / 2
        ray = -_RADII * np.exp(1j * middle)
        bounded = np.all(np.abs(stability_function(method, ray)) <= 1 + _ROUNDING)
        low, high = (middle, high) if bounded else (low, middle)
    return low


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


def _squared_modulus(polynomial: list[Array], x: Array, y: Array, far: Array) -> Array:
    """Where `far`, of the polynomial with its coefficients the other way round."""
    real, imaginary = jnp.zeros_like(x), jnp.zeros_like(x)
    for near_a, far_a in zip(reversed(polynomial), polynomial, strict=True):
        a = jnp.where(far, far_a, near_a)
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
    dtype = np.promote_types(np.float32, A.dtype) if hasattr(A, "dtype") else jnp.float64
    A, b = jnp.asarray(A, dtype), jnp.asarray(b, dtype)
    most = jnp.finfo(A.dtype).max
    x, y = (jnp.clip(u.astype(A.dtype), -most, most) for u in (jnp.real(z), jnp.imag(z)))
    # Beyond one both polynomials over `z^s`, in `1 / z`: their squares leave no range of numbers.
    far = jnp.maximum(jnp.abs(x), jnp.abs(y)) > 1
    size = jnp.hypot(jnp.where(far, x, 1), jnp.where(far, y, 0))
    x, y = jnp.where(far, x / size / size, x), jnp.where(far, -y / size / size, y)
    above = _squared_modulus(characteristic_polynomial(A - b[None]), x, y, far)
    below = _squared_modulus(characteristic_polynomial(A), x, y, far)
    # Where |R| <= 1 the root is not taken: at R = 0 it has no derivative.
    grows = ~(above <= below)
    modulus = jnp.sqrt(jnp.where(grows, above, 1) / jnp.where(grows, below, 1))
    return jnp.mean(jnp.where(grows, modulus - 1, 0) ** 2)


def _polynomials(A: Any, b: Any) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Numerator and denominator of `R(z)`, coefficients of rising powers."""
    A, b = np.asarray(A, float), np.asarray(b, float)
    return np.real(np.poly(A - b[None])), np.real(np.poly(A))


def _slack(A: Any, b: Any) -> float:
    # Up to 15 stages, coefficients that cancel leave 40 units of rounding in double precision and 4
    # in single; a projected tableau leaves up to 1e-12.
    return 1e-10 + 10 * rounding_of(A, b)


def limit_at_infinity(A: Any, b: Any) -> float:
    """`R(inf)`, also of a singular `A`, whose zero eigenvalues lower the degrees; may be infinite."""
    above, below = _polynomials(A, b)
    slack, sizes = _slack(A, b), np.maximum(np.abs(above), np.abs(below))
    top = int(np.flatnonzero(sizes > slack * np.append(0, sizes[:-1]))[-1])
    small = abs(below[top]) <= slack * sizes[top]
    return float(np.inf if small else above[top] / below[top])


def stability_interval(A: Any, b: Any, direction: complex) -> float:
    r"""How far from 0 `|R| <= 1` holds along a ray; 0 where it does not hold next to 0.

    Where `|D|^2 - |N|^2`, a polynomial in the distance, first becomes negative: by its lowest
    coefficient or its positive roots. Numbers at points would not tell: next to 0 the growth of a
    method that is unstable there is below rounding, `y^4 / 8` for Heun's.
    """
    above, below = _polynomials(A, b)
    powers = np.asarray(direction) ** np.arange(len(below))
    difference = _square(below * powers) - _square(above * powers)
    sizes = _square(np.abs(below)) + _square(np.abs(above))
    slack = _slack(A, b)
    kept = np.flatnonzero(np.abs(difference) > slack * sizes)
    if not kept.size:
        return np.inf
    lowest, highest = kept[0], kept[-1]
    if difference[lowest] < 0:
        return 0.0
    difference = np.where(np.abs(difference) > slack * sizes, difference, 0)
    polynomial = np.polynomial.Polynomial(difference[lowest : highest + 1])
    bound = np.polynomial.Polynomial(sizes[lowest : highest + 1])
    roots = polynomial.roots()
    roots = np.sort(roots.real[(np.abs(roots.imag) < 1e-6 * np.abs(roots)) & (roots.real > 0)])
    for k, root in enumerate(roots):
        # A double root, which is touched and not crossed, may come as two.
        beyond = (root + roots[k + 1]) / 2 if k + 1 < len(roots) else 2 * root
        if polynomial(beyond) < -slack * bound(beyond):
            return float(root)
    return np.inf


def _square(coefficients: Complex[np.ndarray, " k"] | Float[np.ndarray, " k"]) -> Any:
    return np.real(np.convolve(coefficients, np.conj(coefficients)))
