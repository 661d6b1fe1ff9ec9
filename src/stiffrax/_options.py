"""Options that are chosen by name: to type checkers and editors each is one of its choices.

At run time they are strings, so that a wrong one meets the message that says what to write, also
where annotations are checked.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    Failed = Literal["zero", "nan"]
    Memory = Literal["full", "steps"]
    Recurrence = Literal["scan", "associative", "solve"]
    Start = Literal["regression", "coupled", "given"]
    InitialStates = Literal["measured", "free"]
    Criterion = Literal["held_out", "bic", "ebic", "aic", "significance"]
    Size = Literal["range", "max"]
    StateFeatures = Literal["raw", "scaled", "log"]
    JacobianKind = Literal["field", "flow"]
    MethodKind = Literal["explicit", "diagonally_implicit", "implicit"]
    Stability = Literal["A", "L"]
else:
    Failed = Memory = Recurrence = Start = InitialStates = Criterion = str
    Size = StateFeatures = JacobianKind = MethodKind = Stability = str
