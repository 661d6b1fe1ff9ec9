"""What a step leaves for the next one and for the values within it."""

from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from ..stages import (
    Linearization,
    LinearizationWork,
    Mass,
    SplitFactors,
    StageMethod,
    StagePolynomial,
    evaluate_polynomial,
)


@final
class StepMemory(eqx.Module):
    """What one accepted step leaves for the next.

    `theta`: the last contraction, NaN after one iteration. `consistent`: whether the solve started
    where its constraints hold; `None` without any. `mass`: with its projector, where it has one.
    """

    polynomial: StagePolynomial
    eta: Float[Array, ""]
    theta: Float[Array, ""]
    linearization: Linearization | None
    consistent: Bool[Array, ""] | None = None
    mass: Mass | None = None


@final
class Attempt(eqx.Module):
    """How a step is solved: with which method, and (where that is known yet) with which work."""

    method: StageMethod
    factors: SplitFactors
    hJ: Any
    linearization: Linearization | None
    work: LinearizationWork | None


@final
class CollocationInterpolation(diffrax.AbstractLocalInterpolation):
    r"""The polynomial of degree `s` through the start and all stages of a step.

    $$y(t_0 + \theta h) = y_0 + \sum_{j=1}^{s} p_j \theta^j$$

    **Arguments:**

    - `t0`, `t1`: the step.
    - `y0`: state at its start.
    - `coefficients`: `p_1, ..., p_s`, stacked along a leading axis of every leaf.

    Made by the solvers; a user meets it in `Solution.interpolation`.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> y0, p = jnp.ones(1), jnp.ones((2, 1))
    >>> step = srx.CollocationInterpolation(t0=0.0, t1=2.0, y0=y0, coefficients=p)
    >>> print(step.evaluate(1.0))
    [1.75]

    ```
    """

    t0: Any
    t1: Any
    y0: PyTree[Array]
    coefficients: PyTree[Array]

    def evaluate(self, t0: Any, t1: Any | None = None, left: bool = True) -> PyTree[Array]:
        """The state at `t0`, or its increment from `t0` to `t1`.

        **Raises:** `ValueError` for several times, as of `solution.evaluate(ts)`.
        """
        del left
        if jnp.ndim(self.t0) > 0:
            # diffrax has gathered the step of each time, and would go on with a wrong shape.
            raise ValueError(
                f"Times of shape {jnp.shape(self.t0)} were given; dense output needs one time. Write "
                "`jax.vmap(solution.evaluate)(ts)`."
            )
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        length = self.t1 - self.t0
        empty = length == 0
        theta = jnp.where(empty, 0.0, (t0 - self.t0) / jnp.where(empty, 1.0, length))
        return jax.tree.map(
            lambda y, p: y + evaluate_polynomial(p, jnp.asarray(theta, p.dtype)),
            self.y0,
            self.coefficients,
        )
