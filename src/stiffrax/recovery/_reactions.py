"""Reactions of mass-action kinetics from rate equations, and reactions in LaTeX."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import paramax
from jaxtyping import Float, Int

from .._arguments import check_count, check_instance, is_between
from ..data._state_names import state_names
from ..models import Polynomial, ReactionNetwork
from ..models._polynomial import monomials
from ..models._reaction_network import side_text
from ._equations import names_for
from ._numbers import check_digits

# The most reactions with the same reactants. With five, and five species that change, there are
# 21 choose 5, 20,349, sets to try, in a second.
_MOST_PARALLEL = 5


class _Split(NamedTuple):
    """Reactions with the same reactants: products, rates, and what speaks against them."""

    size: int
    complexity: int
    misfit: float
    products: tuple[tuple[int, ...], ...]
    rates: tuple[float, ...]


def to_reactions(
    model: Any,
    species: Sequence[str] | None = None,
    *,
    products: int = 2,
    tolerance: float = 1e-2,
) -> ReactionNetwork:
    r"""The reactions of mass-action kinetics that have the rate equations of a polynomial.

    The coefficients of one product of species, a column over the equations, are what the reactions
    with these reactants make and take together:

    $$c_{\cdot q} = \sum_r k_r (p_r - q), \qquad k_r > 0$$

    The fewest reactions are taken that say the column within `tolerance`; among equally few those of
    the fewest molecules. Rate equations do not determine reactions: others of the same number may
    have the same ones. Rates are not those of the best fit any more, for what the equations had as
    several numbers is one: refit by `fit_least_squares(network, data, start="given")`, and compare
    the loss with that of the polynomial.

    **Arguments:**

    - `model`: a [`stiffrax.Polynomial`][], as [`stiffrax.prune_and_refit`][] finds it, or a model
        with `to_polynomial()`; of a network found among candidates these are the fewest reactions
        that say the same.
    - `species`: the names of the states; default those of a network, else `y1 ... yn`.
    - `products`: the largest number of molecules on the right.
    - `tolerance`: by how much the coefficients of one product of species may be missed, relative to
        the largest of them.

    **Returns:** a [`stiffrax.ReactionNetwork`][].

    **Raises:** `ValueError` for a model that is no polynomial, or a product of species of whose
    coefficients no reactions can be made, by its name.

    Cost: a non-negative least-squares problem for each set of up to five products.

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
    if hasattr(model, "to_polynomial"):
        model = model.to_polynomial()
    check_instance("model", model, Polynomial, "a polynomial", "srx.Polynomial(...)")
    species = state_names(species, model.num_states)
    check_count("products", products)
    if not is_between(0, tolerance, 1):
        raise ValueError(
            f"`tolerance={tolerance!r}` was given; it needs a number above 0 and below 1. Write "
            "`tolerance=1e-2`, or `tolerance=1e-9` for coefficients without errors."
        )
    columns = np.where(model.active, model.coefficients, 0).T
    if not np.any(columns):
        raise ValueError(
            "All coefficients of the polynomial are zero, which no reaction gives: nothing happens in "
            "it. Fit it first, or prune less."
        )
    texts, rates = [], []
    for q, column in zip(model.exponents, columns, strict=True):
        if not np.any(column):
            continue
        split = _split(q, column, products, tolerance)
        if split is None:
            raise ValueError(
                f"No reactions of {_side(q, species)} with up to {products} products, and at most "
                f"{_MOST_PARALLEL} of them, have the coefficients {_shown(column, species)}: a species "
                "can only be lost by reactions it takes part in. Drop terms, raise `products` or "
                "`tolerance`, or keep the polynomial."
            )
        for p, rate in zip(split.products, split.rates, strict=True):
            texts.append(f"{_side(q, species)} -> {_side(p, species)}")
            rates.append(rate)
    return ReactionNetwork(texts, species, rates=np.array(rates, model.coefficients.dtype))


def _split(
    q: Int[np.ndarray, " n"], column: Float[np.ndarray, " n"], products: int, tolerance: float
) -> _Split | None:
    """The fewest reactions of these reactants that say the column, if there are any."""
    from scipy.optimize import nnls

    # Entries that the tolerance allows to miss need no reaction of their own.
    changed = np.abs(column) > tolerance * np.max(np.abs(column)) / len(column)
    groups = monomials(len(q), products).exponents
    # Nothing is made by one reaction to be taken by another.
    groups = groups[~np.any((groups != q) & ~changed, axis=1) & np.any(groups != q, axis=1)]
    changes = (groups - q).T.astype(float)
    size = np.max(np.abs(column))
    for count in range(1, min(_MOST_PARALLEL, len(groups)) + 1):
        found = []
        for chosen in itertools.combinations(range(len(groups)), count):
            k, misfit = nnls(changes[:, chosen], column / size)
            if misfit <= tolerance and np.all(k > 0):
                complexity = int(np.sum(groups[list(chosen)] ** 2))
                found.append(
                    _Split(
                        count,
                        complexity,
                        round(misfit, 12),
                        tuple(tuple(map(int, groups[i])) for i in chosen),
                        tuple(float(size * x) for x in k),
                    )
                )
        if found:
            return min(found)
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
    network = paramax.unwrap(network)
    check_instance(
        "network", network, ReactionNetwork, "a reaction network", "srx.to_reactions(model)"
    )
    check_digits(digits)
    kept, lines = network.kept(), []
    for text, rate in zip(kept.reactions(), np.asarray(kept.rates), strict=True):
        left, right = (_outside(side) for side in text.split(" -> "))
        number = f"{float(rate)!r}" if digits is None else f"{float(rate):.{digits}g}"
        lines.append(rf"\ce{{{left} &->[{_in_latex(number)}] {right}}}")
    return "\\\\\n".join(lines)


def _in_latex(number: str) -> str:
    mantissa, e, exponent = number.partition("e")
    return rf"${mantissa} \times 10^{{{int(exponent)}}}$" if e else number


def _outside(side: str) -> str:
    return r"$\varnothing$" if side == "0" else side


def _side(counts: Any, species: Sequence[str]) -> str:
    return side_text(tuple(map(int, counts)), species)


def _shown(column: Float[np.ndarray, " n"], species: Sequence[str]) -> str:
    named = zip(species, column, strict=True)
    return ", ".join(f"{name}: {value:.4g}" for name, value in named if value)
