"""From a model to equations and back: SymPy, LaTeX, text, comparison with known equations."""

from ._compare import (
    Comparison as Comparison,
    ComparisonRow as ComparisonRow,
    compare as compare,
)
from ._equations import (
    SymbolicModel as SymbolicModel,
    from_sympy as from_sympy,
    to_sympy as to_sympy,
)
from ._guarded_branches import guard_branches as guard_branches
from ._jax_function import jax_function as jax_function
from ._reactions import to_mhchem as to_mhchem, to_reactions as to_reactions
from ._sbml import to_sbml as to_sbml
from ._text import from_text as from_text, to_latex as to_latex, to_text as to_text
