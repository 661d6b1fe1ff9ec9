"""Rows of equations: sums of terms with a coefficient each, and constraints, `Eq(0, g)`.

Also the field of a measured system, and what stands for its conditions.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import paramax

from .._arguments import check_instance
from ..data import Conditions
from ..models import AbstractLinearModel, Library, ReactionNetwork, System
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


def kept_network(network: Any) -> tuple[ReactionNetwork, np.ndarray]:
    """The reactions that are not switched off, and their rates."""
    network = paramax.unwrap(network)
    check_instance(
        "network", network, ReactionNetwork, "a reaction network", "srx.to_reactions(model)"
    )
    return network.kept(), finite_rates(network.kept())


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


def constraint(formula: Any) -> Any:
    """The row `0 = formula`."""
    import sympy

    return sympy.Eq(0, formula, evaluate=False)


def is_constraint(row: Any) -> bool:
    """Whether a row reads `0 = g`."""
    import sympy

    return isinstance(row, sympy.Eq) and row.lhs == 0


def map_rows(function: Callable[[Any], Any], rows: Iterable[Any]) -> tuple[Any, ...]:
    """The rows with `function` applied to their formulas."""
    return tuple(
        constraint(function(row.rhs)) if is_constraint(row) else function(row) for row in rows
    )


def refuse_constraints(rows: Sequence[Any], states: Sequence[str]) -> None:
    """Raises `ValueError` if a row is a constraint."""
    for state, row in zip(states, rows, strict=True):
        if is_constraint(row):
            raise ValueError(
                f"The row of {state!r} is a constraint, `0 = {row.rhs}`, and no rate of change. "
                "Differential equations alone are compared and made a vector field; `to_text` and "
                "`to_latex` write both."
            )


@final
class _NoRun:
    def __init__(self, parameters: Any):
        self.parameters = parameters

    def __getitem__(self, name: str) -> Any:
        if isinstance(self.parameters, dict) and name in self.parameters:
            return self.parameters[name]
        raise ValueError(_without(f"args[{name!r}]"))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(_without(f"args.{name}"))


def _without(what: str) -> str:
    return (
        f"The functions of the system read `{what}`, and no `args` were given. Write "
        "`srx.to_sympy(system, args=fit.conditions('a'))` with the name of a run."
    )


def field_of(system: System, args: Any) -> tuple[Any, Any]:
    """The vector field of a system, its parameters unwrapped, and the `args` that it takes."""
    if system.mass is not None:
        raise ValueError(
            "The system has a mass matrix: its field is no rate of change of the states. Give "
            "`system.field` for the right-hand sides."
        )
    if isinstance(args, Conditions) and args.parameters is None:
        # As data have them, which know of no system.
        args = dataclasses.replace(args, parameters=system.parameters)
    return system.field, _NoRun(system.parameters) if args is None else args
