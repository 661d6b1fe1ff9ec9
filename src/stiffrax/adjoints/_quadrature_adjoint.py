"""The adjoint equation first, then the parameter integral by adaptive quadrature."""

from typing import Any, final

import equinox as eqx
from jaxtyping import PyTree

from ._adaptive_quadrature import integrate
from ._adjoint_equation import AdjointEquation
from ._adjoint_loop import AdjointState
from ._continuous_adjoint import AbstractContinuousAdjoint
from ._linear_methods import AbstractLinearMethod, LinearRadau


@final
class QuadratureAdjoint(AbstractContinuousAdjoint):
    r"""Continuous adjoint by a stiff method, then adaptive quadrature for the parameters.

    $$\lambda' = -J(t, y)^T \lambda, \qquad
      \bar\theta = \int (\partial f / \partial \theta)^T \lambda \, dt,$$

    in two parts: the adjoint equation alone, as in [`stiffrax.InterpolatingAdjoint`][], with dense
    output; then the integral, by Clenshaw-Curtis rules on each step of the adjoint, which is halved
    until the rules of 5 and 9 points agree.

    **Arguments:**

    - `rtol`, `atol`: of the adjoint equation and the integral; `atol` in units of the
      loss over those of the state. The forward solve keeps its own.
    - `max_steps`: the most steps, accepted or not, that the adjoint may take; a gradient that needs
      more is NaN.
    - `failed`: the gradient of a solve that did not succeed, under `throw=False`: `"zero"` or
      `"nan"`.

    **Raises:** `ValueError` while tracing, as [`stiffrax.DiscreteAdjoint`][], and for tolerances
    that are not positive.

    Cost: a step of the adjoint has four Jacobians and one `3n x 3n` system; an interval of the
    quadrature two reverse sweeps of the vector field at nine points. Memory: the dense output of
    both solves, `4 n` numbers a step.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31
        (2021).

    ```python
    >>> import diffrax, jax, jax.numpy as jnp, stiffrax as srx
    >>> def end(rate):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     adjoint, y0 = srx.QuadratureAdjoint(), jnp.array(1.0)
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
        """Radau IIA."""
        return LinearRadau()

    @property
    def integrates_on_the_way(self) -> bool:
        """The integral is made of the dense output of the adjoint."""
        return False

    def parameter_integral(self, equation: AdjointEquation, state: AdjointState) -> PyTree:
        """Adaptive quadrature over the steps of the adjoint."""
        dense: Any = state.dense
        return integrate(equation, dense, state.accepted, self.rtol, self.atol)
