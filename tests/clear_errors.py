"""What random input may end in."""

import re


def result_or_clear_error(function):
    """The result, or `None` after a `ValueError` that names what was given and what is needed."""
    try:
        return function()
    except ValueError as error:
        message = str(error)
        assert len(message) > 30, message
        assert re.search(r"`|\d", message), message
        return None
