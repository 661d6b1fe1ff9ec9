"""From a model to equations and back: SymPy, LaTeX, text, comparison with known equations."""

from ._compare import (
    Comparison as Comparison,
    ComparisonRow as ComparisonRow,
    compare as compare,
)
from ._from_sympy import SymbolicModel as SymbolicModel, from_sympy as from_sympy
from ._from_text import from_text as from_text
from ._to_latex import to_latex as to_latex
from ._to_sympy import to_sympy as to_sympy
from ._to_text import to_text as to_text
