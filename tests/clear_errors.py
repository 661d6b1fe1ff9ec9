"""What random input may end in."""

import re

from hypothesis import strategies as st


def result_or_clear_error(function):
    """The result, or `None` after a `ValueError` that names what was given and what is needed."""
    try:
        return function()
    except ValueError as error:
        message = str(error)
        assert len(message) > 30, message
        assert re.search(r"`|\d", message), message
        return None


@st.composite
def at_most_one_flaw(draw, **values):
    """One value for each name: the first, but for one name at most.

    Spoiled one by one independently, hardly any input would be good, and nobody would see whether
    results are right.
    """
    chosen = {name: of_name[0] for name, of_name in values.items()}
    flaw = draw(st.sampled_from([None, *sorted(values)]))
    seed = draw(st.integers(0, 9))
    flaw = None if seed < 4 else flaw
    if flaw is not None:
        chosen[flaw] = draw(st.sampled_from(values[flaw][1:]))
    return chosen
