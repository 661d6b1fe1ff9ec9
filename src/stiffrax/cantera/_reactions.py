"""Which species react with which: the fixed part of a mechanism, read from a Cantera solution."""

import hashlib
import itertools
from typing import Any, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# What is read. Everything else is refused by its name: nothing is approximated.
_FALLOFFS = ("falloff-", "chemically-activated-")
KINDS = (
    *(
        body + kind
        for kind in ("Arrhenius", "pressure-dependent-Arrhenius", "Chebyshev")
        for body in ("", "three-body-")
    ),
    *(start + form for start in _FALLOFFS for form in ("Lindemann", "Troe")),
)


@final
class Reactions:
    """Indices of reactants, products and third bodies: static data of JAX, equal where its arrays are.

    Molecules stand one by one in slots, filled up with `num_species`, the place of a one: powers of
    concentrations are products of slots, exact at zero, and below it, with their derivatives.
    """

    def __init__(self, gas: Any):
        reactions = gas.reactions()
        index = {name: k for k, name in enumerate(gas.species_names)}
        K = self.num_species = len(index)
        self.reactants = _slots([r.reactants for r in reactions], index)
        self.products = _slots([r.products for r in reactions], index)
        self.reversible = np.array([r.reversible for r in reactions], bool)
        made, used = (_counts(x, K) for x in (self.products, self.reactants))
        self.stoichiometry = made - used
        self.more_moles = self.stoichiometry.sum(axis=0)
        # Zero where a reaction is switched off: a logarithm of that is none.
        self.signs = np.array(
            [_sign(r.rate) * np.sign(gas.multiplier(i)) for i, r in enumerate(reactions)]
        )
        self._read_third_bodies(reactions, index)
        self._read_pressures([r.rate for r in reactions])
        self.terms, self.others, self.slopes = self._read_slopes()
        # Copies, and what is read again, share compiled programs. JAX compares at each call: a digest.
        digest = hashlib.sha256()
        for name, x in vars(self).items():
            if isinstance(x, np.ndarray):
                digest.update(f"{name}{x.shape}".encode() + x.tobytes())
        self.digest = digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reactions) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def _read_third_bodies(self, reactions: list[Any], index: dict[str, int]) -> None:
        bodies = [r.third_body for r in reactions]
        has_body = np.array([x is not None for x in bodies], bool)
        falls_off = np.array([is_falloff(r) for r in reactions], bool)
        rows = [_efficiencies(x, index) for x in bodies if x is not None]
        self.efficiencies = np.array(rows).reshape(-1, len(index))
        # The reaction of each third body, and of each falloff; one past the last is a one.
        self.colliding = np.flatnonzero(has_body)
        self.falloffs = np.flatnonzero(falls_off)
        body = np.cumsum(has_body) - 1
        self.falloff_bodies = body[self.falloffs]
        self.bodies = np.where(has_body & ~falls_off, body, len(self.colliding))
        self.corrections = np.full(len(reactions), len(self.falloffs))
        self.corrections[self.falloffs] = np.arange(len(self.falloffs))
        kinds = [reactions[i].reaction_type for i in self.falloffs]
        self.is_activated = np.array([x.startswith(_FALLOFFS[1]) for x in kinds], bool)
        coefficients = [reactions[i].rate.falloff_coeffs for i in self.falloffs]
        self.is_troe = np.array([len(x) > 0 for x in coefficients], bool)
        self.has_T2 = np.array([len(x) > 3 and x[3] != 0 for x in coefficients], bool)

    def _read_pressures(self, rates: list[Any]) -> None:
        """Where rates by pressure stand, tables first, and the pressures that they are known at."""
        in_table = [i for i, x in enumerate(rates) if hasattr(x, "rates")]
        chebyshev = [i for i, x in enumerate(rates) if hasattr(x, "pressure_range")]
        self.pressure_slots = np.full(len(rates), len(in_table) + len(chebyshev))
        self.pressure_slots[in_table + chebyshev] = np.arange(len(in_table) + len(chebyshev))
        self.depends_on_pressure = bool(in_table or chebyshev)
        tables = pressure_tables(rates)
        self.table_signs = np.sign(tables[..., 1])
        # What fills up a table stands beyond its last pressure, and its numbers are never read.
        filler = tables[..., 0, 4]
        self.table_log_P = np.log(tables[..., 0, 0]) + np.cumsum(filler, axis=1)
        self.table_last = np.sum(filler == 0, axis=1) - 1
        ranges = [(*rates[i].temperature_range, *rates[i].pressure_range) for i in chebyshev]
        bounds = np.asarray(ranges, float).reshape(-1, 4)
        self.chebyshev_ranges = np.c_[1 / bounds[:, :2], np.log(bounds[:, 2:])]

    def _read_slopes(self) -> tuple[np.ndarray, np.ndarray, "GatheredSums"]:
        """Slopes of the speeds by what stands in a slot, and how they add up to a Jacobian.

        A slope is a rate constant, numbered forward first, times what stands in the other slots. In
        one form for all of them: a gather of what was concatenated computes it again for each term.
        """
        num_reactions, most = len(self.reactants), self.reactants.shape[1]
        width = max(most, self.products.shape[1])
        sides = np.full((2 * num_reactions, width), self.num_species)
        sides[:num_reactions, :most] = self.reactants
        sides[num_reactions:, : self.products.shape[1]] = self.products
        terms, slots = np.nonzero(sides < self.num_species)
        others = np.nonzero(~np.eye(width, dtype=bool))[1].reshape(width, width - 1)[slots]
        direction = np.where(terms < num_reactions, 1.0, -1.0)
        changes = self.stoichiometry[:, terms % num_reactions] * direction
        species, term = np.nonzero(changes)
        place = species * self.num_species + sides[terms, slots][term]
        sums = GatheredSums(place, term, changes[species, term], self.num_species**2)
        return terms, sides[terms[:, None], others], sums


def check_solution(gas: Any) -> None:
    """**Raises:** `ValueError` for what is no ideal gas of Cantera, or has reactions not read."""
    if not all(hasattr(gas, name) for name in ("species", "reactions", "thermo_model")):
        raise ValueError(
            f"A `{type(gas).__name__}` was given; it needs a gas of the package cantera. Run "
            "`pip install 'stiffrax[cantera]'` and write `cantera.Solution(\"gri30.yaml\")`."
        )
    if gas.thermo_model != "ideal-gas":
        raise ValueError(
            f"The solution {gas.name!r} is of the kind {gas.thermo_model!r}; ideal gases are read."
        )
    other = [s.name for s in gas.species() if type(s.thermo).__name__ != "NasaPoly2"]
    if other:
        raise ValueError(
            f"The thermodynamics of {', '.join(other)} are of another form; NASA7 polynomials in two "
            "ranges of temperature are read. Convert them, or take another mechanism."
        )
    if not gas.reactions():
        raise ValueError(f"The solution {gas.name!r} has no reactions; it needs one or more.")
    for reaction in gas.reactions():
        if fault := _fault(reaction):
            raise ValueError(
                f"The reaction {reaction.equation!r} {fault}; reactions of whole molecules, of the "
                f"order of each, and of the kinds {', '.join(KINDS)} are read. Take it out of the "
                "mechanism."
            )


def _fault(reaction: Any) -> str:
    if reaction.reaction_type not in KINDS:
        return f"is of the kind {reaction.reaction_type!r}"
    if reaction.orders:
        return f"has the orders {reaction.orders}"
    numbers = [*reaction.reactants.values(), *reaction.products.values()]
    return "" if all(x == round(x) for x in numbers) else f"has the coefficients {numbers}"


def is_falloff(reaction: Any) -> bool:
    """Whether the rate has limits of low and high pressure."""
    return reaction.reaction_type.startswith(_FALLOFFS)


def arrhenius_numbers(rate: Any) -> tuple[float, float, float]:
    """`A`, `b` and `E` of Arrhenius' law."""
    return rate.pre_exponential_factor, rate.temperature_exponent, rate.activation_energy


def pressure_tables(rates: list[Any]) -> np.ndarray:
    """Of rates in tables: `P`, `A`, `b`, `E`, and how far the row stands beyond the last pressure.

    **Returns:** `[tables, pressures, terms, 5]`, two pressures at least; terms of a pressure add up.
    """
    groups = [
        [list(terms) for _, terms in itertools.groupby(rate.rates, key=lambda x: x[0])]
        for rate in rates
        if hasattr(rate, "rates")
    ]
    pressures = max(map(len, groups), default=0)
    most = max((len(terms) for table in groups for terms in table), default=1)
    tables = np.zeros((len(groups), max(pressures, 2), most, 5))
    for table, group in zip(tables, groups, strict=True):
        for row, terms in zip(table, group, strict=False):
            row[:, 0] = terms[0][0]
            row[: len(terms), 1:4] = [arrhenius_numbers(rate) for _, rate in terms]
        table[len(group) :] = table[len(group) - 1]
        table[len(group) :, :, 4] = 1.0
    return tables


def depends_on_pressure(rate: Any) -> bool:
    """Whether a table or a polynomial gives the rate at a pressure."""
    return hasattr(rate, "rates") or hasattr(rate, "pressure_range")


def _sign(rate: Any) -> float:
    """The sign of a rate constant; the limits of a falloff have the same, or nothing is left of it."""
    if depends_on_pressure(rate):
        return 1.0
    low, high = (getattr(rate, name, rate) for name in ("low_rate", "high_rate"))
    return float(np.sign(high.pre_exponential_factor) * (low.pre_exponential_factor != 0))


def _slots(sides: list[dict[str, float]], index: dict[str, int]) -> np.ndarray:
    rows = [[index[name] for name, x in side.items() for _ in range(round(x))] for side in sides]
    slots = np.full((len(rows), max(map(len, rows), default=0)), len(index))
    for slot, row in zip(slots, rows, strict=True):
        slot[: len(row)] = row
    return slots


def _counts(slots: np.ndarray, num_species: int) -> np.ndarray:
    counts = np.zeros((num_species + 1, len(slots)))
    np.add.at(counts, (slots, np.arange(len(slots))[:, None]), 1.0)
    return counts[:-1]


def _efficiencies(body: Any, index: dict[str, int]) -> np.ndarray:
    row = np.full(len(index), float(body.default_efficiency))
    # Cantera may keep those of species that the phase does not have.
    for name in body.efficiencies.keys() & index.keys():
        row[index[name]] = body.efficiencies[name]
    return row


@final
class GatheredSums:
    """`out[place] = sum of weight * x[source]`; the arrays are known when it is made.

    Sums are taken together with those of about their length, in rows filled up to a power of two. A
    scatter is one loop over all terms on the CPU.
    """

    def __init__(self, place: np.ndarray, source: np.ndarray, weight: np.ndarray, size: int):
        places, which, counts = np.unique(place, return_inverse=True, return_counts=True)
        order = np.argsort(which, kind="stable")
        position = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        widths = 2 ** np.ceil(np.log2(counts)).astype(int)
        self.rows: list[tuple[np.ndarray, np.ndarray]] = []
        # Places without a term read a zero at the end.
        self.place = np.full(size, len(places))
        done = 0
        for width in np.unique(widths):
            of_width = np.flatnonzero(widths == width)
            row = np.full(len(places), -1)
            row[of_width] = np.arange(len(of_width))
            mine = row[which[order]] >= 0
            at = row[which[order]][mine], position[mine]
            sources, weights = (np.zeros((len(of_width), width), d) for d in (int, float))
            sources[at], weights[at] = source[order][mine], weight[order][mine]
            self.rows.append((sources, weights))
            self.place[places[of_width]] = done + np.arange(len(of_width))
            done += len(of_width)

    def __call__(self, x: Float[Array, " terms"]) -> Float[Array, " size"]:
        sums = [jnp.sum(jnp.asarray(w, x.dtype) * x[s], axis=1) for s, w in self.rows]
        return jnp.concatenate([*sums, jnp.zeros(1, x.dtype)])[self.place]
