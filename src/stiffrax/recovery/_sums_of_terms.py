"""Rows of models that are sums of terms with a coefficient each."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..models import AbstractLinearModel, Library, ReactionNetwork
from ..models._checks import check_single
from ..models._reaction_network import rate_columns
from ._numbers import to_number
from ._trace import trace


def linear_rows(model: AbstractLinearModel, states: Sequence[Any], threshold: float) -> list[Any]:
    import sympy

    coefficients = finite_coefficients(model)
    kept: Any = np.abs(coefficients) > threshold
    if isinstance(model, Library):
        # What no term uses need not have a formula.
        used = zip(model.functions, kept.any(axis=0), strict=True)
        functions = tuple(f if is_used else lambda _: jnp.zeros(()) for f, is_used in used)
        model = eqx.tree_at(lambda one: one.functions, model, functions)
    features = trace(model.features, states)
    return [
        sympy.Add(*(to_number(row[j]) * features[j] for j in np.flatnonzero(on)))
        for row, on in zip(coefficients, kept, strict=True)
    ]


def finite_coefficients(model: AbstractLinearModel) -> np.ndarray:
    """The coefficients, zero where they are switched off."""
    coefficients = np.where(model.active, check_single(model.coefficients, 2), 0)
    if not np.all(np.isfinite(coefficients)):
        i, j = np.argwhere(~np.isfinite(coefficients))[0]
        raise ValueError(
            f"Only finite coefficients make equations, got {coefficients[i, j]} for the term "
            f"`{model.feature_names()[j]}` in output {i + 1}: the fit has failed."
        )
    return coefficients


def finite_rates(network: ReactionNetwork) -> np.ndarray:
    """The rates of the reactions."""
    rates = np.asarray(check_single(network.rates, 1))
    if not np.all(np.isfinite(rates)):
        i = np.flatnonzero(~np.isfinite(rates))[0]
        raise ValueError(
            f"Only finite rates make equations, got {rates[i]} for `{network.reactions()[i]}`: the fit "
            "has failed."
        )
    return rates


def network_rows(network: ReactionNetwork, states: Sequence[Any], threshold: float) -> list[Any]:
    """Not by all monomials, of which a large network needs few."""
    import sympy

    finite_rates(network)
    terms: list[list[Any]] = [[] for _ in states]
    for powers, column in rate_columns(network).items():
        product = sympy.Mul(*(x**n for x, n in zip(states, powers, strict=True)))
        for i in np.flatnonzero(np.abs(column) > threshold):
            terms[i].append(to_number(column[i]) * product)
    return [sympy.Add(*row) for row in terms]
