"""Small problems in PEtab's format, written by the tests themselves."""

import pytest


def set_all(element, **values):
    """Sets attributes of a part of a model, `Id="A"` by `setId("A")`."""
    for name, value in values.items():
        getattr(element, f"set{name}")(value)


class Sbml:
    """A model that is built line by line; formulas are SBML's infix text."""

    def __init__(self, level=3, version=2):
        self.libsbml = pytest.importorskip("libsbml")
        self.document = self.libsbml.SBMLDocument(level, version)
        self.model = self.document.createModel()

    def compartment(self, name="c", size=1.0, constant=True):
        made = self.model.createCompartment()
        set_all(made, Id=name, Size=size, Constant=constant)
        made.setSpatialDimensions(3)
        return self

    def species(self, name, value=None, amount=False, boundary=False, compartment="c", **options):
        made = self.model.createSpecies()
        set_all(made, Id=name, Compartment=compartment, Constant=False)
        set_all(made, HasOnlySubstanceUnits=amount, BoundaryCondition=boundary)
        if value is not None:
            (made.setInitialAmount if amount else made.setInitialConcentration)(value)
        for option, given in options.items():
            getattr(made, option)(given)
        return self

    def parameter(self, name, value=None, constant=True):
        made = self.model.createParameter()
        set_all(made, Id=name, Constant=constant)
        if value is not None:
            made.setValue(value)
        return self

    def formula(self, text):
        return self.libsbml.parseL3Formula(text)

    def reaction(self, name, left, right, rate, local=(), fast=False):
        made = self.model.createReaction()
        set_all(made, Id=name, Reversible=False)
        if fast:
            made.setFast(True)
        sides = ((left, made.createReactant), (right, made.createProduct))
        for species, make in sides:
            for one, number in species.items():
                reference = make()
                set_all(reference, Species=one, Constant=True)
                reference.setStoichiometry(number)
        if rate is not None:
            law = made.createKineticLaw()
            law.setMath(self.formula(rate))
            for key, value in dict(local).items():
                own = law.createLocalParameter()
                set_all(own, Id=key, Value=value)
        return self

    def rate(self, name, text):
        made = self.model.createRateRule()
        set_all(made, Variable=name, Math=self.formula(text))
        return self

    def rule(self, name, text):
        made = self.model.createAssignmentRule()
        set_all(made, Variable=name, Math=self.formula(text))
        return self

    def initial(self, name, text):
        made = self.model.createInitialAssignment()
        set_all(made, Symbol=name, Math=self.formula(text))
        return self

    def function(self, name, text):
        made = self.model.createFunctionDefinition()
        set_all(made, Id=name, Math=self.formula(text))
        return self

    def event(self, trigger, initially=True, delay=None, early=True, **assignments):
        made = self.model.createEvent()
        made.setUseValuesFromTriggerTime(early)
        when = made.createTrigger()
        set_all(when, Math=self.formula(trigger), InitialValue=initially)
        when.setPersistent(True)
        if delay is not None:
            made.createDelay().setMath(self.formula(delay))
        for name, text in assignments.items():
            one = made.createEventAssignment()
            set_all(one, Variable=name, Math=self.formula(text))
        return self


@pytest.fixture(scope="session")
def sbml():
    """A function that begins a model."""
    return Sbml


@pytest.fixture(scope="session")
def write(tmp_path_factory):
    """A function that writes a model with its tables, and returns the path of the problem.

    Tables are text, a line a row, cells between bars.
    """

    def write(
        model,
        parameters="parameterId|parameterScale|lowerBound|upperBound|nominalValue|estimate",
        conditions="conditionId\nc0",
        observables="observableId|observableFormula|noiseFormula\nobs|A|1",
        measurements="observableId|simulationConditionId|time|measurement\nobs|c0|1|0.5",
        version=1,
    ):
        folder = tmp_path_factory.mktemp("problem")
        model.libsbml.writeSBMLToFile(model.document, str(folder / "model.xml"))
        tables = {
            "parameters": parameters,
            "conditions": conditions,
            "observables": observables,
            "measurements": measurements,
        }
        for name, text in tables.items():
            lines = [line.strip().replace("|", "\t") for line in text.strip().splitlines()]
            (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
        path = folder / "problem.yaml"
        path.write_text(
            f"format_version: {version}\nparameter_file: parameters.tsv\nproblems:\n"
            "- condition_files: [conditions.tsv]\n  measurement_files: [measurements.tsv]\n"
            "  observable_files: [observables.tsv]\n  sbml_files: [model.xml]\n"
        )
        return path

    return write
