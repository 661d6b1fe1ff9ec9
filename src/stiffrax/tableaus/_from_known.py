"""Trainable tableaus that start from a known method."""

from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np

from ._coefficients import Method, coefficients
from ._learnable_tableau import AbstractLearnableTableau, LearnableTableau, check_kind, used_entries
from ._order_conditions import order_conditions
from ._stable_tableau import stable_parameters

_ROUNDING = 1e-12
_HIGHEST_ORDER = 8


def _butcher_arrays(known: diffrax.ButcherTableau) -> tuple[Any, Any, Any]:
    """`(A, b, c)` of a tableau of diffrax, which keeps rows below the diagonal."""
    s = known.num_stages
    A = np.zeros((s, s))
    for i, row in enumerate(known.a_lower, start=1):
        A[i, :i] = row
    if known.a_diagonal is not None:
        A += np.diag(known.a_diagonal)
    return A, np.asarray(known.b_sol), np.append(known.c1, known.c)


def kind_of(A: Any) -> str:
    """The narrowest kind of method that has room for `A`."""
    A = np.asarray(A)
    if not np.any(np.triu(A)):
        return "explicit"
    return "implicit" if np.any(np.triu(A, 1)) else "diagonally_implicit"


def order_of(A: Any, b: Any, c: Any) -> int:
    """The order of convergence, up to 8; 0 for a method that is not consistent."""
    if np.max(np.abs(np.sum(A, axis=1) - c)) > _ROUNDING:
        return int(abs(np.sum(b) - 1) <= _ROUNDING)
    for p in range(1, _HIGHEST_ORDER + 1):
        if np.max(np.abs(order_conditions((A, b, c), p))) > _ROUNDING:
            return p - 1
    return _HIGHEST_ORDER


def learnable_tableau(
    known: Method | diffrax.ButcherTableau,
    kind: str | None = None,
    order: int | None = None,
    stability: str | None = None,
) -> AbstractLearnableTableau:
    """A trainable tableau with the coefficients of a known method.

    **Arguments:** those of [`stiffrax.LearnableRungeKutta.from_tableau`][].

    **Returns:** A `LearnableTableau`, or a `StableTableau` if a stability was asked for.

    **Raises:** `ValueError` if the kind has no room for the coefficients, or the stability is not
    that of the method.

    ```python
    >>> import diffrax, stiffrax as srx
    >>> srx.tableaus.learnable_tableau(diffrax.Tsit5.tableau)
    LearnableTableau(explicit, order=5, stages=7)

    ```
    """
    is_butcher = isinstance(known, diffrax.ButcherTableau)
    A, b, c = _butcher_arrays(known) if is_butcher else coefficients(known)
    A, b, c = (np.asarray(x, float) for x in (A, b, c))
    # What an optimizer's rounding leaves above the diagonal makes no method implicit.
    A = np.where(np.abs(A) < 4 * np.finfo(float).eps * np.max(np.abs(A)), 0, A)
    kind = kind_of(A) if kind is None else kind
    check_kind(kind)
    if np.any(np.asarray(used_entries(kind, A)) != np.asarray(jnp.asarray(A))):
        raise ValueError(
            f"`kind={kind!r}` was given for a method that is {kind_of(A)!r}; write that, or leave "
            "`kind` out."
        )
    if order is None:
        order = max(order_of(A, b, c), 1)
    if stability is not None:
        check_stability(stability, kind_if_stable(kind))
        return stable_parameters(A, b, stability, order)
    return LearnableTableau(jnp.asarray(A), jnp.asarray(b), jnp.asarray(c), kind=kind, order=order)


def kind_if_stable(kind: str) -> str:
    """A diagonally implicit method may become a stable one that is fully implicit."""
    return "implicit" if kind == "diagonally_implicit" else kind


def check_stability(stability: str | None, kind: str) -> None:
    """Refuses what no construction gives."""
    if stability not in (None, "A", "L"):
        raise ValueError(f"`stability={stability!r}` was given; write None, 'A' or 'L'.")
    if stability is not None and kind != "implicit":
        raise ValueError(
            f"`stability={stability!r}` was given for `kind={kind!r}`; only implicit methods are "
            "stable for all values of their parameters. Write `kind='implicit'`, or train with "
            "`stiffrax.tableaus.stability_penalty`."
        )
