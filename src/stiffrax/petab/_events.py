"""Events of SBML at times that are known: doses, and values that change."""

from typing import Any

from ._mathml import piecewise, read_formula, symbol, time_symbol


def read_events(
    model: Any, states: set[str], values: dict[str, Any], rules: dict[str, Any]
) -> tuple[tuple[Any, Any, str, Any], ...]:
    """Doses to states; what an event sets becomes a rule in `rules`, a function of time.

    An event is triggered where the first of these, a condition of constants, is true.

    **Raises:** `ValueError` for events that states trigger, and for other changes of states.
    """
    import sympy

    doses: list[tuple[Any, Any, str, Any]] = []
    changes: dict[str, list[tuple[Any, Any, Any]]] = {}
    for number, event in enumerate(model.getListOfEvents(), 1):
        label = event.getId() or str(number)
        happens, when = _times(event, label)
        if happens == sympy.false:
            continue  # true at the start, it triggers nothing
        for assignment in event.getListOfEventAssignments():
            target, value = assignment.getVariable(), read_formula(assignment.getMath())
            if target not in states:
                changes.setdefault(target, []).append((happens, when, value))
                continue
            added = sympy.expand(value - symbol(target))
            if symbol(target) in added.free_symbols:
                raise ValueError(
                    f"Event `{label}` sets `{target}` to `{value}`; of events that change a state "
                    f"those are read that add to it, as in `{target} + 5`."
                )
            doses.append((happens, when, target, added))
    varies = {time_symbol(), *map(symbol, {*states, *rules, *changes})}
    for target, given in changes.items():
        unknown = {x for _, _, e in given for x in e.free_symbols} & varies - {symbol(target)}
        if unknown:
            raise ValueError(
                f"An event sets `{target}` to a formula of `{min(map(str, unknown))}`, which "
                "changes; a formula of constants is read."
            )
        _set_at_times(target, given, values, rules)
    return tuple(doses)


def _times(event: Any, label: str) -> tuple[Any, Any]:
    """Whether the event is triggered after the start, and when it happens."""
    import sympy

    trigger: Any = read_formula(event.getTrigger() and event.getTrigger().getMath())
    time = time_symbol()
    slope: Any = sympy.Integer(0)
    difference: Any = slope
    if isinstance(trigger, sympy.Ge | sympy.Gt | sympy.Le | sympy.Lt):
        greater: Any = trigger.gts
        difference = greater - trigger.lts  # rises through zero when it triggers
        slope = difference.diff(time)
    if not (slope.is_number and slope.is_positive):
        raise ValueError(
            f"Event `{label}` is triggered by `{trigger}`, which is not read: of events those at "
            "known times are, with a trigger such as `time >= 5`."
        )
    when = sympy.expand(-difference.subs(time, 0) / slope)
    # `time > 0` is false at the start and true right after it, which `time >= 0` is at the start.
    happens = when >= 0 if isinstance(trigger, sympy.Gt | sympy.Lt) else when > 0
    if event.getLevel() > 2 and not event.getTrigger().getInitialValue():
        if happens != sympy.true:
            raise ValueError(
                f"Event `{label}` may happen at the start, for its trigger begins as false: set "
                "initial values instead."
            )
    delay = read_formula(event.getDelay().getMath()) if event.isSetDelay() else 0
    return happens, when + delay


def _set_at_times(
    target: str, given: list[tuple[Any, Any, Any]], values: dict[str, Any], rules: dict[str, Any]
) -> None:
    """The value as a function of time, from what events set it to."""
    import sympy

    if len(given) > 1 and not all(when.is_number for _, when, _ in given):
        raise ValueError(
            f"Several events set `{target}`, at times that are not numbers: give numbers."
        )
    given = sorted(given, key=lambda change: float(change[1]) if len(given) > 1 else 0.0)
    value: Any = symbol(initial_name(target))
    values[value.name] = values.pop(target)
    cases: list[Any] = []
    for happens, when, formula in given:
        cases += [value, sympy.Or(time_symbol() < when, sympy.Not(happens))]
        value = formula.xreplace({symbol(target): value})
    rules[target] = piecewise(*cases, value)


def initial_name(target: str) -> str:
    """What formulas call the value that events change, before they do."""
    return f"({target} before events)"
