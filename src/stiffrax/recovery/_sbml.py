"""Reaction networks in the Systems Biology Markup Language."""

from typing import Any

import numpy as np

from .._arguments import check_instance, real_numbers
from ..models import ReactionNetwork


def to_sbml(network: Any, initial_state: Any) -> str:
    """A reaction network as a model in SBML, level 3 version 2, for other tools of systems biology.

    Species have amounts in one compartment of volume one; rates are local to nothing, so that one
    name is one number: `k1, k2, ...`.

    **Arguments:**

    - `network`: a [`stiffrax.ReactionNetwork`][]; reactions that are switched off are left out.
    - `initial_state`: one number for each species.

    **Returns:** the text of the file.

    **Raises:** `ValueError` for something other than a network, or a state of the wrong length;
    `ImportError` if `python-libsbml` is not installed: `pip install 'stiffrax[petab]'`.

    ```python
    >>> import stiffrax as srx
    >>> text = srx.to_sbml(srx.ReactionNetwork(["A -> B"], rates=[2.0]), [1.0, 0.0])
    >>> text.count("<reaction ")
    1

    ```
    """
    check_instance(
        "network", network, ReactionNetwork, "a reaction network", "srx.to_reactions(model)"
    )
    amounts = real_numbers("initial_state", initial_state)
    if amounts.shape != (network.num_states,):
        raise ValueError(
            f"`initial_state` has shape {amounts.shape}; it needs ({network.num_states},), one number "
            "for each species."
        )
    libsbml = _libsbml()
    document = libsbml.SBMLDocument(3, 2)
    model = document.createModel()
    model.setId("reactions")
    compartment = model.createCompartment()
    compartment.setId("volume")
    compartment.setSize(1.0)
    compartment.setConstant(True)
    for name, amount in zip(network.species, amounts, strict=True):
        species = model.createSpecies()
        species.setId(name)
        species.setCompartment("volume")
        species.setInitialAmount(float(amount))
        species.setHasOnlySubstanceUnits(True)
        species.setBoundaryCondition(False)
        species.setConstant(False)
    kept = network.kept()
    for number, (q, change, rate) in enumerate(
        zip(kept.reactants, kept.stoichiometry, np.asarray(kept.rates), strict=True), start=1
    ):
        parameter = model.createParameter()
        parameter.setId(f"k{number}")
        parameter.setValue(float(rate))
        parameter.setConstant(True)
        reaction = model.createReaction()
        reaction.setId(f"r{number}")
        reaction.setReversible(False)
        for create, counts in (
            (reaction.createReactant, q),
            (reaction.createProduct, q + change),
        ):
            for name, count in zip(network.species, counts, strict=True):
                if count:
                    reference = create()
                    reference.setSpecies(name)
                    reference.setStoichiometry(float(count))
                    reference.setConstant(True)
        factors = [f"k{number}"]
        for name, count in zip(network.species, q, strict=True):
            factors += [name] * int(count)
        reaction.createKineticLaw().setMath(libsbml.parseL3Formula(" * ".join(factors)))
    return libsbml.writeSBMLToString(document)


def _libsbml() -> Any:
    try:
        import libsbml
    except ImportError:
        raise ImportError(
            "`to_sbml` writes by `python-libsbml`, which is not installed: `pip install "
            "'stiffrax[petab]'`."
        ) from None
    return libsbml
