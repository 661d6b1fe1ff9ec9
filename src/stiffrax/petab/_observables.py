"""Columns of measurements: observables with their parameters and their noise."""

import keyword
import math
import re
from typing import Any, NamedTuple, final

from ..losses import AbstractNoise, LaplaceNoise, LogNormalNoise, NormalNoise
from ._mathml import load_package, symbol, time_symbol


@final
class Column(NamedTuple):
    """One observable with one choice of its parameters.

    **Attributes:**

    - `name`: the observable, with its parameters where these differ between measurements.
    - `formula`: what is measured; `spread`: the standard deviation as the noise takes it, or None
        where each measurement has its own number.
    """

    name: str
    formula: Any
    spread: Any
    noise: AbstractNoise


@final
class Row(NamedTuple):
    """What one measurement belongs to: its column, and its own standard deviation, or NaN."""

    column: int
    sd: float
    on_logarithms: bool


def read_columns(
    observables: Any, measurements: Any, known: set[str]
) -> tuple[list[Column], list[Row]]:
    """The columns of all measurements, and the place of each."""
    definitions = {name: _definition(name, row, known) for name, row in observables.iterrows()}
    found: dict[tuple[Any, ...], tuple[Any, Any]] = {}
    places = []
    for _, row in measurements.iterrows():
        name = row["observableId"]
        if name not in definitions:
            raise ValueError(f"A measurement is of `{name}`, which is no observable.")
        formula, spread, _ = definitions[name]
        own = _overrides(row, "observableParameters", f"observableParameter{{}}_{name}")
        noise = _overrides(row, "noiseParameters", f"noiseParameter{{}}_{name}")
        unread = {*own, *noise} - formula.free_symbols - spread.free_symbols
        if unread:
            raise ValueError(
                f"A measurement gives `{min(map(str, unread))}` a value, which the formulas of the "
                "observable do not have: leave it out of the measurement table, or write it into a "
                "formula."
            )
        spread = spread.xreplace(noise).xreplace(own)
        number = float(spread) if spread.is_number else math.nan
        key = (name, tuple(own.values()), None if spread.is_number else tuple(noise.values()))
        if key not in found:
            found[key] = (formula.xreplace(own), None if spread.is_number else spread)
        places.append((key, number))
    keys = list(found)
    columns = [
        Column(label, *found[key], definitions[key[0]][2])
        for label, key in zip(_labels(keys), keys, strict=True)
    ]
    return columns, [
        Row(keys.index(key), sd, definitions[key[0]][2].on_logarithms) for key, sd in places
    ]


def _definition(name: Any, row: Any, known: set[str]) -> tuple[Any, Any, AbstractNoise]:
    import sympy

    formula = read_petab_formula(row["observableFormula"], known)
    spread = read_petab_formula(row["noiseFormula"], known)
    # The noise of an observable may be relative to it.
    spread = spread.xreplace({symbol(str(name)): formula} if name not in known else {})
    scale = text_of(row, "observableTransformation", "lin")
    kind = text_of(row, "noiseDistribution", "normal")
    noises = {
        ("lin", "normal"): (NormalNoise(), 1),
        ("log", "normal"): (LogNormalNoise(), 1),
        ("log10", "normal"): (LogNormalNoise(), sympy.Float(math.log(10))),
        # PEtab gives the scale of a Laplace distribution.
        ("lin", "laplace"): (LaplaceNoise(), sympy.Float(math.sqrt(2))),
    }
    if (scale, kind) not in noises:
        raise ValueError(
            f"Observable `{name}` has the noise distribution {kind!r} on the scale {scale!r}; "
            "normal noise is read on the scales lin, log and log10, Laplace noise on lin."
        )
    noise, factor = noises[scale, kind]
    return formula, spread * factor, noise


def text_of(row: Any, column: str, default: str) -> str:
    """What a cell says, or what it means where it is empty or not there."""
    value = row.get(column, default)
    return value.strip() if isinstance(value, str) and value.strip() else default


def read_petab_formula(formula: Any, known: set[str]) -> Any:
    """A formula of PEtab's tables as a SymPy expression."""
    expression = load_package("petab.v1.math").sympify_petab(formula)
    names = {x: symbol(str(x)) for x in expression.free_symbols}
    if "time" not in known:
        names = {x: time_symbol() if y.name == "time" else y for x, y in names.items()}
    return expression.xreplace(names)


def _overrides(row: Any, column: str, placeholder: str) -> dict[Any, Any]:
    import sympy

    read = load_package("petab.v1.measurements").split_parameter_replacement_list
    given = read(row.get(column))
    values = [symbol(x.strip()) if isinstance(x, str) else sympy.Float(x) for x in given]
    return {symbol(placeholder.format(k)): x for k, x in enumerate(values, 1)}


def _labels(keys: list[tuple[Any, ...]]) -> list[str]:
    """A name for each column: the observable, with its parameters where there are several."""
    observables = [key[0] for key in keys]
    names: list[str] = []
    for name, own, noise in keys:
        if observables.count(name) > 1:
            own = (f"{float(x):g}" if x.is_number else str(x) for x in (*own, *(noise or ())))
            name = re.sub(r"\W+", "_", "_".join((name, *own)))
        while name in names or keyword.iskeyword(name):
            name += "_"
        names.append(name)
    return names
