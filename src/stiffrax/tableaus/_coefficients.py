"""The coefficients of a method, given as a tableau or as bare arrays."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Shaped

from ._learnable_tableau import AbstractLearnableTableau
from ._tableau import Tableau

Matrix: TypeAlias = Shaped[Array | np.ndarray, "s s"]
Vector: TypeAlias = Shaped[Array | np.ndarray, " s"]
# NumPy or JAX arrays; NumPy arrays of objects hold the numbers of any exact arithmetic.
Method: TypeAlias = Tableau | AbstractLearnableTableau | tuple[Array | np.ndarray, ...]


def coefficients(method: Method) -> tuple[Matrix, Vector, Vector]:
    """`(A, b, c)` of a method, checked to belong together."""
    if isinstance(method, Tableau):
        return method.A, method.b, method.c
    if isinstance(method, AbstractLearnableTableau):
        return method.masked_A, method.b, method.c
    shapes = [array.shape for array in method]
    s = len(method[-1])
    if shapes != [(s, s), (s,), (s,)]:
        raise ValueError(
            f"`method` was given as arrays of the shapes {shapes}; it needs `(A, b, c)` of shapes "
            "(s, s), (s,) and (s,). Write for example `(tableau.A, tableau.b, tableau.c)`."
        )
    A, b, c = method
    return A, b, c


def is_traceable(*arrays: object) -> bool:
    """Whether JAX must do the arithmetic, as one of the arrays is its own."""
    return any(isinstance(array, Array) for array in arrays)
