"""Whether names in the tables of a problem mean something."""

import re
from typing import Any

from ._inputs import Inputs


def check_names(tables: Any, inputs: Inputs, identifiers: set[str]) -> None:
    """Refuses columns of the condition table and parameters that nothing reads.

    `identifiers`: those of the model.
    """
    observables, measured = tables.observable_df, tables.measurement_df
    texts = [observables[x] for x in ("observableFormula", "noiseFormula")]
    texts += [measured[x] for x in ("observableParameters", "noiseParameters") if x in measured]
    read = {word for text in texts for cell in text for word in re.findall(r"\w+", str(cell))}
    read |= {inputs.parameters[k] for row in inputs.sources for k in row if k >= 0} | identifiers
    for name in (*inputs.targets, *inputs.parameters):
        if name not in read:
            raise ValueError(
                f"The tables set `{name}`, which is neither in the model, nor in the formula of an "
                "observable, nor in a cell: correct the name, or leave it out."
            )
