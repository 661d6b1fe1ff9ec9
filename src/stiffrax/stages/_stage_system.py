"""The stage equations of a step: of increments, and of slopes where coefficients are traced."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree, Shaped

from .._arguments import check_state
from .._flat_state import flatten_state
from ..linear_algebra import ScaledInverse, scaled_inverse, small_matmul
from ..tableaus import Tableau
from ._mass import Mass
from ._rounded_products import reads_first_input, round_cotangents, round_products


@final
class FlatField(eqx.Module):
    """A vector field on flat states, with everything it closes over made visible to JAX.

    The user's function is traced once, here; every later evaluation replays that trace. Values it
    closes over (parameters, `args`) become leaves, so that derivatives reach them.
    `depends_on_time` is false only where the trace shows that the time is not read.
    """

    field: Callable
    depends_on_time: bool = eqx.field(static=True, default=True)

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.field(t, y)

    def jacobian(self, t: Array, y: Float[Array, " n"]) -> Float[Array, "n n"]:
        """The Jacobian df/dy, by one forward-mode sweep a column."""
        return round_products(lambda t, y: jax.jacfwd(self.field, argnums=1)(t, y))(t, y)


def flat_field(
    vector_field: Callable[[Any, Any], Any], t: Array, y: PyTree[ArrayLike]
) -> tuple[FlatField, Float[Array, " n"], Callable[[Array], PyTree[Array]]]:
    """Of a vector field over pytrees and examples of its arguments: the flat field, the flat state, and
    what restores the structure."""
    check_state(y)
    flat, unravel = flatten_state(y)
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
        return flatten_state(slope)[0].astype(flat.dtype)

    reads: list[bool] = []
    rounded = round_products(field, lambda jaxpr: reads.append(reads_first_input(jaxpr)))
    converted = eqx.filter_closure_convert(rounded, t, flat)
    return FlatField(converted, reads[-1]), flat, unravel


def _shapes(tree: PyTree) -> str:
    leaves = ", ".join(str(tuple(leaf.shape)) for leaf in jax.tree.leaves(tree))
    return f"{jax.tree.structure(tree)} with shapes [{leaves}]"


@final
class _SlopeField(eqx.Module):
    field: FlatField
    mass: Mass

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.mass.divider()(self.field(t, y))

    def jacobian(self, t: Array, y: Float[Array, " n"]) -> Float[Array, "n n"]:
        return jax.jacfwd(lambda x: self(t, x))(y)


@final
class _RoundedCotangents(eqx.Module):
    field: FlatField

    def __call__(self, t: Array, y: Float[Array, " n"]) -> Float[Array, " n"]:
        return round_cotangents(t, self.field(t, y))


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

    def states(self, Z: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """The states of the stages."""
        return self.y0[None] + Z

    def increments(self, Z: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """`h f` at every stage, in one batched evaluation."""
        return self.h * jax.vmap(self.field)(self.times, self.states(Z))

    def explicit_part(self) -> Float[Array, "m n"] | float:
        """`w_i h f0`."""
        if self.hf0 is None:
            return 0.0
        w = jnp.asarray(self.tableau.explicit_weights, self.y0.dtype)
        return w[:, None] * self.hf0[None]

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
        return jax.vmap(self.field.jacobian)(self.times, self.states(Z))


def stage_system(
    tableau: Tableau,
    vector_field: Callable[[Any, Any], Any],
    t0: Shaped[Array, ""],
    dt: Shaped[Array, ""],
    control: Any,
    y0: PyTree[ArrayLike],
    mass: Mass | None = None,
) -> tuple[StageSystem, Callable[[Array], PyTree]]:
    """The stage system of a step of a vector field over pytrees, and what restores the state.

    `dt` is the step in time, `control` what slopes are multiplied by, which has its direction.
    """
    if mass is not None and tableau.explicit_first_stage:
        # What an explicit stage gives is a derivative: the field must be one.
        vector_field, mass = _divided_by(mass, vector_field), None
    field, flat, restore = flat_field(vector_field, t0, y0)
    h = jnp.asarray(control, flat.dtype)
    system = StageSystem(tableau, field, t0, dt, h, flat, None, mass)
    return system.with_start_slope(), restore


def _divided_by(mass: Mass, vector_field: Callable) -> Callable:
    divided = mass.divider()

    def field(t: Array, y: PyTree) -> PyTree:
        slope, restore = flatten_state(vector_field(t, y))
        return restore(divided(slope))

    return field


def slope_field(system: StageSystem) -> FlatField | _SlopeField:
    """The field of the equation solved for its derivative, `M^-1 f`; not for a singular `M`."""
    return system.field if system.mass is None else _SlopeField(system.field, system.mass)


@final
class SlopeSystem(eqx.Module):
    r"""One step's equations for the scaled slopes `K`, as a residual:

    $$R_i(K) = K_i - h f(t_0 + c_i h, y_0 + \sum_j a_{ij} K_j)$$

    Slopes, not increments `Z = A K`: a trainable `A` may be singular, and is where a stage is
    explicit. What a stiff problem amplifies in `f` the linear solve divides out again.
    """

    A: Float[Array, "m m"]
    c: Float[Array, " m"]
    field: FlatField
    t0: Shaped[Array, ""]
    dt: Shaped[Array, ""]
    h: Float[Array, ""]
    y0: Float[Array, " n"]

    @property
    def times(self) -> Float[Array, " m"]:
        """Times of the stages."""
        return self.t0 + self.c.astype(self.t0.dtype) * self.dt

    def states(self, K: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """The states of the stages."""
        return self.y0[None] + small_matmul(self.A, K)

    def residual(self, K: Float[Array, "m n"]) -> Float[Array, "m n"]:
        """`R(K)` above."""
        return K - self.h * jax.vmap(self.field)(self.times, self.states(K))

    def stage_jacobians(self, K: Float[Array, "m n"]) -> Float[Array, "m n n"]:
        """The exact Jacobian of the vector field at every stage."""
        return jax.vmap(self.field.jacobian)(self.times, self.states(K))

    def solve_linearized(
        self, K: Float[Array, "m n"], rhs: Float[Array, "m n"], ok: Shaped[Array, ""] | bool = True
    ) -> Float[Array, "m n"]:
        """Solves dR/dK V = rhs with the exact Jacobians at the stages; zero where not `ok`."""
        hJ = self.h * jnp.where(ok, self.stage_jacobians(K), 0)
        A, rhs = jnp.where(ok, self.A, 0), jnp.where(ok, rhs, 0)

        def product(V: Array) -> Array:
            return V - jnp.einsum("ikl,il->ik", hJ, A @ V)

        # Inverted once: the same inverse serves a solve and its transpose.
        inverse = scaled_inverse(lax.stop_gradient(_stacked(A, hJ)))
        return lax.custom_linear_solve(
            product,
            rhs,
            lambda _, b: _solved(inverse, b),
            lambda _, b: _solved(inverse.T, b),
        )


_System = TypeVar("_System", bound=StageSystem | SlopeSystem)


def _later(system: _System, digits: Int[Array, ""]) -> _System:
    t0, dt = system.t0, system.dt
    last = jnp.finfo(t0.dtype).eps * jnp.maximum(jnp.abs(t0), jnp.abs(t0 + dt))
    return replace(system, t0=t0 + digits.astype(t0.dtype) * last)


def times_of(system: StageSystem | SlopeSystem) -> dict[str, Callable]:
    """For `SimplifiedNewton`: the equations at times later by so many last digits, if they read any."""
    return {"later": _later} if system.field.depends_on_time else {}


def with_rounded_cotangents(system: _System) -> _System:
    """The same equations, to be differentiated in reverse mode: see `round_cotangents`."""
    return replace(system, field=FlatField(_RoundedCotangents(system.field)))


def _stacked(A: Float[Array, "m m"], hJ: Float[Array, "m n n"]) -> Float[Array, "mn mn"]:
    """`I - (a_ij h J_i)` as one matrix."""
    m, n = hJ.shape[:2]
    blocks = A[:, None, :, None] * hJ[:, :, None, :]
    return jnp.eye(m * n, dtype=hJ.dtype) - blocks.reshape(m * n, m * n)


def _solved(inverse: ScaledInverse, rhs: Array) -> Array:
    return inverse.solve(rhs.reshape(-1)).reshape(rhs.shape)
