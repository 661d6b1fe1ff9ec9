"""Mass-action kinetics: reactions between species, each with one rate."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsIndex, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from .._arguments import check_count, real_numbers
from ..data._names import check_names
from ._checks import check_coefficients, check_single, check_state, holds_parameters, named_parts
from ._linear import AbstractTermModel
from ._polynomial import Polynomial, monomials

# How many candidates are made before the pattern is called too wide: a fit has a column for each.
_MOST_CANDIDATES = 20_000
# How far both sides of a reaction may differ in what is conserved, as a part of it.
_SAME = 1e-6
_SPECIES = re.compile(r"^(?:([1-9]\d*)\s*\*?\s*)?([^\W\d]\w*)$")


@final
class ReactionNetwork(AbstractTermModel):
    r"""Reactions of mass-action kinetics, each with one rate that all its species share.

    $$\dot y = \sum_r k_r (p_r - q_r) \prod_i y_i^{q_{ri}}$$

    `q_r` and `p_r` count the molecules of each species among the reactants and the products of
    reaction `r`. What one equation loses another gains by the same parameter, so that amounts that
    the reactions conserve are conserved whatever the rates are.
    [`stiffrax.prune_and_refit`][] drops reactions, [`stiffrax.to_reactions`][] finds them in
    a polynomial, and `print` shows them.

    **Arguments:**

    - `reactions`: text such as `"A + 2 B -> C"`; nothing, or `0`, stands for what is outside.
    - `species`: the names of the states in the order of `y`, `data.names` for data; default in the
        order of the reactions. Data that name the states otherwise are refused.
    - `rates`: `k`, `Float[Array, " reactions"]`, in the unit of `dy/dt` over that of the product of
        the reactants; default zero. For [`stiffrax.fit_parameters`][] they may be
        `srx.positive([...], lower, upper)`.
    - `active`: `Bool[Array, " reactions"]`, false for reactions that are switched off; default all
        true.

    **Raises:** `ValueError` for a text that is no reaction, a species that is not named, a reaction
    that changes nothing or is given twice, and rates that are negative, infinite or of the wrong shape.

    Cost: a product for each reaction, and a matrix-vector product.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> reactions = ["A -> B", "2 B -> B + C", "B + C -> A + C"]
    >>> robertson = srx.ReactionNetwork(reactions, rates=[0.04, 3e7, 1e4])
    >>> print(robertson)
    A -> B          0.04
    2 B -> B + C    3e+07
    B + C -> A + C  10000
    >>> print(robertson(0.0, jnp.array([1.0, 0.0, 0.0])))
    [-0.04  0.04  0.  ]

    ```
    """

    coefficients: Any
    active: Bool[Array, " reactions"]
    species: tuple[str, ...] = eqx.field(static=True)
    _complexes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = eqx.field(static=True)

    def __init__(
        self,
        reactions: Sequence[str],
        species: Sequence[str] | None = None,
        *,
        rates: Any = None,
        active: Any = None,
    ):
        if isinstance(reactions, str):
            raise ValueError(
                f"`reactions` is the text {reactions!r}; it needs a sequence: write "
                f"`[{reactions!r}]` for one reaction."
            )
        sides = [_sides(text) for text in reactions]
        found = dict.fromkeys(itertools.chain.from_iterable(a | b for a, b in sides))
        self.species = check_names("`species`", tuple(found) if species is None else species)
        missing = [name for name in found if name not in self.species]
        if missing or not sides:
            raise ValueError(
                f"`species` are {self.species}; the {len(sides)} reactions have {missing} besides. "
                "Give one reaction or more, and name every species of them."
            )
        pairs = [
            tuple(tuple(side.get(x, 0) for x in self.species) for side in both) for both in sides
        ]
        self._complexes = _checked(pairs, self.species)
        _check_wrapped(rates)
        known, self.active = check_coefficients(paramax.unwrap(rates), active, (len(pairs),))
        self.coefficients = rates if isinstance(rates, paramax.AbstractUnwrappable) else known
        # Rates that are traced are not known yet.
        given = [] if isinstance(known, Tracer) else np.asarray(known).tolist()
        for (a, b), rate in zip(pairs, given, strict=False):
            if not 0 <= rate < np.inf:
                raise ValueError(
                    f"`rates` holds {rate:g} for {_written((a, b), self.species)!r}; a rate is finite, "
                    f"zero or more. Write {_written((b, a), self.species)!r} for the other way round."
                )

    @classmethod
    def candidates(
        cls,
        species: Sequence[str],
        *,
        reactants: SupportsIndex = 2,
        products: SupportsIndex = 2,
        conserved: Any = None,
    ) -> "ReactionNetwork":
        """All reactions of up to so many molecules, for a search of those that the data need.

        Of reactions whose rate equations differ by a factor, such as `2 A -> 2 B` and `2 A -> A + B`,
        the one that changes least is taken: data cannot tell them apart.

        **Arguments:**

        - `species`: the names of the states.
        - `reactants`, `products`: the largest number of molecules on either side.
        - `conserved`: what no reaction changes: one number for each species, such as the count of
            an element in it, or several such rows. With `[1, 1, 1]` the sum of three species stays,
            and nothing comes from outside. Both sides may differ by a millionth, as masses do.

        **Returns:** a `ReactionNetwork`, its rates zero.

        **Raises:** `ValueError` for counts below 1, rows of the wrong length, or more candidates
        than a fit can hold.

        ```python
        >>> import stiffrax as srx
        >>> print(srx.ReactionNetwork.candidates(["A", "B"], reactants=1, products=1).reactions())
        ('0 -> A', '0 -> B', 'A -> 0', 'A -> B', 'B -> 0', 'B -> A')

        ```
        """
        species = check_names("`species`", species)
        left, right = (
            list(map(tuple, monomials(len(species), check_count(name, count)).exponents.tolist()))
            for name, count in (("reactants", reactants), ("products", products))
        )
        rows = np.zeros((0, len(species)))
        if conserved is not None:
            rows = np.atleast_2d(real_numbers("conserved", conserved))
        if rows.shape[1] != len(species) or not np.all(np.isfinite(rows)):
            raise ValueError(
                f"`conserved` has rows of {rows.shape[1]} numbers; each needs a finite one for every "
                f"species, {len(species)} of them."
            )
        pairs: dict[Any, Any] = {}
        for a, b in _conserving(left, right, rows):
            change = np.subtract(b, a)
            direction = (a, tuple(change // np.gcd.reduce(change)))
            if direction not in pairs or abs(change).sum() < pairs[direction][0]:
                pairs[direction] = abs(change).sum(), (a, b)
            if len(pairs) > _MOST_CANDIDATES:
                break
        if not 0 < len(pairs) <= _MOST_CANDIDATES:
            found = f"more than {_MOST_CANDIDATES}" if pairs else "no"
            raise ValueError(
                f"There are {found} candidates; a search needs one to {_MOST_CANDIDATES}. Write "
                "smaller `reactants` or `products`, or what is `conserved`."
            )
        return cls([_written(pair, species) for _, pair in pairs.values()], species)

    @property
    def num_states(self) -> int:
        """The number of species."""
        return len(self.species)

    @property
    def rates(self) -> Float[Array, "*models reactions"]:
        """`k`: the rate of every reaction, zero where it is switched off; of a stack those of each."""
        return jnp.where(self.active, paramax.unwrap(self.coefficients), 0)

    @property
    def reactants(self) -> Int[np.ndarray, "reactions species"]:
        """`q`: molecules among the reactants."""
        return np.array([a for a, _ in self._complexes])

    @property
    def stoichiometry(self) -> Int[np.ndarray, "reactions species"]:
        """`p - q`: molecules that a reaction makes, negative where it takes them."""
        return np.array([b for _, b in self._complexes]) - self.reactants

    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " species"]:
        """`dy/dt`; `t` and `args` are not used."""
        y = check_state(y, self.num_states)
        # Reactants one by one, so that values and derivatives are exact at zero; a one fills up.
        rows = [np.repeat(np.arange(self.num_states), q) for q in self.reactants]
        order = max(map(len, rows), default=0)
        filled = np.full((len(rows), order), self.num_states)
        for row, factors in zip(filled, rows, strict=True):
            row[: len(factors)] = factors
        factors, speeds = jnp.append(y, jnp.ones(1, y.dtype)), check_single(self.rates, 1)
        # The rate first: products of many or few molecules alone may leave single precision.
        for column in filled.T:
            speeds = speeds * factors[column]
        changes = jnp.asarray(self.stoichiometry.T, speeds.dtype)
        return jnp.matmul(changes, speeds, precision="highest")

    def to_polynomial(self) -> Polynomial:
        """The same vector field with one coefficient for each equation and product of species.

        Terms are active that an active reaction has, whatever its rate.
        """
        columns = rate_columns(self)
        degree = max(1, *map(sum, columns))
        on = np.asarray(self.active)
        changed = {
            (tuple(q.tolist()), i)
            for q, change in zip(self.reactants[on], self.stoichiometry[on], strict=True)
            for i in np.flatnonzero(change)
        }
        exponents = list(map(tuple, monomials(self.num_states, degree).exponents.tolist()))
        zero = np.zeros(self.num_states, self.rates.dtype)
        coefficients = np.stack([columns.get(q, zero) for q in exponents], axis=1)
        active = [[(q, i) in changed for q in exponents] for i in range(self.num_states)]
        return Polynomial(self.num_states, degree, coefficients=coefficients, active=active)

    def reactions(self) -> tuple[str, ...]:
        """Every reaction as text, those that are switched off as well."""
        return tuple(_written(pair, self.species) for pair in self._complexes)

    def kept(self) -> "ReactionNetwork":
        """The network of the reactions that are not switched off, with their scale and bounds.

        **Raises:** `ValueError` if all are.
        """
        check_single(self.rates, 1)
        index = np.flatnonzero(np.asarray(self.active))
        if not len(index):
            raise ValueError(
                f"All {len(self.active)} reactions of the network are switched off; one or more must "
                "be on. Print its `reactions()`, and make it with `active=` true where one happens."
            )
        texts = self.reactions()
        # Not by `rates=`, which refuses what a fit may have left below zero.
        kept = ReactionNetwork([texts[i] for i in index], self.species)
        rates = jax.tree.map(lambda x: x[index], self.coefficients)
        return eqx.tree_at(lambda network: network.coefficients, kept, rates)

    def __str__(self) -> str:
        rows = [
            (text, f"{rate:.6g}")
            for text, rate, on in zip(
                self.reactions(),
                check_single(self.rates, 1).tolist(),
                self.active.tolist(),
                strict=True,
            )
            if on
        ]
        width = max((len(text) for text, _ in rows), default=0)
        return "\n".join(f"{text:<{width}}  {rate}" for text, rate in rows)


@named_parts.register(ReactionNetwork)
def _(model: ReactionNetwork) -> Any:
    return [(None, model.species)]


def rate_columns(
    network: ReactionNetwork, part: Callable[[Any], Any] = np.asarray
) -> dict[tuple[int, ...], Float[np.ndarray, " species"]]:
    """What each product of reactants is multiplied by in the rate equations, a `part` of each term."""
    columns: dict[Any, Any] = {}
    rates = np.asarray(check_single(network.rates, 1))
    for q, change, rate in zip(network.reactants, network.stoichiometry, rates, strict=True):
        place = tuple(q.tolist())
        columns[place] = columns.get(place, 0) + part(change.astype(rates.dtype) * rate)
    return columns


def _sides(text: str) -> tuple[dict[str, int], dict[str, int]]:
    sides = str(text).split("->")
    if len(sides) != 2:
        raise ValueError(
            f"{text!r} is no reaction: write reactants, an arrow and products, such as "
            "'A + 2 B -> C'; one in both directions is two reactions."
        )
    return _molecules(sides[0], text), _molecules(sides[1], text)


def _molecules(side: str, text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    if side.strip() in ("", "0"):
        return counts
    for part in side.split("+"):
        match = _SPECIES.match(part.strip())
        if match is None:
            raise ValueError(
                f"{part.strip()!r} in the reaction {text!r} is no species: write a name, or a whole "
                "number and a name, such as '2 B'."
            )
        counts[match[2]] = counts.get(match[2], 0) + int(match[1] or 1)
    return counts


def _check_wrapped(rates: Any) -> None:
    if isinstance(rates, paramax.AbstractUnwrappable):
        if not getattr(rates, "log", True) and getattr(rates, "lower", 0.0) < 0:
            raise ValueError(
                f"`rates={rates!r}` was given; a rate is zero or more. Write "
                "`srx.bounded([...], 0.0)`, or `srx.positive([...])` for a logarithmic scale."
            )
    elif holds_parameters(rates):
        raise ValueError(
            "`rates` holds a parameter for single reactions; it needs one for all, or plain numbers. "
            "Write `srx.positive([...], lower, upper)` with a rate for each reaction."
        )


def _checked(pairs: list[Any], species: tuple[str, ...]) -> tuple[Any, ...]:
    seen = set()
    for a, b in pairs:
        if a == b or (a, b) in seen:
            what = "changes nothing" if a == b else "is given twice"
            raise ValueError(f"The reaction {_written((a, b), species)!r} {what}: leave it out.")
        seen.add((a, b))
    return tuple(pairs)


def _written(pair: tuple[Sequence[int], Sequence[int]], species: tuple[str, ...]) -> str:
    return f"{side_text(pair[0], species)} -> {side_text(pair[1], species)}"


def side_text(counts: Sequence[int], species: Sequence[str]) -> str:
    """One side of a reaction, such as `A + 2 B`."""
    named = zip(counts, species, strict=True)
    return " + ".join(name if n == 1 else f"{n} {name}" for n, name in named if n) or "0"


def _conserving(
    left: list[tuple[int, ...]], right: list[tuple[int, ...]], rows: Float[np.ndarray, "rows n"]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The reactions of these sides that change something, and none of the rows."""
    products = np.array(right)
    made, size = rows @ products.T, np.abs(rows) @ products.T
    for a in left:
        taken = (rows @ a)[:, None]
        bound = _SAME * (size + (np.abs(rows) @ a)[:, None])
        stays = np.all(np.abs(made - taken) <= bound, axis=0)
        yield from ((a, right[j]) for j in np.flatnonzero(stays) if right[j] != a)
