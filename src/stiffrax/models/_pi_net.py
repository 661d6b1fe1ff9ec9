"""The polynomial network pi-net V1."""

from typing import Any, SupportsIndex, final

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import check_count
from ._checks import check_single, check_state
from ._polynomial import Polynomial, monomials


@final
class PiNet(eqx.Module):
    r"""Pi-net V1: linear layers joined by elementwise products, a polynomial without activations.

    $$x_1 = U_1 y + b_1, \qquad x_k = (U_k y + b_k) * x_{k-1} + x_{k-1}, \quad k = 2 \dots N,
    \qquad f(y) = C x_N + \beta$$

    `N` layers make a polynomial of degree `N`, which `to_polynomial` multiplies out. The number of
    parameters grows linearly with the degree, that of the monomials much faster.

    At the start `U_1` is normal with variance `1/n`, the other `U_k` with variance `1/(n N)`, `C`
    with variance `0.01/width`, and the biases are zero: states of size one give outputs of size
    0.1, whatever the degree and the width. One evaluation costs two matrix-vector products, with `N
    width x n` and `outputs x width` entries.

    **Arguments:**

    - `num_states`: the number `n` of states.
    - `width`: the number of hidden units of each layer.
    - `degree`: the number `N` of layers, at least 1.
    - `key`: a `jax.random.key` for the weights.
    - `num_outputs`: the number of components of `f`; default `n`, as a vector field needs.
    - `use_bias`: whether the layers have biases `b_k`; `beta` is there in any case.

    **Raises:** `ValueError` for counts below 1.

    ```python
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import stiffrax as srx
    >>> model = srx.PiNet(num_states=3, width=10, degree=2, key=jax.random.key(0))
    >>> y = jnp.array([1.0, -0.5, 2.0])
    >>> bool(jnp.allclose(model(0.0, y), model.to_polynomial()(0.0, y), atol=1e-5))
    True

    ```

    Source: Chrysos and others, P-nets: deep polynomial neural networks (2020), the coupled
    decomposition, here with biases.
    """

    U: Float[Array, "degree width states"]
    b: Float[Array, "degree width"] | None
    C: Float[Array, "outputs width"]
    beta: Float[Array, " outputs"]

    def __init__(
        self,
        num_states: SupportsIndex,
        width: SupportsIndex,
        degree: SupportsIndex,
        *,
        key: PRNGKeyArray,
        num_outputs: SupportsIndex | None = None,
        use_bias: bool = True,
    ):
        num_states = check_count("num_states", num_states)
        width = check_count("width", width)
        degree = check_count("degree", degree)
        outputs = num_states if num_outputs is None else check_count("num_outputs", num_outputs)
        U_key, C_key = jr.split(key)
        variance = jnp.where(jnp.arange(degree) == 0, 1, 1 / degree) / num_states
        self.U = jnp.sqrt(variance)[:, None, None] * jr.normal(U_key, (degree, width, num_states))
        self.b = jnp.zeros((degree, width)) if use_bias else None
        self.C = 0.1 / width**0.5 * jr.normal(C_key, (outputs, width))
        self.beta = jnp.zeros(outputs)

    @property
    def num_states(self) -> int:
        """The number of states."""
        return self.U.shape[-1]

    @property
    def num_outputs(self) -> int:
        """The number of components of `f`."""
        return self.C.shape[-2]

    @property
    def degree(self) -> int:
        """The number of layers, which is the degree of the polynomial."""
        return self.U.shape[-3]

    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " outputs"]:
        """`f(y)`; `t` and `args` are not used."""
        y = check_state(y, self.num_states)
        layers = jnp.matmul(check_single(self.U, 3), y, precision="highest")
        if self.b is not None:
            layers = layers + self.b
        x = layers[0]
        for layer in layers[1:]:
            x = layer * x + x
        return jnp.matmul(self.C, x, precision="highest") + self.beta

    def to_polynomial(self) -> Polynomial:
        """The same function multiplied out, exact to rounding.

        In JAX: a penalty on the coefficients of the result can train the weights of the network.

        **Returns:** a `Polynomial` of the same degree, with all terms active.
        """
        basis = monomials(self.num_states, self.degree)
        # Row i of x holds the coefficients of hidden unit i. After layer k its degree is k, so the
        # monomials of the highest degree, which `products` leaves out, are zero until the last one.
        x = jnp.zeros((self.C.shape[-1], len(basis.exponents)), self.U.dtype).at[:, 0].set(1)
        for k, U in enumerate(check_single(self.U, 3)):
            constant = jnp.zeros(len(U), U.dtype) if self.b is None else self.b[k]
            if k > 0:
                constant = constant + 1
            raised = x[:, : len(basis.products), None] * U[:, None, :]
            x = (constant[:, None] * x).at[:, basis.products].add(raised)
        coefficients = jnp.matmul(self.C, x, precision="highest").at[:, 0].add(self.beta)
        return Polynomial(
            self.num_states, self.degree, coefficients=coefficients, num_outputs=self.num_outputs
        )
