"""Reaction networks in the Systems Biology Markup Language."""

from typing import Any

import numpy as np

from .._arguments import real_numbers
from ..models import ReactionNetwork
from ._numbers import shortest
from ._rows import kept_network


def to_sbml(network: Any, initial_state: Any) -> str:
    """A reaction network as a model in SBML, level 3 version 2, for other tools of systems biology.

    Species have amounts in one compartment of volume one; rates are local to nothing, so that one
    name is one number: `k1, k2, ...`, or `k1_` where a species is named `k1`.

    **Arguments:**

    - `network`: a [`stiffrax.ReactionNetwork`][]; reactions that are switched off are left out. Its
        species may have any name of ASCII letters, digits and underscores, such as `Pi` or `time`.
    - `initial_state`: one number for each species, in the order of `network.species`.

    **Returns:** the text of the file.

    **Raises:** `ValueError` for something other than a network, one without a reaction, names that
    SBML has not, a state of the wrong length, or numbers that are not finite; `ImportError` if
    `python-libsbml` is not installed: `pip install 'stiffrax[petab]'`.

    ```python
    >>> import stiffrax as srx
    >>> text = srx.to_sbml(srx.ReactionNetwork(["A -> B"], rates=[2.0]), [1.0, 0.0])
    >>> text.count("<reaction ")
    1

    ```
    """
    network, rates = kept_network(network)
    amounts = real_numbers("initial_state", initial_state)
    if amounts.shape != (network.num_states,):
        raise ValueError(
            f"`initial_state` has shape {amounts.shape}; it needs ({network.num_states},), one number "
            "for each species."
        )
    for name in network.species:
        if not name.isascii():
            raise ValueError(
                f"The species {name!r} cannot be named so in SBML, which has ASCII letters, digits and "
                "underscores. Name it otherwise, in `srx.ReactionNetwork(reactions, species)`."
            )
    if not np.all(np.isfinite(amounts)):
        raise ValueError(f"`initial_state` is {amounts}; a model in SBML needs finite numbers.")
    libsbml = _libsbml()
    document = libsbml.SBMLDocument(3, 2)
    model = document.createModel()
    volume = _free("volume", network)
    _set(model, Id=_free("reactions", network))
    _set(model.createCompartment(), Id=volume, Size=1.0, Constant=True)
    for name, amount in zip(network.species, np.asarray(initial_state), strict=True):
        species = model.createSpecies()
        _set(species, Id=name, Compartment=volume, InitialAmount=shortest(amount), Constant=False)
        _set(species, HasOnlySubstanceUnits=True, BoundaryCondition=False)
    for number, (q, change, rate) in enumerate(
        zip(network.reactants, network.stoichiometry, rates, strict=True), start=1
    ):
        constant = _free(f"k{number}", network)
        _set(model.createParameter(), Id=constant, Value=shortest(rate), Constant=True)
        reaction = model.createReaction()
        _set(reaction, Id=_free(f"r{number}", network), Reversible=False)
        for create, counts in (
            (reaction.createReactant, q),
            (reaction.createProduct, q + change),
        ):
            for name, count in zip(network.species, counts, strict=True):
                if count:
                    _set(create(), Species=name, Stoichiometry=float(count), Constant=True)
        _set(reaction.createKineticLaw(), Math=_product([constant, *np.repeat(network.species, q)]))
    return libsbml.writeSBMLToString(document)


def _free(name: str, network: ReactionNetwork) -> str:
    """`name`, if no species has it: all that a model in SBML holds shares one set of names."""
    return _free(f"{name}_", network) if name in network.species else name


def _set(element: Any, **values: Any) -> None:
    """Sets attributes of a part of a model, `Id="A"` by `setId("A")`."""
    libsbml = _libsbml()
    for attribute, value in values.items():
        code = getattr(element, f"set{attribute}")(value)
        if code != libsbml.LIBSBML_OPERATION_SUCCESS:
            raise ValueError(
                f"libsbml refuses {value!r} as the {attribute} of a {element.getElementName()}: "
                f"{libsbml.OperationReturnValue_toString(code)}."
            )


def _product(names: list[str]) -> Any:
    # Not read from text: libsbml's parser takes a species `Pi`, `time` or `inf` for the constant.
    libsbml = _libsbml()
    product = libsbml.ASTNode(libsbml.AST_TIMES)
    for name in names:
        factor = libsbml.ASTNode(libsbml.AST_NAME)
        _set(factor, Name=str(name))
        product.addChild(factor)
    return product


def _libsbml() -> Any:
    try:
        import libsbml
    except ImportError:
        raise ImportError(
            "`to_sbml` writes by `python-libsbml`, which is not installed: `pip install "
            "'stiffrax[petab]'`."
        ) from None
    return libsbml
