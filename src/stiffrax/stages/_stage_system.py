"""The nonlinear system of one implicit Runge-Kutta step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree, Shaped

from ..tableaus import Tableau
from ._mass import Mass
from ._products import small_matmul


@final
class FlatField(eqx.Module):
    """A vector field on flat states, with everything it closes over made visible to JAX.

    The user's function is traced once, here; every later evaluation replays that trace. Values it
    closes over (parameters, `args`) become leaves, so that derivatives reach them.
    """

    field: Callable

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.field(t, y)

    def jacobian(self, t: Array, y: Float[Array, " n"]) -> Float[Array, "n n"]:
        """The Jacobian df/dy, by one forward-mode sweep a column."""
        return jax.jacfwd(lambda x: self.field(t, x))(y)


def flat_field(
    vector_field: Callable[[Any, Any], Any], t: Array, y: PyTree[ArrayLike]
) -> tuple[FlatField, Float[Array, " n"], Callable[[Array], PyTree[Array]]]:
    """Flattens a vector field over pytrees.

    **Arguments:**

    - `vector_field`: called as `vector_field(t, y)`; returns the structure of `y`.
    - `t`, `y`: example time and state.

    **Returns:** the flat field, the flat state, and the function that restores the structure.

    **Raises:** `ValueError` if the state is not real floating point, or the vector field returns
    another structure or other shapes than the state has.
    """
    for leaf in jax.tree.leaves(y):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(
                f"The state has a leaf of dtype {dtype}; stiffrax solves real floating-point "
                "states only. Convert integers with `jnp.asarray(y0, float)`; split a complex "
                "state into its real and imaginary parts."
            )
    flat, unravel = ravel_pytree(y)
    expected = jax.eval_shape(lambda: y)

    def field(t: Array, x: Array) -> Array:
        slope = vector_field(t, unravel(x))
        given = jax.eval_shape(lambda: slope)
        same = jax.tree.structure(given) == jax.tree.structure(expected) and all(
            a.shape == b.shape
            for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(expected), strict=True)
        )
        if not same:
            raise ValueError(
                f"The vector field returned {_shapes(given)} for a state of {_shapes(expected)}; "
                "it must return one derivative for every component, in the same structure."
            )
        return ravel_pytree(slope)[0].astype(flat.dtype)

    return FlatField(eqx.filter_closure_convert(field, t, flat)), flat, unravel


def _shapes(tree: PyTree) -> str:
    leaves = ", ".join(str(tuple(leaf.shape)) for leaf in jax.tree.leaves(tree))
    return f"{jax.tree.structure(tree)} with shapes [{leaves}]"


@final
class _SlopeField(eqx.Module):
    field: FlatField
    mass: Mass

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.mass.divide(self.field(t, y))

    def jacobian(self, t: Array, y: Float[Array, " n"]) -> Float[Array, "n n"]:
        return jax.jacfwd(lambda x: self(t, x))(y)


@final
class StageSystem(eqx.Module):
    r"""One step's equations for the stage increments `Z`, as a residual:

    $$R_i(Z) = \sum_j (A^{-1})_{ij} M Z_j - h f(t_0 + c_i h, y_0 + Z_i) - w_i h f_0$$

    `hf0` is `None` unless the first stage is explicit (`w` is zero otherwise), and `mass` where `M`
    is the identity.
    """

    tableau: Tableau = eqx.field(static=True)
    field: FlatField
    t0: Shaped[Array, ""]
    dt: Shaped[Array, ""]
    h: Float[Array, ""]
    y0: Float[Array, " n"]
    hf0: Float[Array, " n"] | None
    mass: Mass | None = None

    def with_start_slope(self) -> "StageSystem":
        """This system with `hf0` computed from what it holds, where the tableau asks for one."""
        if not self.tableau.explicit_first_stage:
            return self
        return replace(self, hf0=self.h * self.field(self.t0, self.y0))

    @property
    def times(self) -> Float[Array, " m"]:
        """Times of the implicit stages."""
        return self.t0 + self.tableau.nodes.astype(self.t0.dtype) * self.dt

    def increments(self, Z: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """`h f` at every stage, in one batched evaluation."""
        return self.h * jax.vmap(self.field)(self.times, self.y0 + Z)

    def explicit_part(self) -> Float[Array, "m n"] | float:
        """`w_i h f0`."""
        if self.hf0 is None:
            return 0.0
        w = jnp.asarray(self.tableau.explicit_weights, self.y0.dtype)
        return w[:, None] * self.hf0

    def times_mass(self, x: Float[Array, "*k n"]) -> Float[Array, "*k n"]:
        """`M` times each row."""
        return x if self.mass is None else self.mass.times(x)

    def residual(self, Z: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """`R(Z)` above."""
        A_inverse = jnp.asarray(self.tableau.A_inverse.astype(self.y0.dtype))
        slopes = small_matmul(A_inverse, self.times_mass(Z))
        return slopes - self.increments(Z) - self.explicit_part()

    def stage_jacobians(self, Z: Float[Array, "m n"]) -> Float[Array, "m n n"]:
        """The exact Jacobian of the vector field at every stage."""
        return jax.vmap(self.field.jacobian)(self.times, self.y0 + Z)


def slope_field(system: StageSystem) -> FlatField | _SlopeField:
    """The field of the equation solved for its derivative, `M^-1 f`; not for a singular `M`."""
    return system.field if system.mass is None else _SlopeField(system.field, system.mass)
