"""The vector field of a measured system, and what stands for its conditions."""

import dataclasses
from typing import Any, NoReturn, final

from ..data import Conditions
from ..models import System


@final
class _NoRun:
    def __init__(self, parameters: Any):
        self.parameters = parameters

    def __getitem__(self, name: str) -> Any:
        if isinstance(self.parameters, dict) and name in self.parameters:
            return self.parameters[name]
        raise ValueError(_without(f"args[{name!r}]"))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(_without(f"args.{name}"))


def _without(what: str) -> str:
    return (
        f"The functions of the system read `{what}`, and no `args` were given. Write "
        "`srx.to_sympy(system, args=fit.conditions('a'))` with the name of a run."
    )


def field_of(system: System, args: Any) -> tuple[Any, Any]:
    """The vector field of a system, its parameters unwrapped, and the `args` that it takes."""
    if system.mass is not None:
        raise ValueError(
            "The system has a mass matrix: its field is no rate of change of the states. Give "
            "`system.field` for the right-hand sides."
        )
    if isinstance(args, Conditions) and args.parameters is None:
        # As data have them, which know of no system.
        args = dataclasses.replace(args, parameters=system.parameters)
    return system.field, _NoRun(system.parameters) if args is None else args
