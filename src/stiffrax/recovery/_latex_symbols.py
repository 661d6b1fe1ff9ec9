"""Names of states as symbols in LaTeX."""

import re

_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa mu nu xi rho sigma tau upsilon phi chi "
    "psi omega"
).split()


def latex_symbol(name: str) -> str:
    """A symbol that no other name has; SymPy takes parts of names for accents and Greek letters."""
    found = re.fullmatch(r"([^_]*?)(\d*)", name)
    stem, digits = found.groups() if found else (name, "")
    if stem in _GREEK:
        stem = f"\\{stem}"
    elif len(stem) != 1 or stem == "_":
        stem = "\\mathrm{" + stem.replace("_", r"\_") + "}"
    return f"{stem}_{{{digits}}}" if digits else stem
