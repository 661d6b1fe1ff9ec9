"""Collocation coefficients in extended precision.

Everything here works on mpmath numbers: a tableau is rounded to double precision exactly once.
"""

from typing import Any, TypeAlias

# mpmath matrices and vectors carry no usable static types.
Exact: TypeAlias = Any

_DIGITS = 60


def extended_precision() -> Any:
    """The mpmath context in which every tableau is computed: 60 decimal digits."""
    # mpmath costs more to import than all of stiffrax; only methods in use should pay for it.
    import mpmath

    context = mpmath.MPContext()
    context.dps = _DIGITS
    return context


def _roots_of_derivative(mp: Any, left: int, right: int, times: int) -> list[Exact]:
    """Ascending zeros of the derivative of order `times` of x^left (x - 1)^right."""
    degree = left + right
    coefficients = [mp.mpf(0)] * (degree + 1)
    for k in range(right + 1):
        coefficients[degree - (left + k)] = mp.binomial(right, k) * (-1) ** (right - k)
    for _ in range(times):
        top = len(coefficients) - 1
        coefficients = [a * (top - k) for k, a in enumerate(coefficients[:-1])]
    zeros = mp.polyroots(coefficients, maxsteps=200, extraprec=400)
    return sorted(mp.re(zero) for zero in zeros)


def radau_nodes(mp: Any, stages: int) -> list[Exact]:
    """Zeros of d^(s-1)/dx^(s-1) [x^(s-1) (x-1)^s]; the last one is 1."""
    nodes = _roots_of_derivative(mp, stages - 1, stages, stages - 1)
    return [*nodes[:-1], mp.mpf(1)]


def gauss_nodes(mp: Any, stages: int) -> list[Exact]:
    """Zeros of d^s/dx^s [x^s (x-1)^s], the Legendre polynomial on [0, 1]."""
    return _roots_of_derivative(mp, stages, stages, stages)


def lobatto_nodes(mp: Any, stages: int) -> list[Exact]:
    """Zeros of d^(s-2)/dx^(s-2) [x^(s-1) (x-1)^(s-1)]; the ends are 0 and 1."""
    nodes = _roots_of_derivative(mp, stages - 1, stages - 1, stages - 2)
    return [mp.mpf(0), *nodes[1:-1], mp.mpf(1)]


def collocation_coefficients(mp: Any, nodes: list[Exact]) -> tuple[Exact, Exact]:
    """Returns `A` (integrals of the Lagrange basis to each node) and `b` (to 1)."""
    stages = len(nodes)
    powers = mp.matrix(stages, stages)
    integrals = mp.matrix(stages, stages)
    for i, c in enumerate(nodes):
        for j in range(stages):
            powers[i, j] = c**j if j else mp.mpf(1)
            integrals[i, j] = c ** (j + 1) / (j + 1)
    inverse = powers**-1
    ones = mp.matrix([[mp.mpf(1) / (j + 1) for j in range(stages)]])
    return integrals * inverse, ones * inverse
