"""Tableaus whose coefficients are leaves of a pytree, to be trained."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

KINDS = ("explicit", "diagonally_implicit", "implicit")


def check_kind(kind: str) -> None:
    """Refuses a kind of method that is none."""
    if kind not in KINDS:
        raise ValueError(
            f"`kind={kind!r}` was given; write one of " + ", ".join(repr(k) for k in KINDS) + "."
        )


def used_entries(kind: str, A: Any) -> Array:
    """The entries of `A` that a kind of method reads; zero elsewhere."""
    if kind == "implicit":
        return jnp.asarray(A)
    return jnp.tril(A, -1 if kind == "explicit" else 0)


class AbstractLearnableTableau(eqx.Module):
    """Coefficients `A`, `b`, `c` that are, or are made of, trainable leaves.

    Beside them `kind`, which entries of `A` may be other than zero, and `order`, the order that the
    tableau is meant to keep.

    ```python
    >>> import jax, stiffrax as srx
    >>> solver = srx.LearnableRungeKutta(3, order=2, key=jax.random.key(0))
    >>> isinstance(solver.tableau, srx.tableaus.AbstractLearnableTableau)
    True

    ```
    """

    A: eqx.AbstractVar[Any]
    b: eqx.AbstractVar[Any]
    c: eqx.AbstractVar[Any]
    kind: eqx.AbstractVar[str]
    order: eqx.AbstractVar[int]

    @property
    def num_stages(self) -> int:
        """Number of stages."""
        return self.b.shape[0]

    @property
    def masked_A(self) -> Float[Array, "s s"]:
        """`A` with zeros where the kind of method reads nothing."""
        return used_entries(self.kind, self.A)

    def row_sums(self) -> Float[Array, " rows"]:
        """What `c = A 1` leaves; empty where it holds by construction."""
        return jnp.zeros(0)


@final
class LearnableTableau(AbstractLearnableTableau):
    r"""A Butcher tableau with every coefficient a leaf.

    $$K_i = h f(t_0 + c_i h, y_0 + \sum_j a_{ij} K_j), \qquad y_1 = y_0 + \sum_i b_i K_i$$

    Of `A` the entries are used that `kind` allows: below the diagonal (`"explicit"`), also on it
    (`"diagonally_implicit"`), or all. The others get the gradient zero. Nothing ties the leaves to
    each other; `order_projection` and [`stiffrax.project_order`][] restore order and `c = A 1`.

    **Attributes:**

    - `A`, `b`, `c`: `Float[Array, "s s"]`, `" s"`, `" s"`.
    - `kind`: `"explicit"`, `"diagonally_implicit"` or `"implicit"`.
    - `order`: the order of convergence that it is meant to keep.

    **Raises:** `ValueError` for shapes that do not belong together, or an unknown kind.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> A = jnp.array([[0.0, 0.0], [1.0, 0.0]])
    >>> half = jnp.array([0.5, 0.5])
    >>> heun = srx.tableaus.LearnableTableau(A, half, A.sum(1), kind="explicit", order=2)
    >>> print(srx.tableaus.order_conditions(heun, 2))
    [0.]

    ```
    """

    A: Float[Array, "s s"]
    b: Float[Array, " s"]
    c: Float[Array, " s"]
    kind: str = eqx.field(static=True)
    order: int = eqx.field(static=True)

    def __check_init__(self):
        check_kind(self.kind)
        shapes = [jnp.shape(x) for x in (self.A, self.b, self.c)]
        s = shapes[1][0] if shapes[1] else 0
        if shapes != [(s, s), (s,), (s,)]:
            raise ValueError(
                f"`LearnableTableau` was given `A`, `b`, `c` of the shapes {shapes}; it needs "
                "(s, s), (s,) and (s,)."
            )

    def row_sums(self) -> Float[Array, " s"]:
        """`c - A 1`."""
        return self.c - jnp.sum(self.masked_A, axis=1)

    def __repr__(self) -> str:
        return f"LearnableTableau({self.kind}, order={self.order}, stages={self.num_stages})"
