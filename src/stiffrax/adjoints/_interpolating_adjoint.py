"""The adjoint equation and the parameter integral, in one solve."""

from typing import final

import equinox as eqx

from ._continuous_adjoint import AbstractContinuousAdjoint
from ._linear_methods import AbstractLinearMethod, LinearRadau


@final
class InterpolatingAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by a stiff method, the parameter integral solved beside it.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    along the dense output of the forward solve, from the last saved time back to the start; at each
    saved time $\lambda$ jumps by the cotangent saved there. The equation is linear: each step of
    Radau IIA of order 5 is one linear solve with the exact `J^T`, and no Newton iteration. The
    integral is a quadrature by the same method with the same steps, under the same error control,
    and takes no part in the linear algebra.

    The gradient is that of the exact solution, to the tolerances of both solves; it is not that of
    the steps taken, for which see [`stiffrax.DiscreteAdjoint`][].

    **Arguments:**

    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` in units of the
      loss over those of the state. The forward solve keeps its own.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take; a gradient that needs
      more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has four Jacobians, one `3n x 3n` system and two reverse sweeps of
    the vector field at four points. Memory: the forward dense output.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.InterpolatingAdjoint(), jnp.array(1.0)
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
        """Radau IIA, its own rule for the integral."""
        return LinearRadau()
