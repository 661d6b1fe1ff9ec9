"""A model in SBML as states, their rates, and formulas for everything else."""

from typing import Any, NamedTuple, final

from ._events import Addition, read_events
from ._mathml import load_package, read_number, symbol

# Packages of SBML that change what a model means.
_PACKAGES = ("arrays", "distrib", "dyn", "multi", "qual", "spatial")


@final
class SbmlModel(NamedTuple):
    """The equations of a model; formulas are SymPy expressions of its identifiers and the time.

    **Attributes:**

    - `rates`: of each state, by its identifier.
    - `rules`: what is given by a formula at every time: assignment rules, rates of reactions,
        concentrations of species whose compartment changes.
    - `values`: of everything else at the start: numbers and initial assignments, NaN where the file
        gives none.
    - `scales`: of a state that is an amount while its identifier means the concentration, the
        compartment; `amounts` is what the rules call the state.
    - `doses`: of events that add to a state.
    - `compartments`, `species`: identifiers of these.
    """

    rates: dict[str, Any]
    rules: dict[str, Any]
    values: dict[str, Any]
    scales: dict[str, str]
    doses: tuple[Addition, ...]
    compartments: frozenset[str]
    species: frozenset[str]

    @property
    def identifiers(self) -> set[str]:
        """All that has a value, or may have."""
        return {*self.rates, *self.rules, *self.values}


def amount_name(state: str) -> str:
    """What formulas call the amount of a species whose identifier means its concentration."""
    return f"(amount of {state})"


def read_sbml(document: Any) -> SbmlModel:
    """The model of a document of libsbml."""
    model = _prepared(document)
    values = _values(model)
    rules, rates = _rules(model)
    reacting = {s.getId() for s in model.getListOfSpecies() if _reacts(model, s)} - set(rules)
    for reaction in model.getListOfReactions():
        rules[reaction.getId()] = _rate_law(reaction)
    doses = read_events(model, {*reacting, *rates}, values, rules)
    _check_concentrations(model, rates, rules)
    values = {name: value for name, value in values.items() if name not in rules}
    # Where a compartment changes, the amount is what stays, also of a species that does not react.
    scales = {
        species.getId(): species.getCompartment()
        for species in model.getListOfSpecies()
        if species.getCompartment() in {*rates, *rules}
        and species.getId() not in {*rates, *rules}
        and not species.getHasOnlySubstanceUnits()
    }
    for species in model.getListOfSpecies():
        name = species.getId()
        if name in {*reacting, *scales} and name not in rates:
            net = f"(net rate of {name})"
            rules[net] = _net_rate(model, species)
            whole = name in scales or species.getHasOnlySubstanceUnits()
            rates[name] = symbol(net) if whole else symbol(net) / symbol(species.getCompartment())
    if not rates:
        raise ValueError(
            "The model has no state: no species that a reaction changes, and no rate rule. Give it a "
            "parameter with the rate rule 0."
        )
    for name, compartment in scales.items():
        rules[name] = symbol(amount_name(name)) / symbol(compartment)
    lists = model.getListOfCompartments(), model.getListOfSpecies()
    compartments, species = (frozenset(x.getId() for x in one) for one in lists)
    return SbmlModel(rates, rules, values, scales, doses, compartments, species)


def _check_concentrations(model: Any, rates: dict[str, Any], rules: dict[str, Any]) -> None:
    """Refuses events that set a concentration in a compartment that changes: amounts stay there."""
    of = {s.getId(): s for s in model.getListOfSpecies() if not s.getHasOnlySubstanceUnits()}
    for event in model.getListOfEvents():
        for name in (x.getVariable() for x in event.getListOfEventAssignments()):
            if name in of and name not in rates and of[name].getCompartment() in {*rates, *rules}:
                raise ValueError(
                    f"An event sets the concentration `{name}`, and its compartment "
                    f"`{of[name].getCompartment()}` changes its size, which is not read: give the "
                    "species as an amount (`hasOnlySubstanceUnits`)."
                )


def _prepared(document: Any) -> Any:
    """The model, with its functions put in and local parameters made global."""
    libsbml = load_package("libsbml")
    log, document = document.getErrorLog(), document.clone()
    model = document.getModel()
    if document.getLevel() < 2:
        raise ValueError(
            f"The model is SBML level {document.getLevel()}; levels 2 and 3 are read. Convert it, "
            "for example with COPASI."
        )
    for package in _PACKAGES:
        if document.getPlugin(package) is not None:
            raise ValueError(f"The model needs the SBML package `{package}`, which is not read.")
    parts = model.getPlugin("comp")
    if parts is not None and parts.getNumSubmodels():
        raise ValueError("The model has submodels (SBML package `comp`); flatten it first.")
    if log.getNumFailsWithSeverity(libsbml.LIBSBML_SEV_ERROR):
        # What is not valid has been read as something else, or not at all.
        raise ValueError(f"The model is not valid SBML: {log.toString().strip()}")
    for rule in model.getListOfRules():
        if rule.isAlgebraic():
            raise ValueError(
                "The model has an algebraic rule, which is not read: write it as an assignment "
                "rule, solved for its variable."
            )
    for option in ("expandFunctionDefinitions", "promoteLocalParameters"):
        properties = libsbml.ConversionProperties()
        properties.addOption(option, True)
        if document.convert(properties) != libsbml.LIBSBML_OPERATION_SUCCESS:
            raise ValueError(f"The model cannot be read: libsbml's `{option}` fails.")
    return document.getModel()


def _values(model: Any) -> dict[str, Any]:
    import sympy

    lists = model.getListOfParameters(), model.getListOfCompartments(), model.getListOfSpecies()
    values: dict[str, Any] = {x.getId(): sympy.nan for one in lists for x in one}
    for parameter in model.getListOfParameters():
        if parameter.isSetValue():
            values[parameter.getId()] = sympy.Float(parameter.getValue())
    for compartment in model.getListOfCompartments():
        # Without dimensions a compartment has no size, and concentrations are amounts.
        dimensionless = compartment.getSpatialDimensionsAsDouble() == 0
        if compartment.isSetSize() or dimensionless or model.getLevel() == 2:
            size = compartment.getSize() if compartment.isSetSize() else 1.0
            values[compartment.getId()] = sympy.Float(size)
    for species in model.getListOfSpecies():
        size, amount_wanted = symbol(species.getCompartment()), species.getHasOnlySubstanceUnits()
        if species.isSetInitialAmount():
            amount = sympy.Float(species.getInitialAmount())
            values[species.getId()] = amount if amount_wanted else amount / size
        elif species.isSetInitialConcentration():
            value = sympy.Float(species.getInitialConcentration())
            values[species.getId()] = value * size if amount_wanted else value
    for reaction in model.getListOfReactions():
        for reference in (*reaction.getListOfReactants(), *reaction.getListOfProducts()):
            if model.getLevel() > 2 and reference.isSetId() and reference.isSetStoichiometry():
                values[reference.getId()] = sympy.Float(reference.getStoichiometry())
    for assignment in model.getListOfInitialAssignments():
        values[assignment.getSymbol()] = read_number(assignment.getMath())
    return values


def _rules(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    rules, rates = {}, {}
    for rule in model.getListOfRules():
        (rates if rule.isRate() else rules)[rule.getVariable()] = read_number(rule.getMath())
    return rules, rates


def _reacts(model: Any, species: Any) -> bool:
    if species.getBoundaryCondition() or species.getConstant():
        return False
    return any(
        reference.getSpecies() == species.getId()
        for reaction in model.getListOfReactions()
        for reference in (*reaction.getListOfReactants(), *reaction.getListOfProducts())
    )


def _rate_law(reaction: Any) -> Any:
    law = reaction.getKineticLaw()
    if law is None or law.getMath() is None:
        raise ValueError(
            f"The reaction `{reaction.getId()}` has no rate law; each reaction needs one."
        )
    if reaction.isSetFast() and reaction.getFast():
        raise ValueError(
            f"The reaction `{reaction.getId()}` is marked as fast, which is not read: give it "
            "a large rate constant."
        )
    return read_number(law.getMath())


def _net_rate(model: Any, species: Any) -> Any:
    import sympy

    terms = []
    if not _reacts(model, species):
        return sympy.Integer(0)
    for reaction in model.getListOfReactions():
        rate = symbol(reaction.getId())
        sides = ((-1, reaction.getListOfReactants()), (1, reaction.getListOfProducts()))
        for sign, references in sides:
            for reference in references:
                if reference.getSpecies() == species.getId():
                    terms.append(sign * _stoichiometry(model, reference) * rate)
    total = sympy.Add(*terms)
    factor = species.getConversionFactor() or model.getConversionFactor()
    return total * symbol(factor) if factor else total


def _stoichiometry(model: Any, reference: Any) -> Any:
    import sympy

    if reference.isSetStoichiometryMath():
        return read_number(reference.getStoichiometryMath().getMath())
    if model.getLevel() > 2 and reference.isSetId():
        return symbol(reference.getId())
    if model.getLevel() > 2 and not reference.isSetStoichiometry():
        raise ValueError(
            f"A reaction has `{reference.getSpecies()}` without its stoichiometry, which has no "
            "default: write `stoichiometry`."
        )
    number = reference.getStoichiometry()
    whole = sympy.Integer(int(number)) if number == int(number) else sympy.Float(number)
    return whole
