"""The user's own term within the wrappers that `diffeqsolve` puts around it."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
from jaxtyping import Array, PyTree

from ._private_names import WrapTerm


def unwrap_term(term: Any) -> Any:
    """The user's own term: `diffeqsolve` hides its attributes in wrappers."""
    while isinstance(term, WrapTerm):
        term = term.term
    return term


def own_methods(term: Any, *names: str) -> list[str]:
    """Which of these a subclass of `diffrax.ODETerm` has defined itself."""
    kind = type(term) if isinstance(term, diffrax.ODETerm) else diffrax.ODETerm
    return [name for name in names if getattr(kind, name) is not getattr(diffrax.ODETerm, name)]


@final
class _ClosedField(diffrax.ODETerm):
    """In place of a term that has a `vf` of its own."""

    term: diffrax.ODETerm

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return self.term.contr(t0, t1, **kwargs)


def close_terms(terms: Any, t: Array, y: PyTree[Array], args: PyTree) -> Any:
    """Traces the vector field; values it closes over become leaves, so that gradients reach them.

    A custom gradient rule sees only its arguments, while a model is often closed over.
    """
    if isinstance(terms, WrapTerm):
        return eqx.tree_at(lambda w: w.term, terms, close_terms(terms.term, t, y, args))
    if own_methods(terms, "vf"):
        return _ClosedField(eqx.filter_closure_convert(terms.vf, t, y, args), terms)
    field: Callable = eqx.filter_closure_convert(terms.vector_field, t, y, args)
    return eqx.tree_at(lambda o: o.vector_field, terms, field)
