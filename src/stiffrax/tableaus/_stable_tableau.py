"""Implicit tableaus that are algebraically stable whatever their parameters are."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._learnable_tableau import AbstractLearnableTableau


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

    With `P` of full rank on columns of sum zero `A` is regular; the exceptions are a set of measure
    zero, where `R` at infinity is another number not above one.

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
    """The shapes of `skew`, `edge` and `semidefinite`."""
    free = stages if stability == "A" else stages - 1
    edge = 0 if stability == "A" else free - 1
    return ((free * (free - 1) // 2,), (edge,), (free - 1, free - 1))


def stable_parameters(A: Any, b: Any, stability: str, order: int) -> StableTableau:
    """The parameters of a known method.

    **Raises:** `ValueError` for a method that is not of this form.
    """
    A, b = np.asarray(A, float), np.asarray(b, float)
    s = len(b)
    if stability == "L" and not np.allclose(A[-1], b, atol=1e-12):
        raise ValueError(
            '`stability="L"` was asked for a method whose last stage is not the end of the step; '
            'write `stability="A"`.'
        )
    N = b[:, None] * A - np.outer(b, b) / 2
    S, P = (N - N.T) / 2, (N + N.T) / 2
    free = s if stability == "A" else s - 1
    basis, edge = _sum_free_basis(free), np.zeros(0)
    if stability == "L" and b[-1] > 0:
        u = P[:-1, -1] / (b[-1] / np.sqrt(2.0))
        edge, P = basis.T @ u, P[:-1, :-1] - np.outer(u, u)
    values, vectors = np.linalg.eigh(basis.T @ P @ basis)
    rest = P - basis @ (basis.T @ P @ basis) @ basis.T
    if np.min(b) <= 0 or np.min(values, initial=0) < -1e-12 or np.max(np.abs(rest)) > 1e-12:
        raise ValueError(
            f"`stability={stability!r}` was asked for a method that is not algebraically stable "
            "with positive weights and order two. Leave `stability` out, or start from Radau IIA "
            "or Gauss."
        )
    return StableTableau(  # pyright: ignore[reportCallIssue]
        logits=jnp.asarray(np.log(b)),
        skew=jnp.asarray(S[:free, :free][np.tril_indices(free, -1)]),
        edge=jnp.asarray(edge),
        semidefinite=jnp.asarray(vectors * np.sqrt(np.maximum(values, 0))),
        stability=stability,
        order=order,
    )
