"""Learnable tableaus to start from: known methods and random ones."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._arguments import as_integer, check_count
from .._options import MethodKind, Stability
from ._learnable_tableau import (
    AbstractLearnableTableau,
    LearnableTableau,
    StableTableau,
    check_kind,
    parameter_shapes,
    stable_parameters,
    used_entries,
)
from ._order_conditions import (
    Method,
    coefficients,
    order_projection,
    order_residuals,
)
from ._order_of_convergence import order_of_convergence, rounding_of

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


def learnable_tableau(
    known: Method | diffrax.ButcherTableau,
    kind: MethodKind | None = None,
    order: int | None = None,
    stability: Stability | None = None,
) -> AbstractLearnableTableau:
    """A trainable tableau with the coefficients of a known method.

    **Arguments:** those of [`stiffrax.LearnableRungeKutta.from_tableau`][].

    **Returns:** A `LearnableTableau`, or a `StableTableau` if a stability was asked for.

    **Raises:** `ValueError` if the kind has no room for the coefficients, the stability is not that of
    the method, or no method of so many stages has the order.

    ```python
    >>> import diffrax, stiffrax as srx
    >>> srx.tableaus.learnable_tableau(diffrax.Tsit5.tableau)
    LearnableTableau(explicit, order=5, stages=7)

    ```
    """
    is_butcher = isinstance(known, diffrax.ButcherTableau)
    A, b, c = _butcher_arrays(known) if is_butcher else coefficients(known)
    eps = rounding_of(A, b, c)
    A, b, c = (np.asarray(x, float) for x in (A, b, c))
    # What an optimizer's rounding leaves above the diagonal makes no method implicit.
    A = np.where(np.abs(A) < 4 * np.finfo(float).eps * np.max(np.abs(A)), 0, A)
    chosen: str = kind_of(A) if kind is None else kind
    check_kind(chosen)
    if np.any(np.asarray(used_entries(chosen, A)) != np.asarray(jnp.asarray(A))):
        raise ValueError(
            f"`kind={chosen!r}` was given for a method that is {kind_of(A)!r}; write that, or leave "
            "`kind` out."
        )
    if order is None:
        order = min(max(order_of_convergence(A, b, c, eps)[0], 1), _HIGHEST_ORDER)
    else:
        _check(len(b), chosen if stability is None else kind_if_stable(chosen), order, stability)
    if stability is not None:
        check_stability(stability, kind_if_stable(chosen))
        return stable_parameters(A, b, c, stability, order, eps)
    return LearnableTableau(
        jnp.asarray(A), jnp.asarray(b), jnp.asarray(c), kind=chosen, order=order
    )


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


# Fewest stages of an explicit method of each order (Butcher's barriers).
_EXPLICIT_STAGES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 7, 7: 9, 8: 11}
_SPREAD = 0.1
# From a random start more iterations are needed than from next to a solution, and several starts:
# the conditions are polynomials with places where no direction leads on.
_ITERATIONS = 60
_STARTS = 16


def _fewest_stages(kind: str, order: int) -> int:
    if kind == "explicit":
        return _EXPLICIT_STAGES[order]
    return -(-order // 2) if kind == "implicit" else max(order - 1, 1)


def _check(stages: int, kind: str, order: int, stability: str | None) -> None:
    check_kind(kind)
    check_stability(stability, kind)
    check_count("order", order, most=_HIGHEST_ORDER)
    fewest = 2 if stability is not None else 1
    fewest = max(fewest, _fewest_stages(kind, order + (stability == "L" and order > 2)))
    given = as_integer(stages)
    if given is None or given < fewest:
        raise ValueError(
            f"`stages={stages!r}` was given for `kind={kind!r}`, `order={order}` and `stability="
            f"{stability!r}`; it needs at least {fewest}. Write `stages={fewest}`, or a lower order."
        )


def _free_start(stages: int, kind: str, order: int, key: Array) -> LearnableTableau:
    """Rows that integrate constants, on nodes spread over the step."""
    key_A, key_b, key_c = jax.random.split(key, 3)
    explicit = kind == "explicit"
    c = jnp.linspace(0.0, 1.0, stages) if explicit else jnp.arange(1.0, stages + 1.0) / stages
    spread = _SPREAD / (stages if kind == "implicit" else 1)
    c = c + jnp.where(c > 0, spread * jax.random.normal(key_c, (stages,)), 0)
    if kind == "implicit":
        A, b = _collocation(c)
    else:
        A = _near_diagonal(c, kind, key_A)
        b = jnp.ones(stages) / stages + _SPREAD * jax.random.normal(key_b, (stages,))
        c = jnp.sum(A, axis=1)
    return LearnableTableau(A, b, c, kind=kind, order=order)


def _collocation(c: Array) -> tuple[Array, Array]:
    """As many orders as stages to begin with."""
    orders = jnp.arange(1.0, c.size + 1.0)
    powers = jnp.stack([c**k for k in range(c.size + 1)], axis=1)
    inverse = jnp.linalg.inv(powers[:, :-1])
    return (powers[:, 1:] / orders[None]) @ inverse, (1 / orders) @ inverse


def _near_diagonal(c: Array, kind: str, key: Array) -> Array:
    """Random entries, largest close to the diagonal as in the classical methods."""
    pattern = used_entries(kind, jnp.ones((c.size, c.size)))
    row, column = jnp.arange(c.size)[:, None], jnp.arange(c.size)[None]
    near = jnp.exp(-jnp.abs(row - column - int(kind == "explicit")))
    A = pattern * (near + _SPREAD * jax.random.normal(key, (c.size, c.size)))
    sums = jnp.sum(A, axis=1)
    return A * (c / jnp.where(sums == 0, 1, sums))[:, None]


def _stable_start(stages: int, stability: str, order: int, key: Array) -> StableTableau:
    keys = jax.random.split(key, 4)
    logits = _SPREAD * jax.random.normal(keys[0], (stages,))
    skew, edge, semidefinite = (
        0.5 / stages * jax.random.normal(k, shape)
        for k, shape in zip(keys[1:], parameter_shapes(stages, stability), strict=True)
    )
    return StableTableau(  # pyright: ignore[reportCallIssue]
        logits, skew, edge, semidefinite, stability=stability, order=order
    )


def random_tableau(
    stages: int, kind: str, order: int, stability: str | None, key: Array
) -> AbstractLearnableTableau:
    """A random tableau that has the order asked for.

    **Arguments:** those of [`stiffrax.LearnableRungeKutta`][].

    **Returns:** A `LearnableTableau`, or a `StableTableau` if a stability was asked for. Of sixteen
    random starts that are projected, the one with the smallest coefficients.

    **Raises:** `ValueError` for a combination that has no solution; at run time, where no start led
    to the order.

    ```python
    >>> import jax, stiffrax as srx
    >>> srx.tableaus.random_tableau(4, "implicit", 3, "L", jax.random.key(0))
    StableTableau(L-stable, order=3, stages=4)

    ```
    """
    _check(stages, kind, order, stability)

    def one(key: Array) -> tuple[AbstractLearnableTableau, Array]:
        if stability is None:
            start = _free_start(stages, kind, order, key)
        else:
            start = _stable_start(stages, stability, order, key)
        found = order_projection(start, order, _ITERATIONS)
        residual = jnp.max(jnp.abs(order_residuals(found, order)))
        size = jnp.max(jnp.abs(found.A)) + jnp.max(jnp.abs(found.b))
        solved = residual < 100 * jnp.finfo(residual.dtype).eps
        return found, jnp.where(solved, size, jnp.inf)

    # One start after the other: batched factorizations of the library may block each other.
    found, sizes = jax.lax.map(one, jax.random.split(key, _STARTS))
    best = jnp.argmin(sizes)
    return eqx.error_if(
        jax.tree.map(lambda x: x[best], found),
        ~jnp.isfinite(sizes[best]),
        f"No tableau of order {order} with {stages} stages was found from the `key` given; try "
        "another key, one more stage, or `LearnableRungeKutta.from_tableau`.",
    )
