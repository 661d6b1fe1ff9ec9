"""The packages that read the files, loaded when they are first needed."""

import importlib
from typing import Any


def load_package(name: str) -> Any:
    """A module of the package `petab`, or of one that comes with it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            "`srx.petab` needs the package petab: run `pip install 'stiffrax[petab]'`."
        ) from error
