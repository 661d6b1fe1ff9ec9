"""The parameter table: where each parameter starts, its scale and bounds, and what is known of it."""

import math
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from ..losses import AbstractSummand
from ..models import Parameter, bounded, fixed, positive
from ._observables import text_of

# Numbers of the table that are closer than this part of them are the same.
_ROUNDING = 1e-9
_BASES = {"lin": 0.0, "log": 1.0, "log10": math.log(10)}


def read_parameters(table: Any) -> dict[str, Any]:
    """Each parameter with its scale and bounds, by its name."""
    found = {}
    for name, row in table.iterrows():
        scale = _scale(name, row)
        value = float(row.get("nominalValue", math.nan))
        if not _is_estimated(name, row):
            if math.isnan(value):
                raise ValueError(f"Parameter `{name}` is not estimated and has no nominalValue.")
            found[str(name)] = fixed(value)
            continue
        lower, upper = _bounds(name, row, scale)
        if math.isnan(value):
            value = math.sqrt(max(lower, 0) * upper) if scale != "lin" else (lower + upper) / 2
            if not math.isfinite(value) or (scale != "lin" and value == 0):
                raise ValueError(
                    f"Parameter `{name}` is estimated, and has neither a nominalValue nor bounds to "
                    "begin between: write one of them into the parameter table."
                )
        # Text and logarithms round: what was written at a bound is read at it.
        value = _close_or(min(max(value, lower), upper), value)
        if not lower <= value <= upper:
            raise ValueError(
                f"Parameter `{name}` has the nominalValue {value:g}, outside of its bounds "
                f"{lower:g} and {upper:g}: widen them in the parameter table."
            )
        try:
            found[str(name)] = (bounded if scale == "lin" else positive)(value, lower, upper)
        except ValueError as error:
            raise ValueError(f"Parameter `{name}`: {error}") from None
    return found


def parameter_values(parameters: dict[str, Any]) -> dict[str, float]:
    """The values as numbers."""
    return {name: float(x) for name, x in paramax.unwrap(parameters).items()}


def estimated_names(table: Any) -> set[str]:
    """The names of the parameters that are estimated."""
    return {str(name) for name, row in table.iterrows() if _is_estimated(name, row)}


def _is_estimated(name: Any, row: Any) -> bool:
    given = str(row.get("estimate", 1)).strip()
    if given not in ("0", "1", "0.0", "1.0"):
        raise ValueError(f"Parameter `{name}` has the `estimate` {given!r}; it needs 0 or 1.")
    return float(given) == 1


def _scale(name: Any, row: Any) -> str:
    scale = text_of(row, "parameterScale", "lin")
    if scale not in _BASES:
        raise ValueError(f"Parameter `{name}` has the scale {scale!r}; PEtab has {list(_BASES)}.")
    return scale


def _bounds(name: Any, row: Any, scale: str) -> tuple[float, float]:
    """Those of the table, and of a uniform prior, which may be closer."""
    lower, upper = (float(row.get(key, math.nan)) for key in ("lowerBound", "upperBound"))
    lower = (-math.inf if scale == "lin" else 0.0) if math.isnan(lower) else lower
    upper = math.inf if math.isnan(upper) else upper
    kind, numbers = _prior(name, row)
    if kind in _UNIFORM and numbers:
        if kind == "parameterScaleUniform" and scale != "lin":
            numbers = [math.exp(_BASES[scale] * x) for x in numbers]
        # To rounding, these are the bounds of the table again.
        lower = _close_or(lower, max(lower, numbers[0]))
        upper = _close_or(upper, min(upper, numbers[1]))
    return lower, upper


def _close_or(same: float, value: float) -> float:
    return same if math.isclose(same, value, rel_tol=_ROUNDING) else value


def _prior(name: Any, row: Any) -> tuple[str, list[float]]:
    kind = text_of(row, "objectivePriorType", "parameterScaleUniform")
    given = row.get("objectivePriorParameters", "")
    given = "" if given != given else str(given).strip()  # an empty cell may be NaN
    if kind not in (known := [*_DENSITIES, *_UNIFORM]):
        raise ValueError(
            f"Parameter `{name}` has the objectivePriorType {kind!r}; those of PEtab are read: "
            f"{sorted(known)}."
        )
    if kind in _UNIFORM and not given:
        return kind, []  # between the bounds
    try:
        first, second = map(float, given.split(";"))
    except ValueError:
        first = second = math.nan
    if not (second > 0 if kind in _DENSITIES else second > first) or math.isnan(first):
        raise ValueError(
            f"Parameter `{name}` has the prior {kind!r}, which needs two numbers in "
            "objectivePriorParameters, as in `0;1`, a width above zero or bounds in order; given is "
            f"{given!r}."
        )
    return kind, [first, second]


_UNIFORM = ("uniform", "parameterScaleUniform")
# Whether the density is Laplace's, and of what of the parameter.
_DENSITIES = {
    "laplace": (True, "value"),
    "logLaplace": (True, "logarithm"),
    "logNormal": (False, "logarithm"),
    "normal": (False, "value"),
    "parameterScaleLaplace": (True, "scaled"),
    "parameterScaleNormal": (False, "scaled"),
}
# Of the parameter itself, so that its logarithm, where that is what is fitted, has another density.
_OF_VALUES = {"laplace", "logLaplace", "logNormal", "normal", "uniform"}


@final
class Prior(AbstractSummand):
    r"""Minus the logarithm of the prior density of the parameters, a term of the loss.

    The densities are those of PEtab, each with its constant: of the parameter, of its logarithm, or
    of the parameter on its scale. A uniform one is in the bounds, and adds nothing. Those of the
    parameter become densities of its logarithm, where that is fitted, for samplers only, in
    [`stiffrax.ParameterFit.log_density`][]: the best fit is the one that PEtab defines.

    **Attributes:**

    - `names`: the parameters.
    - `kinds`: the `objectivePriorType` of each, with the base of its scale and the location and
        scale of the density.

    ```python
    >>> import stiffrax as srx
    >>> prior = srx.petab.Prior(("k",), (("normal", 1.0, 2.0, 0.5),))
    >>> system = srx.System(lambda t, y, args: -y, parameters={"k": srx.positive(2.0)})
    >>> print(f"{prior(system, None):.4f}")  # log(0.5) + log(2 pi) / 2
    0.2258

    ```
    """

    names: tuple[str, ...] = eqx.field(static=True)
    kinds: tuple[tuple[str, float, float, float], ...] = eqx.field(static=True)

    def __call__(self, system: Any, data: Any) -> Float[Array, ""]:
        """The value for the parameters of a system; the data are not used."""
        del data
        total = jnp.asarray(0.0)
        values = paramax.unwrap(system.parameters)
        for name, (kind, base, center, width) in zip(self.names, self.kinds, strict=True):
            if kind not in _DENSITIES:
                continue
            is_laplace, what = _DENSITIES[kind]
            x = jnp.asarray(values[name])
            seen = {"value": x, "logarithm": jnp.log(x)}
            seen["scaled"] = jnp.log(x) / base if base else x
            z = (seen[what] - center) / width
            if is_laplace:
                total += jnp.abs(z) + math.log(2 * width)
            else:
                total += z**2 / 2 + math.log(width * math.sqrt(2 * math.pi))
            total += jnp.log(x) if what == "logarithm" else 0.0
        return total

    def log_volume(self, system: Any) -> Float[Array, ""]:
        """The sum of logarithms of the parameters that are fitted so and have a density themselves."""
        held = [system.parameters[name] for name in self.names]
        found = [
            x.raw
            for x, (kind, *_) in zip(held, self.kinds, strict=True)
            if isinstance(x, Parameter) and x.log and kind in _OF_VALUES
        ]
        return jnp.sum(jnp.asarray(found, float))


def read_prior(table: Any) -> Prior | None:
    """The prior of the estimated parameters; None if all are uniform on their scales."""
    names, kinds = [], []
    for name, row in table.iterrows():
        (kind, numbers), base = _prior(name, row), _BASES[_scale(name, row)]
        if _is_estimated(name, row) and (kind in _DENSITIES or kind == "uniform" and base):
            names.append(str(name))
            kinds.append((kind, base, *(numbers or (0.0, math.inf))))
    return Prior(tuple(names), tuple(kinds)) if names else None


def with_values(table: Any, values: dict[str, float]) -> Any:
    """The parameter table with other nominal values of what is estimated, within the bounds."""
    found = []
    for name, row in table.iterrows():
        value = row.get("nominalValue", math.nan)
        if _is_estimated(name, row):
            lower, upper = _bounds(name, row, _scale(name, row))
            value = min(max(values[str(name)], lower), upper)
        found.append(float(value))
    return table.assign(nominalValue=np.array(found))
