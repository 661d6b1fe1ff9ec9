"""The stability function as a ratio of polynomials: where it grows, and its limit."""

from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from ._order_of_convergence import rounding_of


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
