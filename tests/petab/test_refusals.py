"""What is not read of a problem is refused by its name."""

import sys

import pytest

import stiffrax as srx

pytest.importorskip("petab.v1")

PARAMETERS = (
    "parameterId|parameterScale|lowerBound|upperBound|nominalValue|estimate\nk|log10|0.1|10|1|1\n"
    "fixed_|lin|0|10|1|0"
)


@pytest.fixture
def model(sbml):
    """A model with much in it, to which tests add what is not read."""
    model = sbml().compartment().species("A", 1.0).species("B", 1.0, boundary=True)
    model.parameter("k", 1.0).parameter("p", 1.0, constant=False).parameter("x", constant=False)
    model.parameter("fixed_", 1.0).parameter("t1", 1.0).reaction("r", {"A": 1}, {}, "k*A")
    return model


def algebraic(model):
    model.model.createAlgebraicRule().setMath(model.formula("A - k"))


def submodel(model):
    libsbml = model.libsbml
    model.document.enablePackage(libsbml.CompExtension.getXmlnsL3V1V1(), "comp", True)
    made = model.model.getPlugin("comp").createSubmodel()
    made.setId("part")
    made.setModelRef("other")


def growing(model):
    model.model.getCompartment(0).setConstant(False)
    model.rate("c", "1").event("time >= 1", p="B")


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (algebraic, "algebraic rule, which is not read"),
        (submodel, "has submodels"),
        (lambda m: m.rule("p", "delay(A, 1)"), "uses `delay`, which is not read"),
        (lambda m: m.reaction("s", {"A": 1}, {}, None), "reaction `s` has no rate law"),
        (
            lambda m: m.model.getReaction(0).getReactant(0).unsetStoichiometry(),
            "has `A` without its stoichiometry",
        ),
        (lambda m: m.model.removeReaction(0), "The model has no state"),
        (lambda m: m.model.createRateRule().setVariable("p"), "without a formula"),
        (lambda m: m.event("A < 0.5", p="2"), "triggered by `A < 0.5`, which is not read"),
        (lambda m: m.event("time < 5", p="2"), "which is not read: of events those at known times"),
        (
            lambda m: m.event("time < 5 && time < 6", p="2"),
            "such as `time >= 5`, or without a delay",
        ),
        (lambda m: m.event("time > 5 && A < 6", p="2"), "which is not read: of events those at"),
        (lambda m: m.event("time > 5 || time < 2", p="2"), "which is not read: of events those at"),
        (lambda m: m.event("time > 5 && time < 7", delay="1", p="2"), "or without a delay"),
        (
            lambda m: m.event("time >= 1", A="A^2"),
            "sets `A` to `A..2`; of events that change a state",
        ),
        (lambda m: m.event("time >= 1", p="A"), "sets `p` to a formula of `A`, which changes"),
        (lambda m: m.event("time >= 1", p="r"), "sets `p` to a formula of `r`, which changes"),
        (growing, "sets `p` to a formula of `B`, which changes"),
        (lambda m: m.event("time >= r", p="2"), "at a time that depends on `r`, which changes"),
        (lambda m: m.event("time >= 0", False, p="2"), "may happen at the start"),
        (lambda m: m.event("time >= 1", delay="1", A="A + 5"), "sets `A` after a delay by what"),
        (
            lambda m: m.event("time >= 1", A="A + 5").event("time >= 1", early=False, A="A + 7"),
            "Several events set `A` at time 1 by what it was before them",
        ),
        (
            lambda m: m.event("time >= 1", p="p + 1").event("time > 0", delay="1", p="p*10"),
            "Several events set `p` at time 1, and the order decides",
        ),
        (
            lambda m: m.event("time >= 1", delay="2", p="p + 1").event("time >= 2", p="3"),
            "sets `p` at time 3 by what it was at the trigger time, and another one at 2",
        ),
        (lambda m: m.event("time >= k", A="A + 1"), "depends on .parameter k., which is estimated"),
        (lambda m: m.event("time >= 1", A="A + k"), "depends on .parameter k., which is estimated"),
        (lambda m: m.event("time >= 1", A="A + x").rule("x", "time"), "which changes in a run"),
        (
            lambda m: m.event("time >= t1", p="2").event("time >= 2", p="3"),
            "at times that are not numbers",
        ),
        (
            lambda m: m.rule("x", "piecewise(1, time < 2*k, 0)").rate("p", "x"),
            "depends on .parameter k., which is estimated",
        ),
        (lambda m: m.rule("x", "piecewise(1, time^2 < 2, 0)"), "not linear in the time"),
        (lambda m: m.rule("x", "floor(time)"), "jumps again and again with time"),
        (lambda m: m.rule("x", "p").rule("p", "x").rate("t1", "x"), "is defined by itself"),
        (lambda m: m.rate("p", "x"), "`x` has no value"),
    ],
)
def test_models_that_are_not_read(write, model, add, message):
    add(model)
    with pytest.raises(ValueError, match=message):
        srx.petab.load(write(model, PARAMETERS))


@pytest.mark.parametrize("reacts", [True, False])
def test_events_on_concentrations_where_a_compartment_changes_are_refused(write, sbml, reacts):
    model = sbml().compartment(constant=False).species("A", 1.0).rate("c", "1")
    model.event("time >= 1", A="A + 5")
    if reacts:
        model.reaction("r", {"A": 1}, {}, "A")
    with pytest.raises(ValueError, match="sets the concentration `A`, and its compartment `c`"):
        srx.petab.load(write(model))


def test_older_levels_and_packages_that_change_the_model_are_refused(write, sbml):
    model = sbml(1, 2)
    with pytest.raises(ValueError, match="SBML level 1; levels 2 and 3 are read"):
        srx.petab.load(write(model))


def test_fast_reactions_are_refused(write, sbml):
    model = sbml(2, 4).compartment().species("A", 1.0).reaction("r", {"A": 1}, {}, "A", fast=True)
    with pytest.raises(ValueError, match="reaction `r` is marked as fast"):
        srx.petab.load(write(model))


OBSERVED = "observableId|observableFormula|noiseFormula"
ON_LOGARITHMS = f"{OBSERVED}|observableTransformation|noiseDistribution"
MEASURED = "observableId|simulationConditionId|time|measurement"
WITH_NOISE = f"{MEASURED}|noiseParameters\nobs|c0|1|1"
AFTER = f"{MEASURED}|preequilibrationConditionId\nobs|main|1|1|pre"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"conditions": "conditionId|k\nc0|2 + 2"}, "has '2 . 2' in condition c0, column k"),
        ({"conditions": "conditionId|k_onn\nc0|2"}, "The tables set `k_onn`, which is neither"),
        ({"parameters": f"{PARAMETERS}\nk_off|lin|0|10|1|0"}, "The tables set `k_off`, which is"),
        (
            {"conditions": "conditionId|x\nc0|2\nc1|", "measurements": f"{MEASURED}\nobs|c1|1|1"},
            "Condition `c1` leaves `x` empty, and the model gives it no value",
        ),
        (
            {"conditions": "conditionId|B\npre|10\nmain|", "measurements": AFTER},
            "Condition `main` leaves the species `B` empty after `pre` set it",
        ),
        ({"measurements": f"{WITH_NOISE}|0.3"}, "gives `noiseParameter1_obs` a value"),
        (
            {
                "observables": f"{OBSERVED}\nobs|A|noiseParameter1_obs",
                "measurements": f"{WITH_NOISE}|0.1;0.2",
            },
            "gives `noiseParameter2_obs` a value",
        ),
        (
            {
                "observables": f"{OBSERVED}\nobs|A|1 + time",
                "measurements": f"{MEASURED}\nobs|c0|inf|1",
            },
            "A steady state is wanted of `.*time.*`, which changes with time",
        ),
        ({"conditions": "conditionId|r\nc0|2"}, "set `r`, which a rule of the model gives"),
        ({"parameters": PARAMETERS.replace("fixed_", "A")}, "sets `A`, which changes with time"),
        ({"observables": f"{OBSERVED}\nobs|A + q|1"}, "`q` has no value"),
        ({"observables": f"{OBSERVED}\nobs|A|noiseParameter1_obs"}, "Parameter1_obs` has no value"),
        (
            {"observables": f"{ON_LOGARITHMS}\nobs|A|1|log|laplace"},
            "noise distribution 'laplace' on the scale 'log'",
        ),
        ({"observables": "observableId|observableFormula\nobs|A"}, "lacks noiseFormula"),
        ({"measurements": f"{MEASURED}\nobs|c0|-inf|1"}, "at time -inf; simulations start at 0"),
        ({"measurements": f"{MEASURED}\nobs|c0|-1|1"}, "at time -1; simulations start at 0. Let"),
        ({"measurements": f"{MEASURED}\nother|c0|1|1"}, "is of `other`, which is no observable"),
        ({"measurements": f"{MEASURED}\nobs|c9|1|1"}, "names the condition 'c9'"),
        (
            {"measurements": f"{MEASURED}|preequilibrationConditionId\nobs|c0|inf|1|c0"},
            "measured at time inf after preequilibration",
        ),
        (
            {"measurements": f"{MEASURED}|preequilibrationConditionId\nobs|c0|1|1|0"},
            "names the condition 0",
        ),
        ({"conditions": "conditionId|k\nc0|1\nc0|2"}, "condition table .* two rows for 'c0'"),
        ({"observables": f"{OBSERVED}\nobs|A|1\nobs|2*A|1"}, "observable table .* for 'obs'"),
        ({"version": 2}, "format version 2; version 1 is read"),
    ],
)
def test_tables_that_are_not_read(write, model, tables, message):
    with pytest.raises(ValueError, match=message):
        srx.petab.load(write(model, **{"parameters": PARAMETERS} | tables))


def test_a_steady_state_of_what_changes_with_time_is_refused(write, model):
    model.rule("x", "exp(-time)").rate("p", "x")
    measured = f"{MEASURED}\nobs|c0|inf|1"
    with pytest.raises(
        ValueError, match="A steady state is wanted of `x`, which changes with time"
    ):
        srx.petab.load(write(model, PARAMETERS, measurements=measured))


@pytest.mark.parametrize("measured", [f"{MEASURED}\nobs|pre|inf|1", AFTER])
def test_a_dose_before_a_steady_state_is_refused(write, model, measured):
    model.event("time >= 1", A="A + t1")
    path = write(model, PARAMETERS, "conditionId|t1\npre|1\nmain|0", measurements=measured)
    with pytest.raises(ValueError, match="has a steady state, and events add to `A`"):
        srx.petab.load(path)


def test_a_state_needs_no_value_after_a_steady_state(write, sbml):
    model = sbml().compartment().species("A").reaction("r", {"A": 1}, {}, "A")
    path = write(model, conditions="conditionId|A\npre|1\nmain|", measurements=AFTER)
    assert srx.petab.load(path).data.run_names == ("main after pre",)
    path = write(model, conditions="conditionId|A\npre|\nmain|1", measurements=AFTER)
    with pytest.raises(ValueError, match="Condition `pre` leaves `A` empty, and the model"):
        srx.petab.load(path)


def test_without_the_package_petab_the_message_says_what_to_install(write, model, monkeypatch):
    path = write(model)
    monkeypatch.setitem(sys.modules, "petab.v1", None)
    with pytest.raises(ImportError, match=r"pip install 'stiffrax\[petab\]'"):
        srx.petab.load(path)


def test_a_file_that_is_no_problem_is_refused():
    with pytest.raises(ValueError, match="needs the YAML file of a problem"):
        srx.petab.load("model.xml")


def test_packages_that_change_the_model_are_refused(write, model, monkeypatch):
    plugin = model.libsbml.SBMLDocument.getPlugin
    fake = lambda self, name: object() if name == "spatial" else plugin(self, name)
    monkeypatch.setattr(model.libsbml.SBMLDocument, "getPlugin", fake)
    with pytest.raises(ValueError, match="needs the SBML package `spatial`"):
        srx.petab.load(write(model, PARAMETERS))


def test_a_model_that_libsbml_cannot_simplify_is_refused(write, model, monkeypatch):
    monkeypatch.setattr(model.libsbml.SBMLDocument, "convert", lambda self, how: -1)
    with pytest.raises(ValueError, match="libsbml's `expandFunctionDefinitions` fails"):
        srx.petab.load(write(model, PARAMETERS))


@pytest.mark.parametrize("cells", ["c\npre|1\nmain|2", "c\npre|k\nmain|1", "t1\npre|1\nmain|2"])
def test_compartments_that_change_their_size_at_the_start_are_refused(write, model, cells):
    if cells.startswith("t1"):
        model.initial("c", "t1")
    path = write(model, PARAMETERS, f"conditionId|{cells}", measurements=AFTER)
    with pytest.raises(ValueError, match="`c` has another size before the start"):
        srx.petab.load(path)


@pytest.mark.parametrize("cells", ["c\npre|k\nmain|k", "c\npre|1\nmain|"])
def test_compartments_that_keep_their_size_are_not(write, model, cells):
    path = write(model, PARAMETERS, f"conditionId|{cells}", measurements=AFTER)
    assert srx.petab.load(path).data.run_names == ("main after pre",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sbml_files: [model.xml]", "sbml_files: [broken.xml]", "is not valid SBML"),
        ("sbml_files: [model.xml]", "sbml_files: []", "The model is not in SBML"),
        ("problems:\n", "problems: []\nothers:\n", "has 0 problems; files with one are read"),
    ],
)
def test_files_that_hold_no_problem_are_refused(write, model, old, new, message):
    path = write(model, PARAMETERS)
    valid = path.with_name("model.xml").read_text()
    path.with_name("broken.xml").write_text(valid.replace('compartment="c"', ""))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        srx.petab.load(path)
