"""What an installed stiffrax is: its metadata, its types, and what importing it does not do."""

import importlib.metadata
import importlib.resources
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import stiffrax as srx

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


@pytest.mark.parametrize("extra", ["plots", "progress", "examples", "test", "docs", "dev"])
def test_extra_is_declared(extra):
    assert extra in importlib.metadata.metadata("stiffrax").get_all("Provides-Extra")


def test_every_dependency_has_a_lower_bound():
    everything = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
    outside = [entry for entry in everything if not entry.startswith("stiffrax[")]
    assert not [entry for entry in outside if not re.search(r">=|==", entry)]


def test_import_leaves_slow_libraries_unloaded():
    slow = {"mpmath", "sympy", "matplotlib", "tqdm", "scipy.integrate"}
    assert run(f"import sys, stiffrax; print(sorted({slow} & set(sys.modules)))") == "[]"


def test_import_leaves_the_configuration_of_jax_alone():
    code = "import jax; before = dict(jax.config.values); import stiffrax; "
    assert run(code + "print(before == jax.config.values)") == "True"


def test_import_runs_nothing_on_a_device():
    # A flag is read when the first computation starts, so one set after the import still counts.
    flag = "--xla_force_host_platform_device_count=3"
    code = f"import os, jax, stiffrax; os.environ['XLA_FLAGS'] = {flag!r}; "
    assert run(code + "print(jax.device_count('cpu'))") == "3"
