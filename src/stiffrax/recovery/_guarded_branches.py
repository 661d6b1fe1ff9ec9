"""Piecewise formulas whose branches can be differentiated where they are not taken."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy

# Functions with finite values and derivatives at every number.
_HARMLESS = set(
    "Abs Max Min Piecewise asinh atan ceiling erf erfc floor sigmoid sign sin cos tanh".split()
)
# These have no value at the number that is put in for the arguments of the others.
_ABOVE_ONE = {"acosh", "acoth", "acsc", "asec"}


def guard_branches(
    expressions: "Sequence[sympy.Expr]", definitions: "Sequence[tuple[sympy.Symbol, sympy.Expr]]"
) -> "tuple[list[sympy.Expr], list[tuple[sympy.Symbol, sympy.Expr]]]":
    """The same expressions and definitions, with arguments of branches that are not taken replaced.

    The derivative of a branch that is not taken is multiplied by zero, and of `k/B` at `B = 0` zero
    times infinity is NaN. So within a branch the arguments of divisions, powers, logarithms and the
    like are one half where it is not taken. A definition is guarded once, where no branch that is
    taken uses it: reverse mode adds up what its users ask of it before it goes on, and forward mode
    selects. A copy for each branch would let chains of definitions grow exponentially. Conditions
    need values but no derivatives: they see definitions as they were, and a NaN in a condition
    chooses the branch that it chose before.
    """
    if not any(e.has(*_choices()) for e in (*expressions, *(e for _, e in definitions))):
        return list(expressions), list(definitions)
    guard = _Guard(definitions)
    results = [guard.guarded(e, _always()) for e in expressions]
    parts = [guard.arguments]
    for x in reversed(guard.plain):
        if x in guard.users:
            guard.arguments = {}
            formula = guard.guarded(guard.plain[x], guard.taken(x))
            parts.append(guard.arguments | {guard.symbols[x]: formula})
    everything, same = guard.plain | guard.flags, {}
    plain = {new: x for x, new in guard.symbols.items()}
    for x, formula in (item for part in reversed(parts) for item in part.items()):
        formula = formula.xreplace(same)
        if x in plain and formula == guard.plain[plain[x]]:
            same[x] = plain[x]
        else:
            everything[x] = formula
    results = [e.xreplace(same) for e in results]
    # A definition that nothing needs any more would have zero times infinity as its derivative again.
    needed: set[Any] = set().union(*(e.free_symbols for e in results))
    for x in reversed(everything):
        if x in needed:
            needed |= everything[x].free_symbols
    return results, [(x, e) for x, e in everything.items() if x in needed]


class _Guard:
    """Guarded formulas, from the last user to the first definition.

    Flags, one where a branch is taken and zero where it is not, are definitions too.
    """

    def __init__(self, definitions: Sequence[tuple[Any, Any]]):
        self.plain: dict[Any, Any] = dict(definitions)
        self.flags: dict[Any, Any] = {}
        self.arguments: dict[Any, Any] = {}  # of the formula that is guarded now
        self.symbols: dict[Any, Any] = {}  # of definitions, guarded
        self.users: dict[Any, list[Any]] = {}  # where they are taken
        self._risky: set[Any] = set()
        self._count = 0
        self._names = {x.name for e in self.plain.values() for x in e.free_symbols | {*self.plain}}
        for x, formula in self.plain.items():
            if self._is_risky(formula):
                self._risky.add(x)

    def _is_risky(self, formula: Any) -> bool:
        import sympy

        own = any(_risky_arguments(x) for x in sympy.preorder_traversal(formula))
        return own or bool(self._risky & formula.free_symbols)

    def taken(self, x: Any) -> Any:
        """The flag of a definition, from those of its users."""
        import sympy

        users = list(dict.fromkeys(self.users[x]))
        if _always() in users or len(users) == 1:
            return _always() if _always() in users else users[0]
        return self._flag(sympy.Piecewise((1, sympy.Add(*users) > 0), (0, True)))

    def guarded(self, formula: Any, taken: Any) -> Any:
        """The formula with arguments that can be differentiated wherever it is not taken."""
        import sympy
        from sympy.logic.boolalg import Boolean

        if formula in self._risky:
            self.users.setdefault(formula, []).append(taken)
            return self.symbols.setdefault(formula, self._new())
        if not formula.args or isinstance(formula, Boolean):
            return formula
        if taken == _always() and not formula.has(*_choices()):
            used = sorted(formula.free_symbols & self._risky, key=str)
            return formula.xreplace({x: self.guarded(x, taken) for x in used})
        if isinstance(formula, sympy.Max | sympy.Min) and self._is_risky(formula):
            formula = _as_branches(formula)
        if isinstance(formula, sympy.Piecewise):
            return sympy.Piecewise(*self._branches(formula, taken))
        arguments = [self.guarded(x, taken) for x in formula.args]
        for k in _risky_arguments(formula) if taken != _always() else []:
            other = (
                sympy.Integer(2) if formula.func.__name__ in _ABOVE_ONE else sympy.Rational(1, 2)
            )
            # A symbol, for SymPy would take a power of a piecewise formula branch by branch.
            new = self._new()
            self.arguments[new] = sympy.Piecewise((arguments[k], taken > 0), (other, True))
            arguments[k] = new
        return formula.func(*arguments)

    def _branches(self, formula: Any, rest: Any) -> list[tuple[Any, Any]]:
        import sympy

        branches = []
        for value, condition in formula.args:
            if self._is_risky(value):
                own = self._flag(sympy.Piecewise((rest, condition), (0, True)))
                value = self.guarded(value, own)
            branches.append((value, condition))
            rest = self._flag(sympy.Piecewise((0, condition), (rest, True)))
        return branches

    def _flag(self, formula: Any) -> Any:
        if not formula.args:
            return formula
        new = self._new()
        self.flags[new] = formula
        return new

    def _new(self) -> Any:
        import sympy

        self._count += 1
        while f"guarded__{self._count}" in self._names:
            self._count += 1
        return sympy.Symbol(f"guarded__{self._count}")


def _always() -> Any:
    import sympy

    return sympy.Integer(1)


def _choices() -> tuple[Any, ...]:
    import sympy

    return sympy.Piecewise, sympy.Max, sympy.Min


def _as_branches(formula: Any) -> Any:
    """A maximum or minimum as a piecewise formula of two halves, NaN where an argument is."""
    import sympy

    half = len(formula.args) // 2
    a, b = formula.func(*formula.args[:half]), formula.func(*formula.args[half:])
    first, second = (a >= b, b >= a) if isinstance(formula, sympy.Max) else (a <= b, b <= a)
    return sympy.Piecewise((a, first), (b, second), (sympy.nan, True))


def _risky_arguments(node: Any) -> list[int]:
    fine = node.is_Pow and node.args[1].is_Integer and node.args[1] >= 0
    harmless = node.is_Function and node.func.__name__ in _HARMLESS
    if fine or harmless or not (node.is_Pow or node.is_Function):
        return []
    return [k for k, x in enumerate(node.args) if x.free_symbols]
