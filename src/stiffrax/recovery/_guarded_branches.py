"""Piecewise formulas whose branches can be differentiated where they are not taken."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy

# Functions with finite values and derivatives at every number.
_HARMLESS = set("Abs Max Min Piecewise asinh atan ceiling erf erfc floor sign sin cos tanh".split())
# These have no value at the number that is put in for the arguments of the others.
_ABOVE_ONE = {"acosh", "acoth", "acsc", "asec"}


def guard_branches(
    expressions: "Sequence[sympy.Expr]", definitions: "Sequence[tuple[sympy.Symbol, sympy.Expr]]"
) -> "tuple[list[sympy.Expr], list[tuple[sympy.Symbol, sympy.Expr]]]":
    """The same expressions and definitions, with arguments of branches that are not taken replaced.

    The derivative of a branch that is not taken is multiplied by zero, and of `k/B` at `B = 0` zero
    times infinity is NaN. So within a branch the arguments of divisions, powers, logarithms and the
    like are one half where it is not taken; what it takes from definitions, it takes from copies of
    them. A NaN in a condition chooses the branch that it chose before.
    """

    if not any(e.has(*_choices()) for e in (*expressions, *(e for _, e in definitions))):
        return list(expressions), list(definitions)
    guard = _Guard()
    for symbol, formula in definitions:
        guard.define(symbol, guard.guarded(formula))
    guarded = [guard.guarded(e) for e in expressions]
    # Of a definition that nothing needs any more the derivative would be zero times infinity again.
    needed = guard.needed_by(guarded)
    return guarded, [(x, e) for x, e in guard.definitions.items() if x in needed]


class _Guard:
    """The definitions so far, with those that are new, and those among them that divide or the like."""

    def __init__(self):
        self.definitions: dict[Any, Any] = {}
        self._risky: set[Any] = set()

    def define(self, symbol: Any, formula: Any) -> Any:
        self.definitions[symbol] = formula
        if self._is_risky(formula):
            self._risky.add(symbol)
        return symbol

    def _is_risky(self, formula: Any) -> bool:
        import sympy

        own = any(_risky_arguments(x) for x in sympy.preorder_traversal(formula))
        return own or bool(self._risky & formula.free_symbols)

    def needed_by(self, formulas: Sequence[Any]) -> set[Any]:
        """The symbols in the formulas, and in the definitions of these."""
        needed = set().union(*(e.free_symbols for e in formulas))
        for x in reversed(self.definitions):
            if x in needed:
                needed |= self.definitions[x].free_symbols
        return needed

    def guarded(self, formula: Any) -> Any:
        """The formula, its branches guarded, from the inside out."""
        import sympy

        if not formula.has(*_choices()):
            return formula
        if isinstance(formula, sympy.Max | sympy.Min) and self._is_risky(formula):
            formula = _as_branches(formula)
        if not isinstance(formula, sympy.Piecewise):
            return formula.func(*map(self.guarded, formula.args))
        before: list[Any] = []
        branches = []
        pairs: Any = formula.args
        for value, condition in pairs:
            taken = (sympy.Or(*before), condition)
            branches.append((self._branch(self.guarded(value), taken), self.guarded(condition)))
            before.append(condition)
        return sympy.Piecewise(*branches)

    def _branch(self, value: Any, taken: tuple[Any, Any]) -> Any:
        """A value that is used where the first condition is false and the second is true."""
        if not value.free_symbols:
            return value
        needed, copies = self.needed_by([value]) & self._risky if self._risky else set(), {}
        for x, formula in list(self.definitions.items()):
            if x in needed:
                copy = self._safe(formula.xreplace(copies), taken)
                copies[x] = self.define(self._new(), copy)
        return self._safe(value.xreplace(copies), taken)

    def _safe(self, formula: Any, taken: tuple[Any, Any]) -> Any:
        """The formula with arguments that can be differentiated wherever it is not taken."""
        import sympy
        from sympy.logic.boolalg import Boolean

        if not formula.args or isinstance(formula, Boolean):
            return formula
        formula = formula.func(*(self._safe(x, taken) for x in formula.args))
        arguments, (passed, condition) = list(formula.args), taken
        for k in _risky_arguments(formula):
            other = (
                sympy.Integer(2) if formula.func.__name__ in _ABOVE_ONE else sympy.Rational(1, 2)
            )
            chosen = sympy.Piecewise((other, passed), (arguments[k], condition), (other, True))
            # A symbol, for SymPy would take a power of a piecewise formula branch by branch.
            arguments[k] = self.define(self._new(), chosen)
        return formula.func(*arguments)

    def _new(self) -> Any:
        import sympy

        return sympy.Symbol(f"guarded__{len(self.definitions)}")


def _choices() -> tuple[Any, ...]:
    import sympy

    return sympy.Piecewise, sympy.Max, sympy.Min


def _as_branches(formula: Any) -> Any:
    """A maximum or minimum as a piecewise formula, NaN where one of its arguments is."""
    import sympy

    larger = isinstance(formula, sympy.Max)
    found, *rest = formula.args
    for x in rest:
        first, second = (found >= x, x >= found) if larger else (found <= x, x <= found)
        found = sympy.Piecewise((found, first), (x, second), (sympy.nan, True))
    return found


def _risky_arguments(node: Any) -> list[int]:
    """The arguments by which a node can have an infinite value or derivative."""
    fine = node.is_Pow and node.args[1].is_Integer and node.args[1] >= 0
    harmless = node.is_Function and node.func.__name__ in _HARMLESS
    if fine or harmless or not (node.is_Pow or node.is_Function):
        return []
    return [k for k, x in enumerate(node.args) if x.free_symbols]
