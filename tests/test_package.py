"""What an installed stiffrax is: its metadata, its types, and what importing it does not do."""

import ast
import functools
import importlib.metadata
import importlib.resources
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import stiffrax as srx

NAMES = vars(srx)["__all__"]
ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(code):
    """What `code` prints in a process of its own."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_version_is_the_one_of_the_project_file():
    assert srx.__version__ == PROJECT["version"] == importlib.metadata.version("stiffrax")


def test_citation_has_the_version_of_the_project_file():
    citation = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {PROJECT['version']}" in citation


def test_type_information_is_shipped():
    assert importlib.resources.files("stiffrax").joinpath("py.typed").is_file()


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_extra_is_declared(extra):
    assert extra in importlib.metadata.metadata("stiffrax").get_all("Provides-Extra")


def test_every_dependency_has_a_lower_bound():
    everything = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    outside = [entry for entry in everything if not entry.startswith("stiffrax[")]
    assert not [entry for entry in outside if not re.search(r">=|==", entry)]


def test_every_public_name_can_be_loaded():
    assert sorted(NAMES) == sorted({*dir(srx)} - {"__version__"})
    assert all(getattr(srx, name) is not None for name in NAMES)


def test_type_checkers_find_the_names_where_they_are_loaded_from():
    stub = importlib.resources.files("stiffrax").joinpath("__init__.pyi")
    imported = {
        alias.asname
        for node in ast.parse(stub.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {*NAMES}


@functools.cache
def imported():
    """What is seen in a process that imports the package, and then loads all of its names."""
    slow = {"mpmath", "sympy", "matplotlib", "tqdm", "scipy"}
    flag = "--xla_force_host_platform_device_count=3"
    code = f"""
import os, sys, jax, stiffrax
print([x for x in sys.modules if x.startswith('stiffrax.')])
before = dict(jax.config.values)
names = [getattr(stiffrax, name) for name in dir(stiffrax)]
os.environ["XLA_FLAGS"] = {flag!r}
print(sorted({slow} & set(sys.modules)), before == jax.config.values, jax.device_count("cpu"))
"""
    return run(code).splitlines()


def test_import_loads_nothing_else_of_the_package():
    assert imported()[0] == "[]"


def test_all_names_leave_slow_libraries_and_the_configuration_of_jax_alone():
    # Nor does anything run on a device: a flag is read when the first computation starts, so that
    # one set afterward still counts.
    assert imported()[1] == "[] True 3"


def test_a_name_that_does_not_exist_is_said_to_be_none():
    with pytest.raises(AttributeError, match="No stiffrax attribute RadauIIB5"):
        srx.RadauIIB5  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
