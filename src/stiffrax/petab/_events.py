"""Events of SBML at times that are known: doses, and values that change."""

from typing import Any, NamedTuple, final

from ._mathml import piecewise, read_formula, read_number, symbol, time_symbol


@final
class Addition(NamedTuple):
    """What an event adds to a state, or to the part of it that it `keeps`.

    **Attributes:**

    - `happens`: whether it is triggered after the start; `when` it is executed.
    - `seen`: whether at that time it has happened, as after `time >= 5`; not after `time > 5`
        without a delay. A condition of the delay where that is a symbol.
    - `overwrites`: whether it sets the state by what it was when the event was triggered, so that
        another event at the same time has no effect, or it has none.
    """

    happens: Any
    when: Any
    state: str
    amount: Any
    keeps: Any
    seen: Any
    overwrites: bool


@final
class _Moment(NamedTuple):
    happens: Any
    trigger: Any
    when: Any
    seen: Any
    early: bool  # values are those at the trigger time


def read_events(
    model: Any, states: set[str], values: dict[str, Any], rules: dict[str, Any]
) -> tuple[Addition, ...]:
    """Additions to states; what an event sets becomes a rule in `rules`, a function of time."""
    import sympy

    doses: list[Addition] = []
    changes: dict[str, list[tuple[_Moment, Any]]] = {}
    moments: dict[str, _Moment] = {}
    for number, event in enumerate(model.getListOfEvents(), 1):
        label = event.getId() or str(number)
        moment = _moment(event, label)
        if moment.happens == sympy.false:
            continue  # true at the start, it triggers nothing
        moments[label] = moment
        for assignment in event.getListOfEventAssignments():
            target, value = assignment.getVariable(), read_number(assignment.getMath())
            if target not in states:
                changes.setdefault(target, []).append((moment, value))
                continue
            value = sympy.expand(value)
            keeps = value.coeff(symbol(target))
            added = sympy.expand(value - keeps * symbol(target))
            if symbol(target) in added.free_symbols | keeps.free_symbols:
                raise ValueError(
                    f"Event `{label}` sets `{target}` to `{value}`; of events that change a state "
                    f"those are read that set, scale or add to it, as in `0.5*{target} + 5`."
                )
            if moment.early and moment.when != moment.trigger and not keeps.is_zero:
                raise ValueError(
                    f"Event `{label}` sets `{target}` after a delay by what it was before it, which "
                    "is not read: set `useValuesFromTriggerTime` to false, or write the delay into "
                    "the trigger."
                )
            happens, when, seen, early = moment.happens, moment.when, moment.seen, moment.early
            doses.append(Addition(happens, when, target, added, keeps, seen, early))
    # Where a compartment changes, a concentration does, also of what does not react.
    sized = (x for x in model.getListOfSpecies() if not x.getHasOnlySubstanceUnits())
    sizes = {x.getId(): symbol(x.getCompartment()) for x in sized}
    varies = _what_varies({*states, *changes}, sizes | rules)
    for label, moment in moments.items():
        if unknown := (moment.happens.free_symbols | moment.when.free_symbols) & varies:
            raise ValueError(
                f"Event `{label}` happens at a time that depends on `{min(map(str, unknown))}`, "
                "which changes; of events those at known times are read, with a trigger such as "
                "`time >= 5`."
            )
    for target, given in changes.items():
        unknown = {x for _, e in given for x in e.free_symbols} & varies - {symbol(target)}
        if unknown:
            raise ValueError(
                f"An event sets `{target}` to a formula of `{min(map(str, unknown))}`, which "
                "changes; a formula of constants is read."
            )
        _set_at_times(target, given, values, rules)
    return tuple(doses)


def _what_varies(names: set[str], rules: dict[str, Any]) -> set[Any]:
    """Symbols that change with time: those named, and rules in which time or one of them stands."""
    varies = {time_symbol(), *map(symbol, names)}
    waiting = dict(rules)
    while found := [name for name, formula in waiting.items() if formula.free_symbols & varies]:
        varies |= {symbol(name) for name in found}
        for name in found:
            del waiting[name]
    return varies


def _moment(event: Any, label: str) -> _Moment:
    import sympy

    trigger: Any = read_formula(event.getTrigger() and event.getTrigger().getMath())
    begins, ends = [], []
    for part in trigger.args if isinstance(trigger, sympy.And) else [trigger]:
        at, rises = _crossing(part)
        (begins if rises else ends).append((part, at))
    if len(begins) != 1 or None in [at for _, at in ends] or ends and event.isSetDelay():
        raise ValueError(
            f"Event `{label}` is triggered by `{trigger}`, which is not read: of events those at "
            "known times are, with a trigger such as `time >= 5`, or without a delay `time >= 5 && "
            "time < 6`."
        )
    ((begin, when),) = begins
    # `time > 0` is false at the start and true right after it, which `time >= 0` is at the start.
    is_strict = isinstance(begin, sympy.Gt | sympy.Lt)
    happens = when >= 0 if is_strict else when > 0
    for end, last in ends:
        both_hold = not is_strict and isinstance(end, sympy.Ge | sympy.Le)
        happens = sympy.And(happens, when <= last if both_hold else when < last)
    if event.getLevel() > 2 and not event.getTrigger().getInitialValue():
        if happens != sympy.true:
            raise ValueError(
                f"Event `{label}` may happen at the start, for its trigger begins as false: set "
                "initial values instead."
            )
    delay = read_number(event.getDelay().getMath()) if event.isSetDelay() else sympy.Integer(0)
    # To SymPy the float zero is none, and added to an integer makes another number of it.
    delay = sympy.Integer(0) if delay.is_zero else delay
    seen = sympy.Ne(delay, 0) if is_strict else sympy.true
    return _Moment(happens, when, when + delay, seen, event.getUseValuesFromTriggerTime())


def _crossing(relation: Any) -> tuple[Any, bool]:
    """The time at which a comparison changes, and whether it becomes true there; `None` if unknown."""
    import sympy

    if not isinstance(relation, sympy.Ge | sympy.Gt | sympy.Le | sympy.Lt):
        return None, False
    greater: Any = relation.gts
    difference: Any = greater - relation.lts
    time = time_symbol()
    slope: Any = difference.diff(time)
    if not slope.is_number or slope.is_zero:
        return None, False
    return sympy.expand(-difference.subs(time, 0) / slope), bool(slope.is_positive)


def _set_at_times(
    target: str, given: list[tuple[_Moment, Any]], values: dict[str, Any], rules: dict[str, Any]
) -> None:
    import sympy

    if len(given) > 1:
        if not all(x.is_number for one, _ in given for x in (one.trigger, one.when)):
            raise ValueError(
                f"Several events set `{target}`, at times that are not numbers: give numbers."
            )
        given = sorted(given, key=lambda change: float(change[0].when))
        _check_order(target, given)
    # Where the file gives no value, a table may.
    value: Any = symbol(initial_name(target))
    values[value.name] = values.pop(target, sympy.nan)
    cases: list[Any] = []
    for moment, formula in given:
        at = sympy.And(sympy.Not(moment.seen), time_symbol() <= moment.when)
        before = sympy.Or(time_symbol() < moment.when, at)
        cases += [value, before]
        # One that does not happen leaves the value to those after it.
        formula = formula.xreplace({symbol(target): value})
        value = piecewise(value, sympy.Not(moment.happens), formula)
    rules[target] = piecewise(*cases, value)


def _check_order(target: str, given: list[tuple[_Moment, Any]]) -> None:
    """Refuses events of which the order is open, or one takes a value from before another."""
    for k, (one, formula) in enumerate(given):
        for other, _ in given[:k]:
            if float(one.when) == float(other.when):
                raise ValueError(
                    f"Several events set `{target}` at time {float(one.when):g}, and the order "
                    "decides; priorities are not read. Write one event."
                )
            between = float(other.when) >= float(one.trigger)
            if one.early and symbol(target) in formula.free_symbols and between:
                raise ValueError(
                    f"An event sets `{target}` at time {float(one.when):g} by what it was at the "
                    f"trigger time, and another one at {float(other.when):g} changes it in between, "
                    "which is not read: set `useValuesFromTriggerTime` to false, or write the value "
                    "as a number."
                )


def initial_name(target: str) -> str:
    """What formulas call the value that events change, before they do."""
    return f"({target} before events)"
