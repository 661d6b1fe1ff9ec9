"""Heat capacities, enthalpies and entropies of species by NASA's polynomials."""

from typing import Any, final

import equinox as eqx
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

    def __call__(self, T: Float[Array, ""]) -> tuple[Array, Array, Array]:
        """Heat capacity over `R`, enthalpy over `R T` and entropy over `R`, of each species."""
        c = jnp.where((T > self.middle)[:, None], self.high, self.low).T
        cp = c[0] + T * (c[1] + T * (c[2] + T * (c[3] + T * c[4])))
        h = c[0] + T * (c[1] / 2 + T * (c[2] / 3 + T * (c[3] / 4 + T * c[4] / 5))) + c[5] / T
        s = c[0] * jnp.log(T) + T * (c[1] + T * (c[2] / 2 + T * (c[3] / 3 + T * c[4] / 4))) + c[6]
        return cp, h, s


def read_thermodynamics(gas: Any) -> Thermodynamics:
    """The polynomials of a Cantera solution."""
    table = np.stack([s.thermo.coeffs for s in gas.species()])
    return Thermodynamics(*(jnp.asarray(x) for x in (table[:, 8:], table[:, 1:8], table[:, 0])))
