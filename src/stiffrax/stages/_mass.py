"""A constant mass matrix on the flat state, and what its null spaces say of a vector field."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, Float, PyTree

from .._flat_state import flatten_state, has_complex, parts_of_state
from ..linear_algebra import library_matmul, scaled_inverse, scales, small_matmul

# Singular values below as many units of rounding of the largest are zeros. Chosen, not measured: an
# SVD leaves a few units times the root of n.
_SINGULAR = 100


@final
class Mass(eqx.Module):
    """The matrix `M` of `M y' = f(t, y)`: its diagonal, or all of it.

    `powers`: of the step size by which errors of each component are weighed, its index less one;
    `None` where all are zero. `projector`: onto the range of `M`, where a solve has computed it.
    """

    entries: Float[Array, " n"] | Float[Array, "n n"]
    powers: tuple[int, ...] | None = eqx.field(static=True, default=None)
    projector: Float[Array, "n n"] | None = None

    @property
    def is_diagonal(self) -> bool:
        """Whether only the diagonal is held."""
        return self.entries.ndim == 1

    def times(self, Z: Float[Array, "*k n"]) -> Float[Array, "*k n"]:
        """`M` times each row."""
        if self.is_diagonal:
            return jnp.broadcast_to(self.entries, Z.shape) * Z
        return small_matmul(Z.reshape(-1, Z.shape[-1]), self.entries.T).reshape(Z.shape)

    def as_matrix(self) -> Float[Array, "n n"]:
        """All of it."""
        return jnp.diag(self.entries) if self.is_diagonal else self.entries

    def error_weights(self, h: Float[Array, ""]) -> Float[Array, " n"] | float:
        """By which the errors of the components count less: `|h|^(index - 1)`."""
        if self.powers is None:
            return 1.0
        return jnp.abs(h) ** jnp.asarray(self.powers, h.dtype)

    def with_projector(self) -> "Mass":
        """With the projector computed, where it takes a matrix."""
        if self.is_diagonal:
            return self
        M, rows, _ = _scaled(self.entries)
        U, s, _ = jnp.linalg.svd(M)
        kept = s > _SINGULAR * jnp.finfo(s.dtype).eps * s[0]
        projector = (U * kept.astype(U.dtype)[None]) @ U.T
        return replace(self, projector=projector * rows[None] / rows[:, None])

    def in_range(self, f: Float[Array, " n"]) -> Float[Array, " n"]:
        """The part of `f` in the range of `M`; all of it where the projector is not known."""
        if self.is_diagonal:
            return jnp.where(self.entries == 0, 0, f)
        return f if self.projector is None else small_matmul(self.projector, f[:, None])[:, 0]

    def out_of_range(self, f: Float[Array, " n"]) -> Float[Array, " n"]:
        """What is left of `f`, zero where that is rounding."""
        if self.is_diagonal:
            return jnp.where(self.entries == 0, f, 0)
        rest = f - self.in_range(f)
        if self.projector is None:
            return rest
        size = small_matmul(jnp.abs(self.projector), jnp.abs(f)[:, None])[:, 0] + jnp.abs(f)
        return jnp.where(jnp.abs(rest) <= _SINGULAR * jnp.finfo(f.dtype).eps * size, 0, rest)

    @property
    def largest(self) -> Float[Array, ""]:
        """The size of the largest entry."""
        return jnp.max(jnp.abs(lax.stop_gradient(self.entries)))

    def is_singular(self) -> Array:
        """Whether some equation has no derivative in it."""
        if self.is_diagonal:
            return jnp.any(lax.stop_gradient(self.entries) == 0)
        s = jnp.linalg.svd(_scaled(self.entries)[0], compute_uv=False)
        return s[-1] <= _SINGULAR * jnp.finfo(s.dtype).eps * s[0]

    def typical_slope(self, f: Float[Array, " n"]) -> Float[Array, " n"]:
        """The smallest `y'` for which `M y'` is about `f`; of use for sizes, not for steps."""
        if self.is_diagonal:
            return jnp.where(
                self.entries == 0, 0, f / jnp.where(self.entries == 0, 1, self.entries)
            )
        M, rows, columns = _scaled(self.entries)
        tiny = jnp.sqrt(jnp.finfo(M.dtype).eps) * jnp.eye(f.size, dtype=M.dtype)
        slope = scaled_inverse(M.T @ M + tiny).solve(M.T @ (rows * f))
        return columns * slope

    def divider(self) -> Callable[[Float[Array, " n"]], Float[Array, " n"]]:
        """`M^-1 x` of `x`, by a matrix that is not singular and is inverted here; differentiable."""
        if self.is_diagonal:
            return lambda x: x / self.entries
        inverse = _inverse(self.entries)
        return lambda x: library_matmul(inverse, x)


def _scaled(entries: Float[Array, "n n"]) -> tuple[Array, Array, Array]:
    entries = lax.stop_gradient(entries)
    rows, columns = scales(entries)
    return rows[:, None] * entries * columns[None], rows, columns


@jax.custom_jvp
def _inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return scaled_inverse(matrix).as_matrix()


@_inverse.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    inverse = _inverse(*primals)
    return inverse, -inverse @ tangents[0] @ inverse


def is_operator(x: Any) -> bool:
    """Whether a mass is given as a lineax operator."""
    return isinstance(x, lx.AbstractLinearOperator)


def _entries_of(mass: Any, size: int, shape: tuple[int, ...]) -> Array:
    if is_operator(mass):
        if isinstance(mass, lx.IdentityLinearOperator):
            mass = jnp.ones(size)
        else:
            mass = lx.diagonal(mass) if lx.is_diagonal(mass) else mass.as_matrix()
    mass = jnp.asarray(mass)
    if mass.shape == ():
        return jnp.broadcast_to(mass, (size,))
    # In the shape of a square state it could be meant as a matrix, or as its diagonal.
    unclear = len(shape) == 2 and shape[0] == shape[1] > 1
    if mass.shape == (size,) or (mass.shape == shape and not unclear):
        return mass.reshape(size)
    if mass.shape == (size, size):
        return mass
    raise ValueError(
        f"A mass of shape {mass.shape} was given for a state of shape {shape}; it needs a scalar, "
        f"the {size} entries of a diagonal, as of `mass.reshape(-1)`, or a matrix of shape "
        f"({size}, {size}). Write for example "
        "`MassMatrixTerm(vector_field, jnp.array([1.0, 1.0, 0.0]))`."
    )


def flat_mass(mass: PyTree, y: PyTree[Array], powers: tuple[int, ...] | None) -> Mass:
    """The mass of a term on the flat state, with `powers` as of `Mass`."""
    if has_complex(y):
        whole = flat_mass(mass, jax.tree.map(jnp.real, y), powers)
        entry, part = parts_of_state(y)
        powers = None if powers is None else tuple(powers[i] for i in entry)
        if whole.is_diagonal:
            return Mass(whole.entries[entry], powers)
        same = jnp.asarray(part[:, None] == part[None])
        return Mass(jnp.where(same, whole.entries[entry][:, entry], 0), powers)
    flat, _ = flatten_state(y)
    if powers is not None and len(powers) != flat.size:
        raise ValueError(
            f"`index` was given for {len(powers)} components of a state that has {flat.size}; it "
            "needs one number, 1, 2 or 3, for each."
        )
    if is_operator(mass) or jax.tree.structure(mass) == jax.tree.structure(0):
        shape = jnp.shape(y) if jax.tree.structure(y) == jax.tree.structure(0) else flat.shape
        return Mass(_entries_of(mass, flat.size, shape).astype(flat.dtype), powers)
    masses, structure = jax.tree.flatten(mass, is_leaf=is_operator)
    if structure != jax.tree.structure(y):
        raise ValueError(
            f"A mass of structure {structure} was given for a state of structure "
            f"{jax.tree.structure(y)}; it needs one array for the whole state, or one for each of "
            "its leaves."
        )
    leaves = zip(masses, jax.tree.leaves(y), strict=True)
    blocks = [_entries_of(m, jnp.size(x), jnp.shape(x)) for m, x in leaves]
    if all(block.ndim == 1 for block in blocks):
        return Mass(jnp.concatenate(blocks).astype(flat.dtype), powers)
    blocks = [jnp.diag(block) if block.ndim == 1 else block for block in blocks]
    return Mass(jax.scipy.linalg.block_diag(*blocks).astype(flat.dtype), powers)
