"""The adjoint equation implicitly, the parameter integral explicitly."""

from typing import final

import equinox as eqx

from ._continuous_adjoint import AbstractContinuousAdjoint
from ._linear_methods import AbstractLinearMethod, LinearKenCarp


@final
class ImexAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by an implicit-explicit method: implicit in the adjoint only.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    along the dense output of the forward solve, by KenCarp4: the stiff equation of $\lambda$ by its
    implicit half, the integral by its explicit half, both under the error control. Each stage is
    one linear solve with the exact `J^T`, and no Newton iteration. Of order 4; for strict
    tolerances [`stiffrax.InterpolatingAdjoint`][] takes fewer steps.

    **Arguments:**

    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` in units of the
      loss over those of the state. The forward solve keeps its own.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take; a gradient that needs
      more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has six Jacobians, five `n x n` systems and two reverse sweeps of
    the vector field at six points. Memory: the forward dense output.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.ImexAdjoint(), jnp.array(1.0)
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

    @property
    def method(self) -> AbstractLinearMethod:
        """KenCarp4."""
        return LinearKenCarp()
