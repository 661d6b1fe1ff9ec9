"""Reactions of mass-action kinetics from rate equations, and reactions in LaTeX."""

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Float, Int

from .._arguments import check_count, check_instance, check_positive
from ..data._names import state_names
from ..models import Polynomial, ReactionNetwork
from ..models._checks import names_for
from ..models._polynomial import monomials
from ..models._reaction_network import rate_columns, side_text
from ._numbers import check_digits, shortest
from ._rows import finite_coefficients, finite_rates, kept_network
from ._text import latex_symbol

# The most reactions with the same reactants. With five, two products, and five species that change,
# there are 20 choose 5, 15,504, sets to try, in a second; with eight 44 choose 5, a million.
_MOST_PARALLEL = 5


def to_reactions(
    model: Any,
    species: Sequence[str] | None = None,
    *,
    products: int = 2,
    tolerance: float | None = None,
) -> ReactionNetwork:
    r"""The reactions of mass-action kinetics that have the rate equations of a polynomial.

    The coefficients of one product of species, a column over the equations, are what the reactions
    with these reactants make and take together:

    $$c_{\cdot q} = \sum_r k_r (p_r - q), \qquad k_r > 0$$

    The fewest reactions are taken that say the column within `tolerance`; among equally few those
    that say it but for rounding, then those of the smallest sum of squared counts of molecules on
    the right. Rate equations do not determine
    reactions: others of the same number may have the same ones. Rates are not those of the best fit
    any more, for what the equations had as several numbers is one: refit by
    `fit_least_squares(network, data, start="given")`, and compare the loss with that of the
    polynomial.

    **Arguments:**

    - `model`: a [`stiffrax.Polynomial`][], as [`stiffrax.prune_and_refit`][] finds it, or a model
        with `to_polynomial()`; of a network found among candidates these are the fewest reactions
        that say the same.
    - `species`: the names of the states; default those of a network, else `y1 ... yn`.
    - `products`: the largest number of molecules on the right.
    - `tolerance`: by how much the coefficients of one product of species may be missed, of a
        polynomial relative to the largest of them, or of the equation if that is smaller, of a network
        relative to its rates; at least the rounding of their precision, the default for a network.
        For a polynomial it is `1e-2`.

    **Returns:** a [`stiffrax.ReactionNetwork`][].

    **Raises:** `ValueError` for a model that is no polynomial or has not one equation for each state,
    for its own names in another order, or for a product of species of whose
    coefficients no reactions can be made, by its name.

    Cost: a non-negative least-squares problem for each set of up to five products, where there are
    reactions at all: a minute for eight species that all change.

    ??? cite "Reference"
        Hars and Toth, *On the inverse problem of reaction kinetics* (1981), say which polynomials
        are those of a reaction network.

    ```python
    >>> import stiffrax as srx
    >>> equations = srx.Polynomial(2, degree=1, coefficients=[[0, -2.0, 1.0], [0, 2.0, -1.0]])
    >>> print(srx.to_reactions(equations, ["A", "B"]))
    A -> B  2
    B -> A  1

    ```
    """
    model = paramax.unwrap(model)
    species = names_for(model, species)
    if hasattr(model, "to_polynomial") and not isinstance(model, ReactionNetwork):
        model = model.to_polynomial()
    if not isinstance(model, ReactionNetwork):
        check_instance("model", model, Polynomial, "a polynomial", "srx.Polynomial(...)")
        if model.num_outputs != model.num_states:
            raise ValueError(
                f"The polynomial has {model.num_outputs} outputs for {model.num_states} states; "
                "reactions need the rate of change of each. Leave `num_outputs` out."
            )
    species = state_names(species, model.num_states)
    check_count("products", products)
    # Both numbers of `A -> B` are one but for rounding, at best.
    rounding = 64 * float(jnp.finfo(model.coefficients.dtype).eps)
    if tolerance is None:
        tolerance = rounding if isinstance(model, ReactionNetwork) else 1e-2
    check_positive("tolerance", tolerance, below=1.0, write="tolerance=1e-2")
    columns = {q: column for q, *column in _columns(model, rounding) if np.any(column[0])}
    if not columns:
        raise ValueError(
            "All coefficients of the polynomial are zero, which no reaction gives: nothing happens in "
            "it. Fit it first, or prune less."
        )
    texts, rates = [], []
    for q, (column, sizes) in columns.items():
        split = _split(np.array(q), column, sizes, products, max(tolerance, rounding), rounding)
        if split is None:
            raise ValueError(
                f"No reactions of {_side(q, species)} with up to {products} products, and at most "
                f"{_MOST_PARALLEL} of them, have the coefficients {_shown(column, species)}: a species "
                "can only be lost by reactions it takes part in. Drop terms, raise `products` or "
                "`tolerance`, or keep the polynomial."
            )
        for p, rate in zip(*split, strict=True):
            texts.append(f"{_side(q, species)} -> {_side(p, species)}")
            rates.append(rate)
    return ReactionNetwork(texts, species, rates=np.array(rates, model.coefficients.dtype))


def _columns(model: Polynomial | ReactionNetwork, rounding: float) -> Iterable[tuple[Any, ...]]:
    """Exponents of each product, its coefficients, and the sizes that their errors are relative to."""
    if isinstance(model, ReactionNetwork):
        finite_rates(model)
        # In the order of a polynomial's monomials.
        columns, sizes = rate_columns(model), rate_columns(model, np.abs)
        order = sorted(columns, key=lambda powers: (sum(powers), [-x for x in powers]))
        # What cancels leaves rounding.
        for q, size in sizes.items():
            columns[q] = np.where(np.abs(columns[q]) > rounding * size, columns[q], 0)
        return [(q, columns[q], sizes[q]) for q in order]
    coefficients = finite_coefficients(model)
    largest = np.max(np.abs(coefficients), axis=1)
    return [
        (tuple(q), column, np.minimum(largest, np.max(np.abs(column))))
        for q, column in zip(model.exponents.tolist(), coefficients.T, strict=True)
    ]


def _split(
    q: Int[np.ndarray, " n"],
    column: Float[np.ndarray, " n"],
    sizes: Float[np.ndarray, " n"],
    products: int,
    tolerance: float,
    rounding: float,
) -> Any:
    """Products and rates of the fewest reactions of these reactants that say the column, if any."""
    from scipy.optimize import nnls

    sizes = np.where(sizes > 0, sizes, 1)
    relative = column / sizes
    # Entries that the tolerance allows to miss need no reaction of their own.
    changed = np.abs(relative) > tolerance / len(column)
    groups = monomials(len(q), products).exponents
    # Nothing is made by one reaction to be taken by another.
    groups = groups[~np.any((groups != q) & ~changed, axis=1) & np.any(groups != q, axis=1)]
    changes = (groups - q).T / sizes[:, None]
    # Rates of slow and of fast reactions are of one size to the search.
    units = np.linalg.norm(changes, axis=0)
    changes = changes / units
    # Where no number of reactions will do, none is tried: there are millions of sets of five. What
    # takes no part cannot be lost.
    lost = np.minimum(relative[q == 0], 0)
    if np.linalg.norm(lost) > tolerance or nnls(changes, relative)[1] > tolerance:
        return None
    for count in range(1, min(_MOST_PARALLEL, len(groups)) + 1):
        found = []
        for chosen in itertools.combinations(range(len(groups)), count):
            k, misfit = nnls(changes[:, chosen], relative)
            if misfit <= tolerance and np.all(k > 0):
                p, rates = groups[list(chosen)], k / units[list(chosen)]
                order = misfit > rounding, np.sum(p**2), round(misfit, 12)
                found.append((*order, p.tolist(), rates.tolist()))
        if found:
            return min(found)[3:]
    return None


def to_mhchem(network: Any, *, digits: int | None = 3) -> str:
    r"""The reactions in LaTeX, one a line, in the language of the package mhchem.

    **Arguments:**

    - `network`: a [`stiffrax.ReactionNetwork`][]; reactions that are switched off are left out.
    - `digits`: significant digits of the rates; all with `None`.

    **Returns:** lines of LaTeX, for an `align*` environment.

    **Raises:** `ValueError` for something other than a network.

    ```python
    >>> import stiffrax as srx
    >>> print(srx.to_mhchem(srx.ReactionNetwork(["2 B -> B + C"], rates=[3e7])))
    \ce{2 B &->[$3 \times 10^{7}$] B + C}

    ```
    """
    check_digits(digits)
    kept, rates = kept_network(network)
    lines = []
    for text, rate in zip(kept.reactions(), rates, strict=True):
        left, right = (_in_mhchem(side) for side in text.split(" -> "))
        value = shortest(rate)
        number = f"{value!r}" if digits is None else f"{value:.{digits}g}"
        lines.append(rf"\ce{{{left} &->[{_in_latex(number)}] {right}}}")
    return "\\\\\n".join(lines)


def _in_latex(number: str) -> str:
    mantissa, e, exponent = number.partition("e")
    return rf"${mantissa} \times 10^{{{int(exponent)}}}$" if e else number


def _in_mhchem(side: str) -> str:
    if side == "0":
        return r"$\varnothing$"
    return re.sub(r"\b([a-z]\b|\w*_\w*)", lambda name: f"${latex_symbol(name[0])}$", side)


def _side(counts: Any, species: Sequence[str]) -> str:
    return side_text(tuple(map(int, counts)), species)


def _shown(column: Float[np.ndarray, " n"], species: Sequence[str]) -> str:
    named = zip(species, column, strict=True)
    return ", ".join(f"{name}: {value:.4g}" for name, value in named if value)
