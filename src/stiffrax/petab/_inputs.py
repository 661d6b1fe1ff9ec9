"""Values of parameters and conditions, as the formulas of a run take them."""

import math
from collections.abc import Iterable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ._events import initial_name
from ._mathml import symbol
from ._sbml import SbmlModel

# The run's constant that says which condition it has. No identifier is written like it.
CONDITION = "(condition)"


@final
class Inputs(eqx.Module):
    """The table of conditions, looked up by a constant of the run.

    **Attributes:**

    - `conditions`: their names.
    - `parameters`: names of all parameters of the problem.
    - `targets`: what the conditions set.
    - `numbers`: the numbers of each condition, NaN where there is none.
    - `sources`: index of the parameter that stands in a cell of the table, -1 where none does.
    """

    conditions: tuple[str, ...] = eqx.field(static=True)
    parameters: tuple[str, ...] = eqx.field(static=True)
    targets: tuple[str, ...] = eqx.field(static=True)
    numbers: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    sources: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def names(self) -> tuple[str, ...]:
        """What formulas call the inputs."""
        own = (parameter_name(name) for name in self.parameters)
        set_ = (condition_name(name) for name in self.targets)
        whether = (given_name(name) for name in self.targets)
        return (*own, *set_, *whether)

    @property
    def _given(self) -> Bool[np.ndarray, "conditions targets"]:
        shape = len(self.numbers), len(self.targets)
        given = ~np.isnan(np.array(self.numbers)) | (np.array(self.sources) >= 0)
        return given.reshape(shape)

    def __call__(self, args: Any) -> list[Any]:
        """The values of the inputs in a run."""
        values = [jnp.asarray(args.parameters[name]) for name in self.parameters]
        condition = condition_index(args)
        numbers, sources = np.array(self.numbers), np.array(self.sources)
        if not self.targets:
            return values
        number, source = jnp.asarray(numbers)[condition], jnp.asarray(sources)[condition]
        if np.any(sources >= 0):
            of_parameters = jnp.stack(values)[jnp.maximum(source, 0)]
            number = jnp.where(source >= 0, of_parameters, number)
        given = jnp.asarray(self._given)[condition]
        return [*values, *jnp.where(given, number, 0), *given.astype(number.dtype)]

    def sets(self, names: tuple[str, ...], args: Any) -> Bool[Array, " names"]:
        """Which of the identifiers the condition sets."""
        given = dict(zip(self.targets, self._given.T, strict=True))
        table = [given.get(name, np.zeros(len(self.numbers), bool)) for name in names]
        return jnp.asarray(np.stack(table, axis=1))[condition_index(args)]

    def values(self, condition: int, parameters: dict[str, float]) -> dict[str, float]:
        """The inputs of a condition as numbers."""
        found = {parameter_name(name): parameters[name] for name in self.parameters}
        for j, name in enumerate(self.targets):
            source = self.sources[condition][j]
            number = self.numbers[condition][j]
            value = parameters[self.parameters[source]] if source >= 0 else number
            found[condition_name(name)] = value
            found[given_name(name)] = float(self._given[condition, j])
        return found

    def into(self, model: SbmlModel, runs: Iterable[tuple[int, int]]) -> SbmlModel:
        """The model with parameters and conditions in the place of its own values."""
        import sympy

        values, runs = dict(model.values), list(runs)
        for name in (*self.parameters, *self.targets):
            before = initial_name(name)
            key = before if before in values else name
            if key == name and name in model.rules and name not in model.scales:
                raise ValueError(
                    f"The tables set `{name}`, which a rule of the model gives: remove one of them."
                )
            if name in self.parameters:
                if name in model.rates:
                    raise ValueError(
                        f"The parameter table sets `{name}`, which changes with time: set its "
                        "value at the start in the condition table."
                    )
                values[key] = symbol(parameter_name(name))
            if name in self.targets:
                column = self.targets.index(name)
                own, set_ = values.get(key, sympy.nan), symbol(condition_name(name))
                self._check_empty(name, own is not sympy.nan, model, runs)
                always = bool(self._given[:, column].all())
                choice = sympy.Piecewise((set_, symbol(given_name(name)) > 0), (own, True))
                values[key] = set_ if always else choice
        return model._replace(values=values)

    def _check_empty(
        self, name: str, has_value: bool, model: SbmlModel, runs: list[tuple[int, int]]
    ) -> None:
        given, is_state = self._given[:, self.targets.index(name)], name in model.rates
        for before, during in runs:
            # What a state is at rest it stays, unless it is set again.
            missing = [k for k in ({before} if is_state else {before, during}) if not given[k]]
            if missing and not has_value:
                raise ValueError(
                    f"Condition `{self.conditions[missing[0]]}` leaves `{name}` empty, and the model "
                    "gives it no value: write it into the condition table."
                )
            if name in model.species and not is_state and given[before] and not given[during]:
                raise ValueError(
                    f"Condition `{self.conditions[during]}` leaves the species `{name}` empty after "
                    f"`{self.conditions[before]}` set it, and no reaction changes it, which is not "
                    "read: write its value into both."
                )


def condition_index(args: Any) -> Array:
    """The condition of a run, an index."""
    return jnp.asarray(args[CONDITION]).astype(int)


def parameter_name(name: str) -> str:
    """What formulas call a parameter of the problem."""
    return f"(parameter {name})"


def condition_name(name: str) -> str:
    """What formulas call the value that the condition sets."""
    return f"(condition's {name})"


def given_name(name: str) -> str:
    """What formulas call one where the condition sets a value, else zero."""
    return f"(given {name})"


def read_conditions(table: Any, parameters: tuple[str, ...]) -> Inputs:
    """From the condition table of `petab`."""
    targets = tuple(str(name) for name in table.columns if name != "conditionName")
    numbers, sources = [], []
    for condition, row in table.iterrows():
        cells = [_cell(row[name], parameters, f"{condition}, column {name}") for name in targets]
        numbers.append(tuple(number for number, _ in cells))
        sources.append(tuple(source for _, source in cells))
    conditions = tuple(str(name) for name in table.index)
    return Inputs(conditions, parameters, targets, tuple(numbers), tuple(sources))


def _cell(cell: Any, parameters: tuple[str, ...], place: str) -> tuple[float, int]:
    if isinstance(cell, str) and cell.strip() in parameters:
        return math.nan, parameters.index(cell.strip())
    try:
        return float(cell), -1
    except ValueError:
        raise ValueError(
            f"The condition table has {cell!r} in condition {place}; it needs a number, the name "
            "of a parameter of the parameter table, or nothing."
        ) from None
