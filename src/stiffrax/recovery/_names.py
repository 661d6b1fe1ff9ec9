"""Names of states in equations."""

from collections.abc import Sequence

from ..data._names import check_names

TIME = "t"


def state_names(names: Sequence[str] | None, num_states: int) -> tuple[str, ...]:
    """The names as a tuple, by default `y1 ... yn`, if each can stand in an equation."""
    if names is None:
        return tuple(f"y{i + 1}" for i in range(num_states))
    checked = check_names("`names`", names, num_states)
    for name, meaning in ((TIME, "the time"), ("pi", "the number pi")):
        if name in checked:
            raise ValueError(
                f"`names` holds {name!r}, which is {meaning} in an equation: rename that state, "
                f"for example to '{name}_1'."
            )
    return checked
