"""Random tableaus of a given order, to start training from."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._from_known import check_stability
from ._learnable_tableau import AbstractLearnableTableau, LearnableTableau, check_kind, used_entries
from ._order_projection import order_projection, order_residuals
from ._stable_tableau import StableTableau, parameter_shapes

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
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= 8:
        raise ValueError(f"`order={order!r}` was given; it needs an integer from 1 to 8.")
    fewest = 2 if stability is not None else 1
    fewest = max(fewest, _fewest_stages(kind, order + (stability == "L" and order > 2)))
    if isinstance(stages, bool) or not isinstance(stages, int) or stages < fewest:
        raise ValueError(
            f"`stages={stages!r}` was given for `kind={kind!r}`, `order={order}` and `stability="
            f"{stability!r}`; it needs at least {fewest}. Write `stages={fewest}`, or a lower order."
        )


def _free_start(stages: int, kind: str, order: int, key: Array) -> LearnableTableau:
    """Rows that integrate constants, on nodes spread over the step."""
    key_A, key_b, key_c = jax.random.split(key, 3)
    explicit = kind == "explicit"
    c = jnp.linspace(0.0, 1.0, stages) if explicit else (jnp.arange(stages) + 1.0) / stages
    spread = _SPREAD / (stages if kind == "implicit" else 1)
    c = c + spread * jax.random.normal(key_c, (stages,)) * (c > 0)
    if kind == "implicit":
        # Collocation has as many orders as stages to begin with.
        powers = jnp.arange(1, stages + 1)
        inverse = jnp.linalg.inv(c[:, None] ** (powers - 1))
        A, b = (c[:, None] ** powers / powers) @ inverse, (1 / powers) @ inverse
        return LearnableTableau(A, b, c, kind=kind, order=order)
    pattern = used_entries(kind, jnp.ones((stages, stages)))
    # Close to the diagonal, as in the classical methods.
    near = jnp.exp(-jnp.abs(jnp.arange(stages)[:, None] - jnp.arange(stages) - explicit))
    A = pattern * (near + _SPREAD * jax.random.normal(key_A, (stages, stages)))
    sums = jnp.sum(A, axis=1)
    A = A * (c / jnp.where(sums == 0, 1, sums))[:, None]
    b = jnp.ones(stages) / stages + _SPREAD * jax.random.normal(key_b, (stages,))
    return LearnableTableau(A, b, jnp.sum(A, axis=1), kind=kind, order=order)


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
