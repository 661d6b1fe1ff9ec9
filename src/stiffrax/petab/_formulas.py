"""The formulas of a model as functions of JAX."""

import functools as ft
from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import jax.numpy as jnp

from ..recovery import jax_function
from ._events import initial_name
from ._grouped import grouped_function, plain_name
from ._mathml import symbol, time_symbol
from ._sbml import SbmlModel, amount_name

# From so many definitions on formulas of one form are evaluated together: below, the gathers cost
# more than they save. Chosen, not measured.
_MANY = 200


@final
class Formulas:
    """All identifiers of a problem by their formulas, and functions made of these.

    Every identifier `x` has a value at each time, and `start(x)` one at the start, at time zero;
    constants are what they are at the start. A state and an input are given.

    **Arguments:**

    - `model`: states, rules and values at the start, those of parameters of the problem among them.
    - `inputs`: symbols that are given besides the time and the states.
    """

    def __init__(self, model: SbmlModel, inputs: Sequence[str]):
        self.states = tuple(model.rates)
        self._rates = model.rates
        self._scales = model.scales
        self.state_names = tuple(
            amount_name(name) if name in model.scales else name for name in self.states
        )
        self._given = [time_symbol(), *map(symbol, self.state_names), *map(symbol, inputs)]
        self._definitions: dict[Any, Any] = {}
        import sympy

        identifiers = {*model.identifiers, *map(amount_name, model.scales)}
        at_start = {symbol(name): start(name) for name in identifiers} | {
            time_symbol(): sympy.Integer(0)
        }
        for name, formula in model.rules.items():
            self._definitions[symbol(name)] = formula
            if initial_name(name) in model.values:
                # Initial values are those before an event that happens right after the start.
                self._definitions[start(name)] = start(initial_name(name))
            elif name not in model.scales:
                self._definitions[start(name)] = formula.xreplace(at_start)
        for name, formula in model.values.items():
            if formula is sympy.nan:
                continue  # where a formula asks for it, it is refused
            self._definitions[start(name)] = formula.xreplace(at_start)
            if name not in {*model.rates, *model.rules}:
                self._definitions[symbol(name)] = start(name)
        for name, compartment in model.scales.items():
            self._definitions[start(amount_name(name))] = start(name) * start(compartment)

    def field(self) -> Callable[..., Any]:
        """Rates of the states, a function of time, states and inputs.

        At the time of a jump they are those after it: there a step begins.
        """
        return self.function([self._rates[name] for name in self.states], _after_jumps)

    def initial_state(self) -> Callable[..., Any]:
        """States at the start; time and states are not used."""
        return self.function([start(name) for name in self.state_names])

    def states_set(self) -> Callable[..., Any]:
        """What states are set to later, amounts by the sizes that compartments have in the state."""
        sizes = {name: symbol(compartment) for name, compartment in self._scales.items()}
        return self.function([start(name) * sizes.get(name, 1) for name in self.states])

    def function(
        self, expressions: Iterable[Any], change: Callable[[Any], Any] = lambda x: x
    ) -> Callable[..., Any]:
        """Expressions, all formulas changed, as one function of time, states and inputs."""
        expressions = list(map(change, expressions))
        given, used = self._given, self._in_order(expressions)
        definitions = {x: change(self._definitions[x]) for x in used}
        is_large = len(used) > _MANY
        varying = set(given[: 1 + len(self.states)])
        for x, formula in definitions.items():
            if not varying.isdisjoint(formula.free_symbols):
                varying.add(x)
        constants = frozenset((*given, *used)) - varying
        if is_large:
            made = grouped_function(given, definitions, expressions, constants)
        else:
            named = {x: plain_name(k, x in constants) for k, x in enumerate([*given, *used])}
            made = jax_function(
                [list(named.values())[: len(given)]],
                [expression.xreplace(named) for expression in expressions],
                [(named[x], formula.xreplace(named)) for x, formula in definitions.items()],
            )

        def function(of: Any, t: Any, y: Any, inputs: Any) -> Any:
            del of  # by which a checkpoint tells it from others
            values = [t, *y, *inputs]
            if is_large:
                return made(jnp.stack(values))
            return jnp.stack([jnp.asarray(x, float) for x in made(values)])

        return ft.partial(function, (self, expressions))

    def expanded(self, expression: Any) -> Any:
        """The expression by what is given, with all definitions put in."""
        for x in reversed(self._in_order([expression])):
            expression = expression.xreplace({x: self._definitions[x]})
        return expression

    def needed(self, expression: Any) -> set[Any]:
        """The symbols in the expression and in all definitions that it needs.

        Put in, chains of definitions would grow exponentially with their length.
        """
        used = [self._definitions[x] for x in self._in_order([expression])]
        return set().union(*(e.free_symbols for e in (expression, *used)))

    def formulas(self) -> list[Any]:
        """All formulas that are evaluated while a run is solved."""
        return [*self._rates.values(), *self._definitions.values()]

    def _in_order(self, expressions: list[Any]) -> list[Any]:
        order: list[Any] = []
        done, open_ = set(self._given), set()
        # Not recursive: chains of rules may be deeper than the stack of Python.
        stack = [(x, False) for e in reversed(expressions) for x in _symbols(e)]
        while stack:
            x, finished = stack.pop()
            if finished:
                order.append(x)
                done.add(x)
                open_.discard(x)
            elif x in open_:
                raise ValueError(f"`{x}` is defined by itself, by way of other formulas.")
            elif x not in done:
                if x not in self._definitions:
                    raise ValueError(
                        f"`{x}` has no value: it is neither in the model, nor in the parameter "
                        "or condition table, nor among the parameters of a measurement."
                    )
                open_.add(x)
                stack.append((x, True))
                needed = [y for y in _symbols(self._definitions[x]) if y not in done]
                stack.extend((y, False) for y in needed)
        return order


def start(name: str) -> Any:
    """The symbol of the value that an identifier has at the start."""
    return symbol(f"({name} at the start)")


def _after_jumps(formula: Any) -> Any:
    """The formula with comparisons of the time that have at their jump the value from after it."""
    import sympy

    swap = {}
    for relation in formula.atoms(sympy.Lt, sympy.Le, sympy.Gt, sympy.Ge):
        rise = (relation.gts - relation.lts).diff(time_symbol())
        if rise.is_number and not rise.is_zero:
            kind = sympy.Ge if rise > 0 else sympy.Gt
            swap[relation] = kind(relation.gts, relation.lts)
    return formula.xreplace(swap)


def _symbols(expression: Any) -> list[Any]:
    return sorted(expression.free_symbols, key=str, reverse=True)
