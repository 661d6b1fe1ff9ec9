"""NumPy arrays whose elements are SymPy expressions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ._numbers import to_number


def is_symbolic(value: Any) -> bool:
    """Whether `value` is an array of expressions and not one of numbers."""
    return isinstance(value, np.ndarray) and value.dtype == object


def to_symbolic(value: Any) -> np.ndarray:
    """`value` as an array of expressions; numbers and truth values become those of SymPy."""
    import sympy

    if is_symbolic(value):
        return value
    value = np.asarray(value)
    if value.dtype == bool:
        return map_elements(lambda x: sympy.true if x else sympy.false, value)
    return map_elements(to_number, value)


def map_elements(function: Callable[..., Any], *arrays: Any) -> np.ndarray:
    """The results of `function` on the elements of the arrays, which are broadcast."""
    # Not `np.frompyfunc`: it hands out the elements as Python numbers, which no longer tell that a
    # float32 has fewer digits.
    broadcast = np.broadcast_arrays(*arrays)
    result = np.empty(broadcast[0].shape, dtype=object)
    for place in np.ndindex(result.shape):
        result[place] = function(*(array[place] for array in broadcast))
    return result
