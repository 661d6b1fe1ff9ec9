"""Rows of models that are sums of terms with a coefficient each."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..models import AbstractLinearModel, ReactionNetwork
from ..models._reaction_network import rate_columns
from ._numbers import to_number
from ._trace import trace


def linear_rows(model: AbstractLinearModel, states: Sequence[Any], threshold: float) -> list[Any]:
    import sympy

    coefficients = np.where(model.active, model.coefficients, 0)
    if not np.all(np.isfinite(coefficients)):
        i, j = np.argwhere(~np.isfinite(coefficients))[0]
        raise ValueError(
            f"Only finite coefficients make equations, got {coefficients[i, j]} for the term "
            f"`{model.feature_names()[j]}` in output {i + 1}: the fit has failed."
        )
    features = trace(model.features, states)
    return [
        sympy.Add(*(to_number(row[j]) * features[j] for j in np.flatnonzero(kept)))
        for row, kept in zip(coefficients, np.abs(coefficients) > threshold, strict=True)
    ]


def network_rows(network: ReactionNetwork, states: Sequence[Any], threshold: float) -> list[Any]:
    """Not by all monomials, of which a large network needs few."""
    import sympy

    rates = np.asarray(network.rates)
    if not np.all(np.isfinite(rates)):
        i = np.flatnonzero(~np.isfinite(rates))[0]
        raise ValueError(
            f"Only finite rates make equations, got {rates[i]} for `{network.reactions()[i]}`: the fit "
            "has failed."
        )
    terms: list[list[Any]] = [[] for _ in states]
    for powers, column in rate_columns(network).items():
        product = sympy.Mul(*(x**n for x, n in zip(states, powers, strict=True)))
        for i in np.flatnonzero(np.abs(column) > threshold):
            terms[i].append(to_number(column[i]) * product)
    return [sympy.Add(*row) for row in terms]
