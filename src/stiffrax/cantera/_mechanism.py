"""A mechanism of reactions in a gas, in arrays: nothing of Cantera is left in it."""

import functools
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Real

from .._flat_state import inexact
from ._rates import Rates, read_rates
from ._reactions import Reactions, check_solution
from ._thermodynamics import GAS_CONSTANT, Thermodynamics, read_thermodynamics


@final
class Mechanism(eqx.Module):
    r"""Reactions of an ideal gas, with every number of them in arrays that can be trained.

    $$\dot\omega_k = \sum_r \nu_{kr} [M]_r \Big(k_r \prod_j c_j^{\nu'_{jr}}
      - \frac{k_r}{K_r} \prod_j c_j^{\nu''_{jr}}\Big), \qquad k_r = A_r T^{b_r} e^{-E_r / R T}$$

    with $[M]_r = \sum_j \alpha_{rj} c_j$ where a third body takes part, the factor of Lindemann or Troe
    where a rate falls off with the pressure, a table of pressures (PLOG) or a Chebyshev polynomial
    in place of $k_r$ where there is one, and equilibrium constants $K_r$ of NASA7 polynomials.

    Made by [`stiffrax.cantera.Mechanism.from_solution`][]. Units are Cantera's: kmol, m, s, K, J.

    **Arguments:**

    - `rates`: `rates.high` has `log_A` (natural logarithms), `b` and `E`, one number for each reaction
        in the order of `equations`; `rates.low` those of the low-pressure limits, and `rates.troe`
        the numbers `a`, `T3`, `T1` and `T2`, one for each falloff. The derivative by `log_A[r]` is the
        sensitivity to the rate of reaction `r`, forward and backward; that of a falloff takes
        `rates.low` as well. Of rates by pressure `rates.high` is a factor, and `rates.by_pressure` has
        `tables`, numbers of each table, pressure and term, and `chebyshev`, coefficients of
        $\log_{10} k$ by `T` and `P`, in the order of their equations and filled up to one size. Beyond
        its pressures a table keeps its last value; polynomials go on.
    - `efficiencies`: of each species in each third body.
    - `thermodynamics`: coefficients of the polynomials.
    - `molar_masses`, `reference_pressure`: of the species, and of the polynomials.
    - `reactions`, `species`, `equations`: what reacts with what, and names; not trained.

    Cost: a few dozen operations on arrays of reactions. A forward-mode derivative forms the Jacobian
    of the rates from their slopes by each reactant, once for all directions.

    ```python
    >>> import stiffrax as srx
    >>> import cantera  # doctest: +SKIP
    >>> gas = cantera.Solution("h2o2.yaml")  # doctest: +SKIP
    >>> srx.cantera.Mechanism.from_solution(gas).species[:3]  # doctest: +SKIP
    ('H2', 'H', 'O')

    ```
    """

    rates: Rates
    efficiencies: Float[Array, "bodies species"]
    thermodynamics: Thermodynamics
    molar_masses: Float[Array, " species"]
    reference_pressure: Float[Array, ""]
    reactions: Reactions = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)
    equations: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def from_solution(cls, gas: Any) -> "Mechanism":
        """Reads a gas of Cantera; multipliers of reactions that are set there are kept.

        **Arguments:**

        - `gas`: a `cantera.Solution`.

        **Returns:** a `Mechanism`.

        **Raises:** `ValueError` for another kind of solution, reactions of other kinds than those
        above, orders that are not the stoichiometric ones, and thermodynamics that are not NASA7.
        """
        check_solution(gas)
        reactions = Reactions(gas)
        return cls(
            read_rates(gas),
            jnp.asarray(reactions.efficiencies),
            read_thermodynamics(gas),
            jnp.asarray(gas.molecular_weights),
            jnp.asarray(float(gas.reference_pressure)),
            reactions,
            tuple(gas.species_names),
            tuple(r.equation for r in gas.reactions()),
        )

    def net_production_rates(
        self, T: Real[ArrayLike, ""], concentrations: Real[ArrayLike, " species"]
    ) -> Float[Array, " species"]:
        """What the reactions make of each species.

        **Arguments:**

        - `T`: temperature in K.
        - `concentrations`: in kmol / m^3.

        **Returns:** rates in kmol / (m^3 s).
        """
        return _net_production_rates(self, inexact(T), inexact(concentrations))

    def density(
        self,
        T: Real[ArrayLike, ""],
        pressure: Real[ArrayLike, ""],
        mass_fractions: Real[ArrayLike, " species"],
    ) -> Float[Array, ""]:
        """The density of the gas.

        **Arguments:**

        - `T`: temperature in K.
        - `pressure`: in Pa.
        - `mass_fractions`: of all species.

        **Returns:** the density in kg / m^3.
        """
        moles = jnp.sum(jnp.asarray(mass_fractions) / self.molar_masses)
        return jnp.asarray(pressure) / (GAS_CONSTANT * jnp.asarray(T) * moles)

    def bodies(self, c: Float[Array, " species"]) -> Float[Array, " bodies"]:
        """Third bodies: concentrations, weighted by how well they collide."""
        return _matmul(self.efficiencies, c)

    def rate_constants(
        self, T: Float[Array, ""], P: Float[Array, ""], M: Float[Array, " bodies"]
    ) -> Float[Array, "2 reactions"]:
        """Rate constants forward and backward, times third bodies and corrections of falloffs.

        **Arguments:**

        - `T`, `P`: temperature in K and pressure in Pa.
        - `M`: the third bodies, as of `bodies`.
        """
        r, one = self.reactions, jnp.ones(1, T.dtype)
        log_k = self.rates.logarithm(r, T, P)
        _, h, s = self.thermodynamics(T)
        g = jnp.append(h - s, jnp.zeros(1, T.dtype))
        change = jnp.sum(g[r.products], axis=1) - jnp.sum(g[r.reactants], axis=1)
        moles = jnp.asarray(r.more_moles, T.dtype)
        change = change - moles * jnp.log(self.reference_pressure / (GAS_CONSTANT * T))
        # Where nothing goes back the equilibrium constant may be out of range.
        log_back = jnp.where(r.reversible, log_k + change, -jnp.inf)
        factor = jnp.asarray(r.signs, T.dtype) * jnp.append(M, one)[r.bodies]
        if len(r.falloffs):
            corrections = self.rates.falloff(r, T, log_k, M[r.falloff_bodies])
            factor = factor * jnp.append(corrections, one)[r.corrections]
        return factor[None] * jnp.exp(jnp.stack([log_k, log_back]))


def _matmul(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _filled(c: Array) -> Array:
    return jnp.append(c, jnp.ones(1, c.dtype))


def _product(filled: Array, slots: np.ndarray) -> Array:
    # Written out: the derivative of `jnp.prod` is made for zeros.
    factors = [filled[x] for x in slots.T]
    return functools.reduce(jnp.multiply, factors, jnp.ones(len(slots), filled.dtype))


def _speeds(mechanism: Mechanism, filled: Array, constants: Array) -> Array:
    r = mechanism.reactions
    return constants[0] * _product(filled, r.reactants) - constants[1] * _product(
        filled, r.products
    )


def _made(mechanism: Mechanism, filled: Array, constants: Array) -> Array:
    speeds = _speeds(mechanism, filled, constants)
    return _matmul(jnp.asarray(mechanism.reactions.stoichiometry, speeds.dtype), speeds)


@eqx.filter_custom_jvp
def _net_production_rates(mechanism: Mechanism, T: Array, c: Array) -> Array:
    P = GAS_CONSTANT * T * jnp.sum(c)
    return _made(mechanism, _filled(c), mechanism.rate_constants(T, P, mechanism.bodies(c)))


@_net_production_rates.def_jvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """Forms the Jacobian for all directions at once.

    Pushed through the reactions each, the 54 columns of GRI-Mech 3.0 take 38 times as long as its
    rates; formed from slopes, 6 times.
    """
    (mechanism, T, c), (mechanism_dot, T_dot, c_dot) = primals, tangents
    M, filled, dot = mechanism.bodies(c), _filled(c), jnp.zeros_like(c)
    total = GAS_CONSTANT * jnp.sum(c)
    P, one = total * T, jnp.ones_like(T)
    constants = mechanism.rate_constants(T, P, M)
    if T_dot is not None:
        by_T = jax.jvp(lambda T: mechanism.rate_constants(T, total * T, M), (T,), (one,))[1]
        dot = dot + _made(mechanism, filled, by_T) * T_dot
    if c_dot is not None:
        dot = dot + _matmul(_jacobian(mechanism, T, P, M, filled, constants), c_dot)
        if mechanism.reactions.depends_on_pressure:
            by_P = jax.jvp(lambda P: mechanism.rate_constants(T, P, M), (P,), (one,))[1]
            dot = dot + _made(mechanism, filled, by_P) * (GAS_CONSTANT * T * jnp.sum(c_dot))
    if jax.tree.leaves(mechanism_dot):
        by_numbers = eqx.filter_jvp(
            lambda m: m.rate_constants(T, P, m.bodies(c)), (mechanism,), (mechanism_dot,)
        )[1]
        dot = dot + _made(mechanism, filled, by_numbers)
    return _made(mechanism, filled, constants), dot


def _jacobian(
    mechanism: Mechanism, T: Array, P: Array, M: Array, filled: Array, constants: Array
) -> Float[Array, "species species"]:
    """Derivatives by concentrations: each reaction's by its slots and by its third body."""
    r = mechanism.reactions
    slopes = constants.reshape(-1)[r.terms] * _product(filled, r.others)
    jacobian = r.slopes(slopes).reshape(r.num_species, r.num_species)
    if len(r.colliding):
        # A reaction has one third body at most: along all of them at once is along each.
        by_M = jax.jvp(lambda M: mechanism.rate_constants(T, P, M), (M,), (jnp.ones_like(M),))[1]
        speeds = _speeds(mechanism, filled, by_M)[r.colliding]
        changes = jnp.asarray(r.stoichiometry[:, r.colliding], M.dtype) * speeds[None]
        jacobian = jacobian + _matmul(changes, mechanism.efficiencies)
    return jacobian
