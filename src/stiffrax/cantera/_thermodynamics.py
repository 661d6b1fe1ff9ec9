"""Heat capacities, enthalpies and entropies of species by NASA's polynomials."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# In J / (kmol K), as Cantera has it: exact since 2019.
GAS_CONSTANT = 8314.46261815324


@final
class Thermodynamics(eqx.Module):
    """NASA7 polynomials: seven coefficients below and above a temperature of each species."""

    low: Float[Array, "species 7"]
    high: Float[Array, "species 7"]
    middle: Float[Array, " species"]

    def __call__(self, T: Float[Array, ""]) -> Float[Array, "3 species"]:
        """Heat capacity over `R`, enthalpy over `R T` and entropy over `R`, of each species."""
        return _properties(self, T)


def _evaluate(data: Thermodynamics, T: Array) -> Float[Array, "3 species"]:
    c = jnp.where((T > data.middle)[:, None], data.high, data.low).T
    cp = c[0] + T * (c[1] + T * (c[2] + T * (c[3] + T * c[4])))
    h = c[0] + T * (c[1] / 2 + T * (c[2] / 3 + T * (c[3] / 4 + T * c[4] / 5))) + c[5] / T
    s = c[0] * jnp.log(T) + T * (c[1] + T * (c[2] / 2 + T * (c[3] / 3 + T * c[4] / 4))) + c[6]
    return jnp.stack([cp, h, s])


@eqx.filter_custom_jvp
def _properties(data: Thermodynamics, T: Array) -> Array:
    return _evaluate(data, T)


@_properties.def_jvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """One derivative by the temperature for all directions: most of a Jacobian's go along others."""
    (data, T), (data_dot, T_dot) = primals, tangents
    properties, slope = jax.jvp(lambda T: _evaluate(data, T), (T,), (jnp.ones_like(T),))
    dot = jnp.zeros_like(properties) if T_dot is None else slope * T_dot
    if jax.tree.leaves(data_dot):
        dot = dot + eqx.filter_jvp(lambda data: _evaluate(data, T), (data,), (data_dot,))[1]
    return properties, dot


def read_thermodynamics(gas: Any) -> Thermodynamics:
    """The polynomials of a Cantera solution."""
    table = np.stack([s.thermo.coeffs for s in gas.species()])
    return Thermodynamics(*(jnp.asarray(x) for x in (table[:, 8:], table[:, 1:8], table[:, 0])))
