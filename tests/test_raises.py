"""Public docstrings say that wrong arguments raise `ValueError`, wherever they do."""

import ast
import inspect
import sys
import textwrap
from typing import Any

import pytest

import stiffrax

SPACES = (
    stiffrax,
    *(
        getattr(stiffrax, x)
        for x in ("cantera", "diagnostics", "petab", "plots", "problems", "tableaus")
    ),
)
MAKING = {"__init__", "__check_init__", "__post_init__", "__new__"}


def is_ours(value):
    return callable(value) and getattr(value, "__module__", "").startswith("stiffrax")


def public_names():
    for space in SPACES:
        for name in dir(space):
            if not name.startswith("_") and is_ours(value := getattr(space, name)):
                yield f"{space.__name__}.{name}", value


def tree_of(value) -> Any:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def docstring_of(value):
    # A class without one would show that of its parent.
    return (vars(value).get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)) or ""


def functions_of(value):
    return [x for x in tree_of(value).body if isinstance(x, ast.FunctionDef)]


def entered(value):
    """What runs at a call: the function, or what makes an instance of the class."""
    if not inspect.isclass(value):
        return [tree_of(value)]
    own = [x for x in value.__mro__ if is_ours(x)]
    return [node for x in own for node in functions_of(x) if node.name in MAKING]


def raises_itself(node):
    raised = (x.exc for x in ast.walk(node) if isinstance(x, ast.Raise))
    return any(isinstance(x, ast.Call) and ast.unparse(x.func) == "ValueError" for x in raised)


def raises(node, module):
    """Whether a function raises, or one of this package that it calls by its name."""
    if raises_itself(node):
        return True
    calls = (x.func for x in ast.walk(node) if isinstance(x, ast.Call))
    called = (getattr(sys.modules[module], x.id, None) for x in calls if isinstance(x, ast.Name))
    return any(raises_itself(inner) for x in called if is_ours(x) for inner in entered(x))


def silent(name, value):
    """The name if calling it may raise and its docstring does not say so; then its methods."""
    said = docstring_of(value)
    if any(raises(node, value.__module__) for node in entered(value)):
        if "**Raises:**" not in said and "**Arguments:** those of [" not in said:
            yield name
    for node in functions_of(value) if inspect.isclass(value) else ():
        public = node.name == "__call__" or not node.name.startswith("_")
        text = ast.get_docstring(node) or ""
        says = "ValueError" in text or "ValueError" in said or text.startswith("See [")
        if public and not says and raises(node, value.__module__):
            yield f"{name}.{node.name}"


def test_public_docstrings_say_what_is_raised():
    found = {x for name, value in public_names() for x in silent(name, value)}
    assert not found, "add **Raises:**"


def _refuses(x):
    if x < 0:
        raise ValueError(x)


def _calls(x):
    """Nothing about it."""
    return _refuses(x)


def _documented(x):
    """**Raises:** `ValueError`."""
    _refuses(x)


@pytest.mark.parametrize(("value", "found"), [(_calls, ["name"]), (_documented, [])])
def test_a_raise_in_a_function_called_is_found(value, found, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "is_ours", callable)
    assert list(silent("name", value)) == found
