"""Problems of parameter estimation in PEtab's format."""

import dataclasses
import keyword
import os
import re
import warnings
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..data import Dose, Measurements
from ..losses import LikelihoodLoss
from ..models import SteadyState, System
from ._events import initial_name
from ._formulas import Formulas
from ._inputs import CONDITION, Inputs, read_conditions
from ._known_times import KnownTimes
from ._mathml import load_package
from ._observables import read_columns
from ._parameters import (
    Prior,
    estimated_names,
    parameter_values,
    read_parameters,
    read_prior,
    with_values,
)
from ._sbml import SbmlModel, read_sbml
from ._tables import BEFORE, ENDS, RESTS, condition_pairs, read_runs

_simulate = eqx.filter_jit(LikelihoodLoss.simulate)


@final
class Problem:
    """A problem of parameter estimation: a system, measurements and their likelihood.

    Made by [`stiffrax.petab.load`][].

    **Arguments:**

    - `system`: with the parameters of the problem, by their names, in `system.parameters`.
    - `data`: one run for each simulation condition, or pair of it with one before.
    - `likelihood`: the negative log-likelihood; `prior`: that of the parameters, or None.
    - `tables`: the problem as `petab` reads it.
    - `cells`: run, row and column in `data` of each row of the measurement table, `(rows, 3)`.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> data = srx.Measurements.from_table({"t": [0.0, 1.0], "A": [1.0, 0.4]})
    >>> system, cells = srx.System(lambda t, y, args: -y), np.array([[0, 0, 0], [0, 1, 0]])
    >>> problem = srx.petab.Problem(system, data, srx.LikelihoodLoss(), None, None, cells)
    >>> problem.loss is problem.likelihood  # without priors
    True

    ```
    """

    def __init__(
        self,
        system: System,
        data: Measurements,
        likelihood: LikelihoodLoss,
        prior: Prior | None,
        tables: Any,
        cells: np.ndarray,
    ):
        self.system = system
        self.data = data
        self.likelihood = likelihood
        self.prior = prior
        self.tables = tables
        self._cells = cells

    @property
    def loss(self) -> Any:
        """What is minimized: the negative log-likelihood, and the prior's if there is one."""
        return self.likelihood if self.prior is None else self.likelihood + self.prior

    def parameter_table(self, system: System | None = None) -> Any:
        """PEtab's parameter table with the values of a system.

        **Arguments:**

        - `system`: such as `fit.system`; the system with its nominal parameters without.

        **Returns:** a data frame; `petab.v1.write_parameter_df` writes it.
        """
        system = self.system if system is None else system
        return with_values(self.tables.parameter_df, parameter_values(system.parameters))

    def simulation_table(self, system: System | None = None) -> Any:
        """PEtab's simulation table: the measurement table with what a system predicts.

        **Arguments:**

        - `system`: as of `parameter_table`.

        **Returns:** a data frame with the column `simulation` in place of `measurement`; NaN where
        a solve failed.
        """
        system = self.system if system is None else system
        values = np.asarray(_simulate(self.likelihood, system, self.data).values)
        run, row, column = self._cells.T
        table = self.tables.measurement_df.copy()
        table["simulation"] = values[run, row, column]
        return table.drop(columns="measurement")

    def __repr__(self) -> str:
        count = len(estimated_names(self.tables.parameter_df))
        return (
            f"Problem({len(self.system.states)} states, {count} estimated parameters, {self.data})"
        )


def load(path: str | os.PathLike[str], **options: Any) -> Problem:
    """A problem in PEtab's format (version 1) with a model in SBML.

    Read are species as amounts and concentrations, compartments that change, reactions, rate and
    assignment rules, initial assignments, function definitions, piecewise formulas, events at known
    times, conditions with numbers and parameters, preequilibration, measurements of steady states,
    parameters of observables and noise, scales, bounds and priors. Everything else is refused by
    its name, never left out, but priors by which starts are drawn (`initializationPriorType`): starts
    are drawn between the bounds.

    **Arguments:**

    - `path`: the YAML file of the problem.
    - `options`: those of [`stiffrax.LikelihoodLoss`][], such as `rtol`.

    **Returns:** a [`stiffrax.petab.Problem`][].

    **Raises:** `ValueError` naming what is not read; `ImportError` without the package `petab`.

    ```python
    >>> import stiffrax as srx
    >>> srx.petab.load("problem.json")
    Traceback (most recent call last):
    ValueError: `load('problem.json')` was given; it needs the YAML file of a problem.

    ```
    """
    tables = _read(path)
    model = read_sbml(tables.model.sbml_model.getSBMLDocument())
    parameters = read_parameters(tables.parameter_df)
    inputs = read_conditions(tables.condition_df, tuple(parameters))
    _check_names(tables, inputs, model.identifiers)
    columns, rows = read_columns(tables.observable_df, tables.measurement_df, model.identifiers)
    names = [column.name for column in columns]
    data, cells = read_runs(tables.measurement_df, list(inputs.conditions), names, rows)
    model = inputs.into(model, condition_pairs(data))
    formulas = Formulas(model, inputs.names)
    estimated = estimated_names(tables.parameter_df)
    times = KnownTimes(formulas, inputs, parameter_values(parameters), estimated)
    jumps, doses = _known_times(times, formulas, model, data)
    _check_measured_at_rest(times, columns, data, cells)
    system = System(
        _Formula(inputs, formulas.field()),
        _initial_state(formulas, inputs, data),
        _Formula(inputs, formulas.function([column.formula for column in columns])),
        _spread(formulas, inputs, columns),
        states=[_python_name(name, formulas.states) for name in formulas.states],
        jump_ts=jumps,
        parameters=parameters,
    )
    noise = {column.name: column.noise for column in columns}
    return Problem(
        system,
        dataclasses.replace(data, doses=tuple(doses)),
        LikelihoodLoss(noise=noise, **options),
        read_prior(tables.parameter_df),
        tables,
        cells,
    )


# What the tables of a problem hold.
_COLUMNS = {
    "measurement_df": ("observableId", "simulationConditionId", "measurement", "time"),
    "observable_df": ("observableFormula", "noiseFormula"),
    "condition_df": (),
    "parameter_df": (),
}


def _read(path: str | os.PathLike[str]) -> Any:
    if not str(path).endswith((".yaml", ".yml")):
        raise ValueError(f"`load({str(path)!r})` was given; it needs the YAML file of a problem.")
    with warnings.catch_warnings():
        # What `petab` uses of pandas is its own affair.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return _read_tables(path)


def _read_tables(path: str | os.PathLike[str]) -> Any:
    petab = load_package("petab.v1")
    content = petab.yaml.load_yaml(str(path))
    version = str(content.get("format_version", 1))
    if version.split(".")[0] != "1":
        raise ValueError(f"The problem has PEtab's format version {version}; version 1 is read.")
    if len(content.get("problems", ())) != 1:
        raise ValueError(
            f"The file has {len(content.get('problems', ()))} problems; files with one are read."
        )
    for problem in content["problems"]:
        problem.pop("visualization_files", None)  # often not there, and of no use here
    tables = petab.Problem.from_yaml(content, base_path=os.path.dirname(path) or ".")
    if getattr(tables.model, "type_id", None) != "sbml":
        raise ValueError("The model is not in SBML; models in SBML are read.")
    for name, columns in _COLUMNS.items():
        table = getattr(tables, name)
        missing = list(columns) if table is None else [x for x in columns if x not in table]
        if table is None or missing:
            raise ValueError(
                f"The {name.removesuffix('_df')} table of the problem lacks "
                f"{', '.join(missing) or 'a file'}."
            )
        for again in table.index[table.index.duplicated()] if name != "measurement_df" else ():
            raise ValueError(
                f"The {name.removesuffix('_df')} table of the problem has two rows for {again!r}: "
                "leave one."
            )
    return tables


def _known_times(
    times: KnownTimes, formulas: Formulas, model: SbmlModel, data: Measurements
) -> tuple[list[float], list[Dose]]:
    """When formulas jump and events add to states; steady states must not depend on them."""
    import sympy

    pairs = condition_pairs(data)
    before, during = zip(*pairs, strict=True)
    jumps = times.jumps(formulas.formulas(), sorted({*during, *before}))
    doses = times.doses(model.doses, zip(data.run_names, during, strict=True))
    doses = [x._replace(state=_python_name(x.state, formulas.states)) for x in doses]
    rests = [(data.run_names[i], before[i]) for i in np.flatnonzero(data.constants[RESTS])]
    times.check_rest(model.rates.values(), sorted({k for _, k in rests}))
    for dose in times.doses(model.doses, rests):
        raise ValueError(
            f"Run `{dose.run}` has a steady state, and events add to `{dose.state}` under its "
            "condition, which is not read: let a condition before the start set what they add to "
            "zero, or give a large time in place of inf."
        )
    # Of a compartment that a rule gives there is no value, and amounts are the states.
    known = {name for name, x in model.values.items() if x is not sympy.nan}
    times.check_sizes([x for x in model.compartments if {x, initial_name(x)} & known], pairs)
    return jumps, doses


def _check_measured_at_rest(
    times: KnownTimes, columns: Any, data: Measurements, cells: np.ndarray
) -> None:
    pairs = condition_pairs(data)
    for i, j in sorted({(i, j) for i, _, j in cells.tolist()}):
        if data.constants[ENDS][i]:
            wanted = (columns[j].formula, columns[j].spread)
            times.check_rest([x for x in wanted if x is not None], [pairs[i][1]])


def _python_name(name: str, names: tuple[str, ...]) -> str:
    while keyword.iskeyword(name):
        name += "_" if f"{name}_" not in names else "__"
    return name


@final
class _Formula(eqx.Module):
    inputs: Inputs
    function: Callable[..., Any] = eqx.field(static=True)

    def __call__(self, t: Any, y: Array, args: Any) -> Array:
        return self.function(t, list(y), self.inputs(args)).astype(y.dtype)


@final
class _ByColumn(eqx.Module):
    """Standard deviations of those columns that formulas give."""

    formula: _Formula
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, t: Any, y: Array, args: Any) -> dict[str, Array]:
        return dict(zip(self.names, self.formula(t, y, args), strict=True))


def _spread(formulas: Formulas, inputs: Inputs, columns: Any) -> _ByColumn | None:
    given = [column for column in columns if column.spread is not None]
    if not given:
        return None
    function = formulas.function([column.spread for column in given])
    return _ByColumn(_Formula(inputs, function), tuple(column.name for column in given))


def _initial_state(formulas: Formulas, inputs: Inputs, data: Measurements) -> Any:
    formula = _Formula(inputs, formulas.initial_state())
    count = len(formulas.states)

    def at_start(args: Any) -> Array:
        return formula(0.0, jnp.zeros(count), args)

    if not np.any(data.constants[RESTS]):
        return at_start

    later = _Formula(inputs, formulas.states_set())

    def reset(y: Array, args: Any) -> Array:
        # A condition may set states again after the steady state; a measurement of it may not.
        again = inputs.sets(formulas.states, args) & (args[ENDS] == 0)
        y = jnp.where(again, at_start(args), y)  # sizes, by which amounts are set
        return jnp.where(again, later(0.0, y, args), y)

    return SteadyState(
        at_start,
        lambda args: args.replace(**{CONDITION: args[BEFORE]}),
        reset,
        lambda args: args[RESTS] > 0,
    )


def _check_names(tables: Any, inputs: Inputs, identifiers: set[str]) -> None:
    """Refuses columns of the condition table and parameters that nothing reads."""
    observables, measured = tables.observable_df, tables.measurement_df
    texts = [observables[x] for x in ("observableFormula", "noiseFormula")]
    texts += [measured[x] for x in ("observableParameters", "noiseParameters") if x in measured]
    read = {word for text in texts for cell in text for word in re.findall(r"\w+", str(cell))}
    read |= {inputs.parameters[k] for row in inputs.sources for k in row if k >= 0} | identifiers
    for name in (*inputs.targets, *inputs.parameters):
        if name not in read:
            raise ValueError(
                f"The tables set `{name}`, which is neither in the model, nor in the formula of an "
                "observable, nor in a cell: correct the name, or leave it out."
            )
