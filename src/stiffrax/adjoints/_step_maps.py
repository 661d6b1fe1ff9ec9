"""Recorded steps of a solver that is trained, as maps of their starts."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from ..diffrax_loop import Step
from ..solvers import DENSE_DEGREE
from ._recorded_steps import AbstractRecordedSteps


@final
class StepMaps(AbstractRecordedSteps):
    """Steps as maps of their start and of `(terms, args, solver)`.

    `parameters` are the leaves whose cotangents are wanted, `others` the rest. Through the maps,
    not through the stage equations, since those of the explicit kind have no inverse of `A`.
    """

    parameters: PyTree
    others: PyTree
    state: PyTree[Array]

    @property
    def num_powers(self) -> int:
        """The degree of the dense output of learnable methods."""
        return DENSE_DEGREE

    def step(
        self, parameters: PyTree, step: Step, y0: Float[Array, " n"]
    ) -> tuple[Float[Array, " n"], Float[Array, "p n"]]:
        """The end of a step, and the polynomial within it."""
        terms, args, solver = eqx.combine(parameters, self.others)
        _, restore = ravel_pytree(self.state)
        y1, _, dense_info, _, _ = solver.step(
            terms, step.t0, step.t1, restore(y0), args, None, False
        )
        flat = jax.vmap(lambda tree: ravel_pytree(tree)[0])
        return ravel_pytree(y1)[0], flat(dense_info["coefficients"])

    def chunk_cotangents(
        self,
        steps: Step,
        used: Bool[Array, " k"],
        nodes: Float[Array, "k n"],
        polynomials: Float[Array, "k s n"] | None,
        end: Float[Array, " n"],
        recurrence: str,
    ) -> tuple[Float[Array, " n"], PyTree]:
        """One batch over the steps: their solution, and its derivative for all unit cotangents of
        the end, which make a step an affine map; then the sum for the parameters."""
        del recurrence
        n = nodes.shape[1]

        def ends(parameters: PyTree, y0: Array) -> tuple[Array, Array]:
            return jax.vmap(lambda step, y: self.step(parameters, step, y))(steps, y0)

        (y1, p), pull = jax.vjp(ends, self.parameters, steps.y0)
        p_bar = jnp.zeros_like(p) if polynomials is None else polynomials

        def pull_unit(unit: Array) -> Array:
            return pull((jnp.broadcast_to(unit, y1.shape), jnp.zeros_like(p)))[1]

        identity = jnp.eye(n, dtype=y1.dtype)
        # Rows of P are indexed by the unit cotangents, after the steps.
        P = jnp.where(used[:, None, None], jax.vmap(pull_unit, out_axes=1)(identity), identity)
        q = pull((jnp.zeros_like(y1), p_bar))[1]
        q = jnp.where(used[:, None], q, 0) + nodes

        def before(y1_bar: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
            P, q = step
            return y1_bar @ P + q, y1_bar

        start, y1_bars = lax.scan(before, end, (P, q), reverse=True)
        return start, pull((jnp.where(used[:, None], y1_bars, 0), p_bar))[0]
