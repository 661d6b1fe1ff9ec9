"""The documentation names every public name once, every message, and only files that exist."""

import ast
import functools
import inspect
import pathlib
import re

import stiffrax

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "stiffrax"
NAMESPACES = ("cantera", "diagnostics", "petab", "plots", "problems", "tableaus")
RAISED = {"raise", "error_if", "warn"}
# From so many words on a text is a sentence, wherever it stands.
SENTENCE = 7
# Entries of an API page with the members that it lists.
ENTRY = re.compile(r"^::: (\S+)\n((?:    .*\n)*)", re.M)
METHODS = (classmethod, staticmethod, property, functools.cached_property)
# Public members that the parts of the package use among each other, and no page tells a reader to use.
ADJOINT = {"differentiable_solve", "keep_stages", "moves_times", "push", "pull"}
CONTINUOUS = ADJOINT | {"method", "uses_quadrature"}
WITHIN = {
    "AbstractImplicitRungeKutta": {"exact_linear_solver", "solve_fixed_step"},
    "AbstractNoise": {"terms"},
    "AbstractRosenbrock": {"exact_linear_solver", "step_equations"},
    "DiscreteAdjoint": ADJOINT,
    "ForwardSensitivity": {"differentiable_solve"},
    "GaussAdjoint": CONTINUOUS,
    "ImexAdjoint": CONTINUOUS,
    "InterpolatingAdjoint": CONTINUOUS,
    "LikelihoodLoss": {
        *(
            "by_column",
            "check",
            "counted",
            "estimates",
            "with_impossible_failed",
            "residuals",
            "spread",
            "terms",
        )
    },
    "MassMatrixTerm": {"powers"},
    "ParameterFit": {"of"},
    "PredictiveController": {"norm"},
    "QuadratureAdjoint": CONTINUOUS,
    "RecordingController": {"atol", "norm", "rtol"},
    "SimplifiedNewton": {"atol", "has_tolerances", "norm", "rtol"},
    "Trajectories": {"arrays"},
    "TrajectoryLoss": {"solve_run"},
}


def public_names():
    for space in (stiffrax, *(getattr(stiffrax, name) for name in NAMESPACES)):
        for name in dir(space):
            if not name.startswith("_") and not inspect.ismodule(getattr(space, name)):
                yield f"{space.__name__}.{name}"


def api_entries():
    """The names on the API pages, each with the members that stand below it."""
    pages = [page.read_text() + "\n" for page in sorted((DOCS / "api").glob("*.md"))]
    found = [entry for page in pages for entry in ENTRY.findall(page)]
    return [(name, re.findall(r"^ +- (\w+)$", options, re.M)) for name, options in found]


def public_classes():
    for path in public_names():
        found = stiffrax
        for part in path.split(".")[1:]:
            found = getattr(found, part)
        if inspect.isclass(found):
            yield path, found


def members_of(cls, public):
    """Methods and properties that no public parent has, nor another package asks for."""
    for name in dir(cls):
        value = inspect.getattr_static(cls, name, None)
        # equinox wraps methods in a class of its own.
        method = isinstance(value, METHODS) or inspect.isroutine(getattr(value, "method", value))
        parents = [x for x in cls.__mro__ if name in vars(x)]
        ours = all(x.__module__.startswith("stiffrax") for x in parents)
        first = not any(hasattr(x, name) for x in cls.__mro__[1:] if x in public)
        if method and ours and first and not name.startswith("_"):
            yield name


def skeleton(node):
    """A text with `...` for what is filled in, or `None` for a node that is no text."""
    if isinstance(node, ast.JoinedStr):
        return "".join(x.value if isinstance(x, ast.Constant) else "..." for x in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"\{\w+\}", "...", node.value)
    return None


def is_raised(node):
    if isinstance(node, ast.Raise):
        return True
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in RAISED


def texts(node, raised=False):
    """Texts that may be shown: sentences, and whatever is raised; neither docstrings nor `repr`."""
    if isinstance(node, ast.FunctionDef) and node.name in {"__repr__", "__str__"}:
        return
    if isinstance(node, ast.Expr) and skeleton(node.value) is not None:
        return
    if (text := skeleton(node)) is not None and len(text.split()) >= (3 if raised else SENTENCE):
        yield text
    raised = raised or is_raised(node)
    inside = [x for x in ast.iter_child_nodes(node) if not isinstance(node, ast.JoinedStr)]
    inside += [x.value for x in getattr(node, "values", []) if isinstance(x, ast.FormattedValue)]
    for child in inside:
        yield from texts(child, raised)


def messages():
    for path in sorted(PACKAGE.rglob("*.py")):
        for text in texts(ast.parse(path.read_text())):
            # Type annotations and lists of words are texts too.
            if " | " not in text and re.search(r"[^\w\s]", text):
                yield str(path.relative_to(PACKAGE)), " ".join(text.split())


def test_every_public_name_is_on_one_api_page():
    assert sorted(name for name, _ in api_entries()) == sorted(public_names())


def test_every_method_and_property_is_on_an_api_page_or_used_within_the_package_only():
    listed, classes = dict(api_entries()), dict(public_classes())
    public = set(classes.values())
    missing = [
        f"{path}.{name}"
        for path, cls in classes.items()
        for name in members_of(cls, public)
        if (name in listed[path]) == (name in WITHIN.get(path.split(".")[-1], ()))
    ]
    assert sum(map(len, listed.values())) > 100
    assert not missing, "\n".join(
        ["list below `members:` in docs/api, or in WITHIN here:", *missing]
    )
    unknown = [
        f"{path}.{name}"
        for path, names in listed.items()
        for name in names
        if not hasattr(classes[path], name)
    ]
    assert not unknown


def test_every_reference_to_a_name_is_to_one_on_an_api_page():
    known = {name for name, _ in api_entries()}
    known |= {f"{name}.{member}" for name, members in api_entries() for member in members}
    files = [*DOCS.rglob("*.md"), *PACKAGE.rglob("*.py")]
    link = re.compile(r"\[`?(stiffrax[\w.]+)`?\]\[\]|\]\[(stiffrax[\w.]+)\]")
    named = [(file.name, a or b) for file in files for a, b in link.findall(file.read_text())]
    assert len(named) > 100
    assert not [(file, name) for file, name in named if name not in known]


def test_every_message_is_explained_on_the_page_of_failures():
    page = " ".join((DOCS / "failures.md").read_text().replace("\\", "").split())
    found = sorted(set(messages()))
    missing = [f"{path}: {text}" for path, text in found if text.replace("\\", "") not in page]
    assert len(found) > 100
    assert not missing, "\n".join(["add to docs/failures.md, with what it means:", *missing])


def test_every_script_that_a_page_names_exists():
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    script = re.compile(r"\b(?:examples|benchmarks|tests)/(?!NN_)[\w/]+\.py\b")
    named = [(page.name, path) for page in pages for path in script.findall(page.read_text())]
    assert named
    assert not [(page, path) for page, path in named if not (ROOT / path).is_file()]


def test_every_name_that_a_page_uses_exists():
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    used = {
        (page.name, name)
        for page in pages
        for name in re.findall(r"\bsrx\.((?:[A-Za-z_]\w*\.)?[A-Za-z_]\w*)", page.read_text())
    }
    assert len(used) > 50

    def exists(name):
        found = stiffrax
        for part in name.split("."):
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True

    assert not sorted((page, name) for page, name in used if not exists(name) and name != "X")


def test_every_module_that_the_page_of_the_layout_names_exists():
    named = re.findall(r"`(\w+/)?(_\w+\.py)`", (DOCS / "layout.md").read_text())
    assert len(named) > 10
    assert not [folder + file for folder, file in named if not any(PACKAGE.rglob(folder + file))]


def test_the_gallery_shows_every_example():
    page = (DOCS / "gallery.md").read_text()
    for script in (ROOT / "examples").glob("[0-9]*.py"):
        assert f"(examples/{script.stem}.md)" in page
        assert f"<!-- draw examples/{script.name} -->" in page
