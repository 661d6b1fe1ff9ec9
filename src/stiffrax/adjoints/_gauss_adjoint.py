"""The adjoint equation, the parameter integral gathered by Gauss quadrature."""

from typing import final

import equinox as eqx

from ._continuous_adjoint import AbstractContinuousAdjoint
from ._linear_methods import AbstractLinearMethod, LinearRadau


@final
class GaussAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by a stiff method, its parameter integral gathered step by step.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    as in [`stiffrax.InterpolatingAdjoint`][], but that the integral over a step is taken by a
    Gauss rule over the polynomials of both solutions, outside of the error control. Parameters can
    neither shorten the steps nor need they be stored: the cheapest of the continuous adjoints for
    many parameters.

    **Arguments:**

    - `nodes`: of the Gauss rule.
    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` in units of the
      loss over those of the state. The forward solve keeps its own.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take; a gradient that needs
      more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has four Jacobians, one `3n x 3n` system and one reverse sweep of
    the vector field at `nodes` points. Memory: the forward dense output.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.GaussAdjoint(), jnp.array(1.0)
    ...     control = diffrax.PIDController(rtol=1e-6, atol=1e-9)
    ...     return diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, None, y0,
    ...         stepsize_controller=control, adjoint=adjoint).ys[-1]
    >>> print(f"{jax.grad(end)(2.0):.4f}")  # -exp(-2)
    -0.1353

    ```
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=1e-9)
    max_steps: int = eqx.field(static=True, default=4096)
    failed: str = eqx.field(static=True, default="zero")

    nodes: int = eqx.field(static=True, default=4)

    def __check_init__(self):
        if self.nodes < 1:
            raise ValueError(
                f"`GaussAdjoint(nodes={self.nodes!r})` was given; it needs a positive number of "
                "nodes. Write `nodes=4`."
            )

    @property
    def method(self) -> AbstractLinearMethod:
        """Radau IIA, and a Gauss rule over its polynomial."""
        return LinearRadau(gauss_nodes=self.nodes)
