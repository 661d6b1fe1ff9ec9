"""The layout that CONTRIBUTING.md describes: layers, sizes, names, documented public names."""

import ast
import graphlib
import inspect
import pathlib
import re
from operator import attrgetter

import stiffrax

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "stiffrax"

# What each folder of the package may import. The first group solves and differentiates, and
# knows nothing of models and data; the second describes models and data, and knows no solver;
# the third brings both together.
ENGINE = {
    "diffrax_loop": set(),
    "linear_algebra": set(),
    "tableaus": set(),
    "stages": {"diffrax_loop", "linear_algebra", "tableaus"},
    "solvers": {"diffrax_loop", "linear_algebra", "stages", "tableaus"},
    "controllers": {"diffrax_loop"},
    "adjoints": {"diffrax_loop", "linear_algebra", "solvers", "stages", "tableaus"},
}
# What is known of diffrax's inside has one home.
DIFFRAX_LOOP = PACKAGE / "diffrax_loop"
# Fields of the state that diffrax's loop carries, and of its buffers.
LOOP_STATE = {
    "tprev",
    "tnext",
    "controller_state",
    "save_state",
    "saveat_ts_index",
    "save_index",
    "dense_ts",
    "dense_infos",
    "dense_save_index",
    "progress_meter_state",
    "num_accepted_steps",
    "num_rejected_steps",
}
DESCRIPTION = {"data": set(), "problems": {"data"}, "models": {"data"}}
BELOW_LOSSES = {*ENGINE, *DESCRIPTION}
BELOW_RECOVERY = {*BELOW_LOSSES, "losses", "training"}
APPLICATION = {
    "losses": BELOW_LOSSES,
    "training": {*BELOW_LOSSES, "losses"},
    "recovery": BELOW_RECOVERY,
    "diagnostics": BELOW_RECOVERY,
    "cantera": set(),
    "petab": {*BELOW_RECOVERY, "recovery"},
    "plots": {*BELOW_RECOVERY, "diagnostics", "recovery"},
}
MAY_IMPORT = {**ENGINE, **DESCRIPTION, **APPLICATION}

NAMESPACES = ("cantera", "diagnostics", "petab", "plots", "problems", "tableaus")
# Public names whose docstring has no example yet. It only ever gets shorter.
WITHOUT_EXAMPLE: set[str] = set()

MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [
    path
    for folder in ("src", "tests", "examples", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}


def at(path, line, what):
    return f"{path.relative_to(ROOT)}:{line}: {what}"


def imports(path):
    """Every imported name as its absolute dotted parts, with the line it stands on."""
    package = ("stiffrax", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from ((tuple(alias.name.split(".")), node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = tuple(node.module.split(".")) if node.module else ()
            yield from (((*start, *module, alias.name), node.lineno) for alias in node.names)


def folder_of(path):
    """The layer a file is in; None for the files beside the folders."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def imported_layers(path):
    for parts, line in imports(path):
        if (
            parts[0] == "stiffrax"
            and len(parts) > 1
            and parts[1] not in {"_arguments", "_flat_state", "_mass_models", "_options", "_trees"}
        ):
            yield parts[1], line


def nodes(kinds):
    for path in MODULES:
        yield from ((path, node) for node in ast.walk(TREES[path]) if isinstance(node, kinds))


def length_without_docstring(node):
    length = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node, clean=False) is None:
        return length
    docstring = node.body[0]
    return length - (docstring.end_lineno - docstring.lineno + 1)


def none_of(offenders, advice):
    # All of them: the report of a plain `assert not [...]` is cut short.
    assert not offenders, "\n".join([advice, *offenders])


def public_names():
    spaces = [
        stiffrax,
        *(getattr(stiffrax, name) for name in NAMESPACES if hasattr(stiffrax, name)),
    ]
    for space in spaces:
        for name in dir(space):
            if not name.startswith("_") and callable(value := getattr(space, name)):
                yield f"{space.__name__}.{name}", value


def test_layers_import_only_the_layers_below_them():
    upward = []
    for path in MODULES:
        layer = folder_of(path)
        if path == PACKAGE / "__init__.py":
            continue  # it gathers the public names of all layers
        assert layer is None or layer in MAY_IMPORT, f"give `{layer}` its place in MAY_IMPORT"
        allowed = MAY_IMPORT[layer] | {layer} if layer else set()
        upward += [at(path, line, x) for x, line in imported_layers(path) if x not in allowed]
    none_of(upward, "import downward only (MAY_IMPORT)")


def test_layers_have_no_cycle():
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()


def test_private_names_of_dependencies_are_imported_in_one_folder_only():
    private = [
        at(path, line, ".".join(parts))
        for path in MODULES
        for parts, line in imports(path)
        if path.parent != DIFFRAX_LOOP
        and parts[0] not in {"stiffrax", "__future__"}
        and any(part.startswith("_") for part in parts)
    ]
    none_of(private, "import it in diffrax_loop/")


def test_private_attributes_of_dependencies_are_used_in_one_folder_only():
    modules = {path: set() for path in MODULES}
    for path, node in nodes(ast.Import):
        modules[path] |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    private = [
        at(path, node.lineno, ast.unparse(node))
        for path, node in nodes(ast.Attribute)
        if path.parent != DIFFRAX_LOOP
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and ast.unparse(node).split(".")[0] in modules[path]
    ]
    none_of(private, "use it in diffrax_loop/")


def test_the_state_of_the_loop_of_diffrax_is_read_in_one_folder_only():
    # `solution.controller_state` is public: a plot of the recorded steps reads it.
    read = [
        at(path, node.lineno, ast.unparse(node))
        for path, node in nodes(ast.Attribute)
        if path.parent != DIFFRAX_LOOP
        and (
            (node.attr in LOOP_STATE and ast.unparse(node.value) != "solution")
            or ast.unparse(node.value) in {"init_state", "final_state"}
        )
    ]
    none_of(read, "read it in diffrax_loop/")


def test_the_stack_is_inspected_in_one_file_only():
    found = [
        at(path, node.lineno, ast.unparse(node))
        for path, node in nodes(ast.Attribute)
        if node.attr in {"_getframe", "currentframe", "f_back", "f_locals"}
        and path != DIFFRAX_LOOP / "_enclosing_solve.py"
    ]
    none_of(found, "ask diffrax_loop/_enclosing_solve.py")


def test_files_have_at_most_400_lines():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    long = [at(path, 1, length) for path, length in lengths.items() if length > 400]
    none_of(long, "split it by verb: predict, iterate, estimate")


def test_functions_have_less_than_60_lines_and_step_less_than_80():
    lengths = [
        (path, node, length_without_docstring(node))
        for path, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    long = [
        at(path, node.lineno, f"{node.name} has {length} lines")
        for path, node, length in lengths
        if length >= (80 if node.name == "step" else 60)
    ]
    none_of(long, "split it by verb: predict, iterate, estimate")


def test_files_and_folders_are_named_after_what_they_hold():
    says_nothing = {"utils", "util", "misc", "core", "helpers", "helper", "common"}
    empty = [
        at(path, 1, part)
        for path in SOURCES
        for part in path.relative_to(ROOT).with_suffix("").parts
        if part.removeprefix("test_").strip("_") in says_nothing
    ]
    none_of(empty, "name it after the concept it holds")


def test_package_has_no_bare_assert():
    found = [at(path, node.lineno, ast.unparse(node)) for path, node in nodes(ast.Assert)]
    none_of(found, "raise ValueError, or use eqx.error_if on traced values")


def test_public_classes_are_abstract_or_final():
    def is_open(node):
        kinds = {ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases}
        decorators = [ast.unparse(item).split(".")[-1] for item in node.decorator_list]
        closed = node.name.startswith(("Abstract", "_")) or "final" in decorators
        return not closed and not {"Enum", "Enumeration", "Protocol"} & kinds

    found = [
        at(path, node.lineno, node.name)
        for path, node in nodes(ast.ClassDef)
        if node in TREES[path].body and is_open(node)
    ]
    none_of(found, "decorate with @typing.final")


def test_public_names_have_a_docstring_with_an_example():
    def docstring(value):
        # A class without one would show that of its parent.
        return vars(value).get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)

    def is_shown(value):
        # A solver that adds a tableau and nothing else is used as its parent's example says.
        adds = {name for name in vars(value) if name[0] != "_"} if inspect.isclass(value) else ()
        return ">>>" in (docstring(value.__base__ if adds == {"tableau"} else value) or "")

    assert {name for name, value in public_names() if not is_shown(value)} == WITHOUT_EXAMPLE


# Arguments that another entry, or the summary, explains.
WITHOUT_ENTRY = {"stiffrax.fit.checkpoint_every", "stiffrax.problems.prothero_robinson.rate"}


def has_entry(name, docstring):
    """Whether an item of a list begins with `name`, alone or with others: "- `t0`, `t1`: ..."."""
    # Lines that are further indented go on with the item.
    items = re.findall(r"^ *- (?:.|\n(?= +[^ -]))*", docstring, re.MULTILINE)
    entry = rf"- [^:]*`{name}`[^:]*:|.*;\s+`{name}`"
    return any(re.match(entry, item.strip(), re.DOTALL) for item in items)


def not_documented(path, value):
    """Which of its own arguments a docstring does not name, and whether it says what comes back."""
    docstring = inspect.getdoc(value) or ""
    others = re.findall(r"\*\*Arguments:\*\* those of \[`stiffrax\.([\w.]+)`\]", docstring)
    texts = [docstring, *(inspect.getdoc(attrgetter(other)(stiffrax)) or "" for other in others)]
    call = value.__init__ if inspect.isclass(value) else value
    parameters = inspect.signature(call).parameters.values()
    names = [x.name for x in parameters if x.kind not in (x.VAR_POSITIONAL, x.VAR_KEYWORD)]
    missing = [
        x
        for x in names
        if x != "self"
        and f"{path}.{x}" not in WITHOUT_ENTRY
        and not any(has_entry(x, text) for text in texts)
    ]
    returns = inspect.isclass(value) or "**Returns:**" in docstring
    return missing if returns else [*missing, "**Returns:**"]


def test_public_docstrings_name_every_argument_and_what_is_returned():
    found = [f"{name}: {not_documented(name, value)}" for name, value in public_names()]
    none_of([line for line in found if not line.endswith(": []")], "say what it is")


def test_an_argument_without_an_entry_is_noticed():
    text = """Takes `steps` of `step`; see `other` step.

    - `t0`, `t1`: the span, of `step`
        and more: `step`; `dt0` the first step.
    - the size `n` of the state: a count, `f(step)`.

    ```python
    >>> solve(step=0.1)
    ```
    """
    assert [x for x in ("t0", "t1", "dt0", "n", "step", "steps") if has_entry(x, text)] == [
        "t0",
        "t1",
        "dt0",
        "n",
    ]


def test_every_public_name_has_one_path():
    paths = {}
    for path, value in public_names():
        paths.setdefault(id(value), []).append(path)
    none_of([" = ".join(names) for names in paths.values() if len(names) > 1], "keep one path")


def test_public_functions_take_the_model_then_the_data_then_what_is_done_with_them():
    order = ["model", "system", "data", "ts", "ys", "loss", "solver"]
    found = []
    for name, value in public_names():
        if inspect.isclass(value):
            continue
        places = [order.index(x) for x in inspect.signature(value).parameters if x in order]
        if places != sorted(places):
            found.append(f"{name}{inspect.signature(value)}")
    none_of(found, "model, data, solver or loss (CONTRIBUTING)")
