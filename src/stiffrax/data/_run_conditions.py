"""The conditions of one run, as vector field, initial state and observables see them, and doses."""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._known_input import KnownInput


@final
class Dose(NamedTuple):
    """An amount that is added to a state at a time of a run.

    A measurement at that time sees the state before it, unless `seen` is true. With `keeps` a state is
    diluted, or set: `keeps * state + amount`.

    **Arguments:**

    - `run`: name of the run.
    - `time`: in the unit of the data, from the start of the run on.
    - `state`: name of a state of the system.
    - `amount`: what is added, in the unit of the state; it may be negative.
    - `seen`: whether a measurement at this time sees the state after it.
    - `keeps`: the part of the state that stays: 0.5 halves it, 0 sets it to `amount`. Of several
        doses at one time all parts are multiplied, and all amounts added to what they leave.

    Measurements raise `ValueError` for runs and times that they do not have, a system for states.

    ```python
    >>> import stiffrax as srx
    >>> srx.Dose(run="patient 1", time=2.0, state="drug", amount=50.0).amount
    50.0

    ```
    """

    run: str
    time: float
    state: str
    amount: float
    seen: bool = False
    keeps: float = 1.0


@final
class Conditions(eqx.Module):
    """The conditions of a run: `args` of the three functions of a [`stiffrax.System`][].

    `args["T"]` is the constant `T` of the run, and `args["feed"](t)` its input `feed` at time `t`.

    **Attributes:**

    - `run`: number of the run in the data as they were made, `Int[Array, ""]`; selections keep it.
    - `start`: time at which the run starts.
    - `constants`: one number for each condition that does not change.
    - `inputs`: known functions of time, of this run alone.
    - `parameters`: those of the system, `System(..., parameters=...)`.

    ```python
    >>> import stiffrax as srx
    >>> table = {"t": [0.0, 1.0], "A": [1.0, 0.7], "T": [298.0, 298.0]}
    >>> data = srx.Measurements.from_table(table, constants=["T"])
    >>> float(data.conditions(0)["T"])
    298.0

    ```
    """

    run: Int[Array, ""]
    start: Float[Array, ""]
    constants: dict[str, Any]
    inputs: dict[str, KnownInput]
    parameters: Any = None

    def __getitem__(self, name: str) -> Any:
        """A constant, an input as a function of time, or a parameter of the system."""
        parameters = self.parameters if isinstance(self.parameters, dict) else {}
        if name in parameters and (name in self.constants or name in self.inputs):
            raise ValueError(
                f"`args[{name!r}]` was asked for, which is a constant or an input of the runs and a "
                "parameter of the system: rename one of them."
            )
        if name in self.constants:
            value = self.constants[name]
            return (
                (lambda t: jnp.broadcast_to(value, jnp.shape(t))) if name in self.inputs else value
            )
        if name in self.inputs:
            known = self.inputs[name]
            return lambda t: known(0, t)
        if name in parameters:
            return parameters[name]
        raise ValueError(
            f"`args[{name!r}]` was asked for; the runs have the constants {sorted(self.constants)} "
            f"and the inputs {sorted(self.inputs)}, the system the parameters {sorted(parameters)}. "
            "Name it in `constants=` or `inputs=` where the data are read, or in "
            "`System(..., parameters=...)`; to call a system by hand, put them in by "
            "`dataclasses.replace(args, parameters=paramax.unwrap(system).parameters)`."
        )

    def replace(self, **constants: Any) -> "Conditions":
        """The same conditions with other constants, as in `args.replace(dose=0.0)`.

        An input becomes the function of that value; a parameter of the system has it there alone.

        **Raises:** `ValueError` for a condition that there is not, and for a function.
        """
        for name, value in constants.items():
            self[name]
            if callable(value):
                raise ValueError(
                    f"`args.replace({name}=...)` was given a function; it needs a number, which an "
                    f"input keeps at all times. Write `args.replace({name}=0.0)`."
                )
        changed = {name: jnp.asarray(x, float) for name, x in constants.items()}
        parameters = self.parameters
        if isinstance(parameters, dict):
            own = {name: changed.pop(name) for name in [*changed] if name in parameters}
            parameters = parameters | own
        return Conditions(self.run, self.start, self.constants | changed, self.inputs, parameters)
