"""Times at which formulas jump and events add to states."""

import math
from collections.abc import Iterable
from typing import Any, final

from ..data import Dose
from ._formulas import Formulas, start
from ._inputs import Inputs, condition_name, parameter_name
from ._mathml import symbol, time_symbol


@final
class KnownTimes:
    """Numbers of formulas that no estimated parameter enters."""

    def __init__(
        self, formulas: Formulas, inputs: Inputs, values: dict[str, float], estimated: set[str]
    ):
        self._formulas = formulas
        self._inputs = inputs
        self._values = values
        self._estimated = estimated

    def jumps(self, expressions: Iterable[Any], conditions: Iterable[int]) -> list[float]:
        """Times at which a condition in the expressions changes, in any of the conditions.

        **Raises:** `ValueError` where an estimated parameter moves such a time: the solution would
        be right and its derivative wrong.
        """
        import sympy
        from sympy.core.relational import Relational

        time, states = time_symbol(), set(map(symbol, self._formulas.state_names))
        found: set[float] = set()
        for relation in {r for e in expressions for r in e.atoms(Relational)}:
            difference = relation.lhs - relation.rhs
            needed = self._formulas.needed(difference)
            if time not in needed or states & needed:
                continue
            difference = sympy.expand(self._formulas.expanded(difference))
            slope = difference.diff(time)
            if slope.is_zero:
                continue  # where what stands in it jumps, conditions of its own say
            if time in sympy.expand(difference - slope * time).free_symbols | slope.free_symbols:
                raise ValueError(
                    f"The condition `{relation}` is not linear in the time, which is not read: "
                    "write it as a comparison of the time with a number."
                )
            moment = -difference.subs(time, 0) / slope
            moments = (self._known(moment, k, f"`{relation}` changes") for k in conditions)
            # In a condition in which nothing stands before the time there is none.
            found |= {float(t) for t in moments if t.is_finite}
        steps = {f for e in expressions for f in e.atoms(sympy.floor, sympy.ceiling)}
        for step in steps:
            if time in self._formulas.needed(step):
                raise ValueError(
                    f"`{step}` jumps again and again with time, which is not read: write the "
                    "times of its jumps as a `piecewise`."
                )
        return sorted(t for t in found if t > 0)

    def check_rest(self, expressions: Iterable[Any], conditions: Iterable[int]) -> None:
        """Refuses formulas of time where a steady state is wanted."""
        conditions = list(conditions)
        for expression in expressions:
            if not conditions or time_symbol() not in self._formulas.needed(expression):
                continue  # to put all definitions in takes half a minute in a large network
            expanded = self._formulas.expanded(expression)
            for condition in conditions:
                if time_symbol() in self._with_numbers(expanded, condition).free_symbols:
                    raise ValueError(
                        f"A steady state is wanted of `{expression}`, which changes with time: "
                        "give the conditions before the start values at which it does not."
                    )

    def check_sizes(self, compartments: Iterable[str], pairs: Iterable[tuple[int, int]]) -> None:
        """Refuses compartments that change their size when a steady state ends."""
        changes = {pair for pair in pairs if pair[0] != pair[1]}
        for name in compartments if changes else ():
            if name in self._formulas.states and name not in self._inputs.targets:
                continue  # it stays as it is at rest
            size = self._formulas.expanded(start(name))
            for pair in changes:
                if len({self._with_numbers(size, k) for k in pair}) > 1:
                    raise ValueError(
                        f"The compartment `{name}` has another size before the start than after "
                        "it, which is not read: concentrations or amounts would have to jump."
                    )

    def doses(self, given: Iterable[Any], runs: Iterable[tuple[str, int]]) -> list[Dose]:
        """The doses of each run, named with its condition."""
        doses: list[Dose] = []
        overwrites: dict[tuple[str, float, str], bool] = {}
        runs = list(runs)
        for one in given:
            state, symbols = one.state, (one.happens, one.when, one.amount, one.keeps, one.seen)
            happens, moment, amount, keeps, seen = map(self._formulas.expanded, symbols)
            what = f"an event that adds to `{state}`"
            for run, condition in runs:
                t = float(self._known(moment, condition, what))
                if self._known(happens, condition, what) and math.isfinite(t):
                    size = float(self._known(amount, condition, what))
                    stays = float(self._known(keeps, condition, what))
                    if not size and stays == 1:
                        continue
                    overwrite = one.overwrites or stays != 1
                    key = (run, t, state)
                    if key in overwrites and (overwrites[key] or overwrite):
                        raise ValueError(
                            f"Several events set `{state}` at time {t:g} by what it was before "
                            "them, so that one undoes the other: write one event, or set "
                            "`useValuesFromTriggerTime` to false."
                        )
                    overwrites[key] = overwrite
                    is_seen = bool(self._known(seen, condition, what))
                    doses.append(Dose(run, t, state, size, is_seen, stays))
        return doses

    def _known(self, expression: Any, condition: int, what: str) -> Any:
        moving = self._moving(condition).keys() & expression.free_symbols
        if moving:
            name = min(map(str, moving))
            raise ValueError(
                f"The time or amount of {what} depends on {name}, which is estimated; this is not "
                "read. Set `estimate` to 0 for it."
            )
        value = self._with_numbers(expression, condition)
        if value.free_symbols:
            raise ValueError(
                f"The time or amount of {what} is `{value}`, which changes in a run; this is not read."
            )
        return value

    def _moving(self, condition: int) -> dict[Any, Any]:
        estimated = {name: symbol(parameter_name(name)) for name in self._estimated}
        moving = {x: x for x in estimated.values()}
        for name, source in zip(self._inputs.targets, self._inputs.sources[condition], strict=True):
            if source >= 0 and self._inputs.parameters[source] in estimated:
                moving[symbol(condition_name(name))] = estimated[self._inputs.parameters[source]]
        return moving

    def _with_numbers(self, expression: Any, condition: int) -> Any:
        import sympy

        values = self._inputs.values(condition, self._values)
        # A product with the float zero would keep its other factors.
        numbers = {symbol(k): sympy.Float(x) if x else sympy.Integer(0) for k, x in values.items()}
        return expression.xreplace(numbers | self._moving(condition))
