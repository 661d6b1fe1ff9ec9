"""The user's own term within the wrappers that `diffeqsolve` puts around it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, PyTree

from ._private_names import WrapTerm


def unwrap_term(term: Any) -> Any:
    """The user's own term: `diffeqsolve` hides its attributes in wrappers."""
    while isinstance(term, WrapTerm):
        term = term.term
    return term


def close_terms(terms: Any, t: Array, y: PyTree[Array], args: PyTree) -> Any:
    """Traces the vector field; values it closes over become leaves, so that gradients reach them.

    A custom gradient rule sees only its arguments, while a model is often closed over.
    """

    def replaced(term: Any, field: Callable) -> Any:
        if isinstance(term, WrapTerm):
            return eqx.tree_at(lambda w: w.term, term, replaced(term.term, field))
        return eqx.tree_at(lambda o: o.vector_field, term, field)

    field = unwrap_term(terms).vector_field
    return replaced(terms, eqx.filter_closure_convert(field, t, y, args))
