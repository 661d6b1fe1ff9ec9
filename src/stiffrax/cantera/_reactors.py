"""Reactors of constant volume and of constant pressure, without heat from outside."""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._mechanism import Mechanism


def state(gas: Any) -> Float[Array, " states"]:
    """The state of a reactor: temperature in K, then the mass fraction of each species.

    **Arguments:**

    - `gas`: a `cantera.Solution`.

    **Returns:** `Float[Array, "1+species"]`.

    ```python
    >>> import stiffrax as srx
    >>> import cantera  # doctest: +SKIP
    >>> gas = cantera.Solution("h2o2.yaml")  # doctest: +SKIP
    >>> srx.cantera.state(gas).shape  # doctest: +SKIP
    (11,)

    ```
    """
    return jnp.asarray([gas.T, *gas.Y])


def _check_state(gas: Mechanism, y: Any) -> None:
    needed = (1 + gas.molar_masses.size,)
    if jnp.shape(y) != needed:
        raise ValueError(
            f"The reactor was given a state of shape {jnp.shape(y)}; it needs {needed}, the "
            "temperature and the mass fraction of each species, as of `stiffrax.cantera.state(gas)`. "
            "Map over batches with `jax.vmap(reactor, in_axes=(None, 0))`."
        )


def _slopes(
    gas: Mechanism, density: Float[Array, ""], y: Float[Array, " states"], work: float
) -> Float[Array, " states"]:
    """Of temperature and mass fractions; `work` in units of `R T` a mole."""
    T, c = y[0], density / gas.molar_masses * y[1:]
    made = gas.net_production_rates(T, c)
    cp, h, _ = gas.thermodynamics(T)
    heating = -T * jnp.sum((h - work) * made) / jnp.sum((cp - work) * c)
    return jnp.append(heating[None], made * gas.molar_masses / density)


@final
class ConstantVolumeReactor(eqx.Module):
    r"""An adiabatic reactor of constant volume, as a vector field of temperature and mass fractions.

    $$\rho\, \dot Y_k = W_k\, \dot\omega_k, \qquad
      \dot T = -\frac{\sum_k u_k\, \dot\omega_k}{\sum_k c_{v,k}\, c_k}, \qquad c_k = \rho\, Y_k / W_k$$

    Mass fractions need no term for the change of the volume and have one scale at all pressures, so
    that one `atol` serves; at constant volume concentrations differ from them by factors.
    The Jacobian is dense, as third bodies and the temperature meet all species: of GRI-Mech 3.0 88 % of
    the entries are not zero, 98 % at constant pressure, and no two columns go together. From about 50
    states on one reactor is solved fastest with `structure=srx.Dense(lx.LU())`; not under
    `jax.vmap`, where two factorizations at once may never end.

    **Arguments:**

    - `mechanism`: [`stiffrax.cantera.Mechanism`][].
    - `density`: in kg / m^3; for many reactors
        `mechanism.density(T, pressure, mass_fractions)` within `jax.vmap`.

    Called as `reactor(t, y, args)`, with `y` as of [`stiffrax.cantera.state`][]; `t` and `args` are not
    used.

    ```python
    >>> import diffrax, stiffrax as srx
    >>> import cantera  # doctest: +SKIP
    >>> gas = cantera.Solution("h2o2.yaml")  # doctest: +SKIP
    >>> gas.TPX = 1200, 1e5, "H2:2, O2:1, N2:3.76"  # doctest: +SKIP
    >>> reactor = srx.cantera.ConstantVolumeReactor.from_solution(gas)  # doctest: +SKIP
    >>> diffrax.diffeqsolve(  # doctest: +SKIP
    ...     diffrax.ODETerm(reactor), srx.RadauIIA5(), 0.0, 1e-3, None, srx.cantera.state(gas),
    ...     stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-14),
    ... )

    ```
    """

    mechanism: Mechanism
    density: Float[Array, ""]

    @classmethod
    def from_solution(cls, gas: Any) -> "ConstantVolumeReactor":
        """The reactor of a gas as it is now.

        **Arguments:**

        - `gas`: a `cantera.Solution`, of which nothing is kept.

        **Returns:** a `ConstantVolumeReactor`.

        **Raises:** `ValueError` as `Mechanism.from_solution` does.
        """
        return cls(Mechanism.from_solution(gas), jnp.asarray(float(gas.density_mass)))

    def __call__(self, t: Any, y: Float[Array, " states"], args: Any = None) -> Array:
        """Slopes of temperature and mass fractions, 1/s.

        **Raises:** `ValueError` for a state of another shape.
        """
        _check_state(self.mechanism, y)
        # Energies and heat capacities at constant volume are less by what the gas would do as work.
        return _slopes(self.mechanism, self.density, y, work=1.0)


@final
class ConstantPressureReactor(eqx.Module):
    r"""An adiabatic reactor of constant pressure, as a vector field of temperature and mass fractions.

    $$\rho\, \dot Y_k = W_k\, \dot\omega_k, \qquad
      \dot T = -\frac{\sum_k h_k\, \dot\omega_k}{\sum_k c_{p,k}\, c_k}, \qquad c_k = \rho\, Y_k / W_k$$

    with the density of the ideal gas at `T` and `Y`. All else is as in
    [`stiffrax.cantera.ConstantVolumeReactor`][].

    **Arguments:**

    - `mechanism`: [`stiffrax.cantera.Mechanism`][].
    - `pressure`: in Pa.

    ```python
    >>> import stiffrax as srx
    >>> import cantera  # doctest: +SKIP
    >>> gas = cantera.Solution("gri30.yaml")  # doctest: +SKIP
    >>> reactor = srx.cantera.ConstantPressureReactor.from_solution(gas)  # doctest: +SKIP
    >>> reactor(0.0, srx.cantera.state(gas)).shape  # doctest: +SKIP
    (54,)

    ```
    """

    mechanism: Mechanism
    pressure: Float[Array, ""]

    @classmethod
    def from_solution(cls, gas: Any) -> "ConstantPressureReactor":
        """The reactor of a gas as it is now.

        **Arguments:**

        - `gas`: a `cantera.Solution`, of which nothing is kept.

        **Returns:** a `ConstantPressureReactor`.

        **Raises:** `ValueError` as `Mechanism.from_solution` does.
        """
        return cls(Mechanism.from_solution(gas), jnp.asarray(float(gas.P)))

    def __call__(self, t: Any, y: Float[Array, " states"], args: Any = None) -> Array:
        """Slopes of temperature and mass fractions, 1/s.

        **Raises:** `ValueError` for a state of another shape.
        """
        _check_state(self.mechanism, y)
        density = self.mechanism.density(y[0], self.pressure, y[1:])
        return _slopes(self.mechanism, density, y, work=0.0)
