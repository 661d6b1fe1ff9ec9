"""Tableaus with coefficients to be trained, in general and stable ones."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
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


def _trained(x: Any) -> Any:
    # Whole numbers have no gradient.
    return x if eqx.is_inexact_array(x) else jnp.asarray(x, float)


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

    A: Float[Array, "s s"] = eqx.field(converter=_trained)
    b: Float[Array, " s"] = eqx.field(converter=_trained)
    c: Float[Array, " s"] = eqx.field(converter=_trained)
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


def _sum_free_basis(size: int) -> Float[np.ndarray, "size size-1"]:
    """Orthonormal columns, each with sum zero (those of Helmert)."""
    basis = np.zeros((size, size - 1))
    for k in range(1, size):
        basis[:k, k - 1] = 1.0
        basis[k, k - 1] = -k
        basis[:, k - 1] /= np.sqrt(k * (k + 1))
    return basis


@final
class StableTableau(AbstractLearnableTableau):
    r"""Implicit coefficients that are A-stable, or L-stable, for all values of the parameters.

    With `B = diag(b)`, any `b > 0` of sum one, any skew `S` and any `P` that is positive
    semi-definite,

    $$A = B^{-1} \left( \tfrac12 b b^T + S + P \right)$$

    has `B A + A^T B - b b^T = 2 P`, which makes it algebraically stable (contractive on every
    dissipative nonlinear problem), hence A-stable; every algebraically stable method with positive
    weights is of this form. `P 1 = 0` makes its order at least two. For `stability="L"` the last
    row of `A` is `b`, so that `R` vanishes at infinity: then `P = u u^T + L L^T` with
    $u_s = b_s / \sqrt 2$, and `L` as well as the lead of `S` remain free.

    **Attributes:**

    - `logits`: `b` is their softmax, `Float[Array, " s"]`.
    - `skew`: the entries of `S` below its diagonal, of which `"L"` has `(s - 1) (s - 2) / 2`.
    - `edge`: `u` but for what is fixed, `Float[Array, " s-2"]`; empty for `"A"`.
    - `semidefinite`: `L` in a basis of columns with sum zero.
    - `stability`: `"A"` or `"L"`.
    - `order`: order to keep, at least 2. Above 2 the parameters must satisfy further conditions,
      which `order_projection` sees to; stability is not touched by it.

    Gradients by `L` are zero in the directions in which it is, all of them at Gauss and of Radau IIA
    under `"L"`: training from there moves the other parameters alone, from random starts all.

    With `P` of full rank on columns of sum zero `A` is regular; elsewhere, on a set of measure
    zero, `R` at infinity is another number not above one.

    **Raises:** `ValueError` for shapes of parameters that do not belong together.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, sections IV.5 and IV.12.

    ```python
    >>> import stiffrax as srx
    >>> solver = srx.LearnableRungeKutta.from_tableau(srx.tableaus.radau_iia(2), stability="L")
    >>> solver.tableau.A.round(4).tolist()
    [[0.4167, -0.0833], [0.75, 0.25]]

    ```
    """

    logits: Float[Array, " s"]
    skew: Float[Array, " k"]
    edge: Float[Array, " e"]
    semidefinite: Float[Array, "r r"]
    stability: str = eqx.field(static=True)
    order: int = eqx.field(static=True)

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Always `"implicit"`."""
        return "implicit"

    def __check_init__(self):
        s = self.logits.shape[0]
        given = (self.skew.shape, self.edge.shape, self.semidefinite.shape)
        needed = parameter_shapes(s, self.stability)
        if given != needed:
            raise ValueError(
                f"`StableTableau` of {s} stages was given parameters of the shapes {given}; it "
                f"needs {needed}. Write `LearnableRungeKutta({s}, 'implicit', stability="
                f"'{self.stability}', key=key)`."
            )

    @property
    def b(self) -> Float[Array, " s"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Positive weights of sum one."""
        return jax.nn.softmax(self.logits)

    @property
    def c(self) -> Float[Array, " s"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Row sums of `A`."""
        return jnp.sum(self.A, axis=1)

    @property
    def A(self) -> Float[Array, "s s"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Coefficients of the stages, made of the parameters."""
        b = self.b
        return (jnp.outer(b, b) / 2 + self._skew_and_semidefinite(b)) / b[:, None]

    def _skew_and_semidefinite(self, b: Float[Array, " s"]) -> Float[Array, "s s"]:
        s, dtype = b.shape[0], b.dtype
        free = s if self.stability == "A" else s - 1
        lower = jnp.zeros((free, free), dtype).at[np.tril_indices(free, -1)].set(self.skew)
        S = lower - lower.T
        basis = jnp.asarray(_sum_free_basis(free), dtype)
        L = basis @ self.semidefinite
        if self.stability == "A":
            return S + L @ L.T
        end = b[-1] / np.sqrt(2.0).astype(dtype)
        u = basis @ self.edge - end / free
        # The skew part of the last row makes that row b^T itself.
        row = b[-1] * b[:-1] / 2 - u * end
        lead = S + jnp.outer(u, u) + L @ L.T
        column = jnp.append(u * end - row, end**2)
        return jnp.block([[lead, column[:-1, None]], [(row + u * end)[None], column[-1:, None]]])

    def __repr__(self) -> str:
        s = self.num_stages
        return f"StableTableau({self.stability}-stable, order={self.order}, stages={s})"

    @property
    def num_stages(self) -> int:
        """Number of stages."""
        return self.logits.shape[0]


def parameter_shapes(stages: int, stability: str) -> tuple[tuple[int, ...], ...]:
    """The shapes of `skew`, `edge` and `semidefinite`.

    **Raises:** `ValueError` for fewer stages than an L-stable method of order two has.
    """
    if stability == "L" and stages < 2:
        raise ValueError(
            f'`stability="L"` was asked for {stages} stage; methods of this form have order two and '
            "need two stages or more. Start from `stiffrax.tableaus.radau_iia(2)`."
        )
    free = stages if stability == "A" else stages - 1
    edge = 0 if stability == "A" else free - 1
    return ((free * (free - 1) // 2,), (edge,), (free - 1, free - 1))


def stable_parameters(
    A: Float[np.ndarray, "s s"],
    b: Float[np.ndarray, " s"],
    c: Float[np.ndarray, " s"],
    stability: str,
    order: int,
    eps: float,
) -> StableTableau:
    """The parameters of a known method, whose coefficients are rounded to `eps`.

    **Raises:** `ValueError` for a method that is not of this form.
    """
    parameter_shapes(len(b), stability)
    eps = max(eps, float(jnp.finfo(jnp.result_type(float)).eps))
    slack = max(1e-12, 256 * eps) * max(1.0, float(np.max(np.abs(A))))
    if stability == "L" and not np.allclose(A[-1], b, rtol=0, atol=slack):
        raise ValueError(
            '`stability="L"` was asked for a method whose last stage is not the end of the step; '
            'write `stability="A"`.'
        )
    found = _projected(A, b, stability, order) if np.min(b) > 0 else None
    # The parameters of a method of another form are those of a stable one, and not of the given.
    if found is None or not all(
        np.allclose(new, old, rtol=0, atol=slack)
        for new, old in (
            (found.b[:, None] * found.A, b[:, None] * A),
            (found.b, b),
            (found.c, c),
        )
    ):
        raise ValueError(
            f"`stability={stability!r}` was asked for a method that is not algebraically stable "
            "with positive weights of sum one, nodes `c = A 1` and order two. Leave `stability` out, "
            "or start from Radau IIA or Gauss."
        )
    return found


def _projected(
    A: Float[np.ndarray, "s s"], b: Float[np.ndarray, " s"], stability: str, order: int
) -> StableTableau:
    N = b[:, None] * A - np.outer(b, b) / 2
    S, P = (N - N.T) / 2, (N + N.T) / 2
    free = len(b) if stability == "A" else len(b) - 1
    basis, edge = _sum_free_basis(free), np.zeros(0)
    if stability == "L":
        u = P[:-1, -1] / (b[-1] / np.sqrt(2.0))
        edge, P = basis.T @ u, P[:-1, :-1] - np.outer(u, u)
    values, vectors = np.linalg.eigh(basis.T @ P @ basis)
    return StableTableau(  # pyright: ignore[reportCallIssue]
        logits=jnp.asarray(np.log(b)),
        skew=jnp.asarray(S[:free, :free][np.tril_indices(free, -1)]),
        edge=jnp.asarray(edge),
        semidefinite=jnp.asarray(vectors * np.sqrt(np.maximum(values, 0))),
        stability=stability,
        order=order,
    )
