"""How a model and data belong together: checks before anything is solved, states and columns."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from .._arguments import called, check_rates
from .._mass_models import check_no_mass
from .._trees import is_traced
from ..data import Conditions, Measurements, Trajectories, check_time_precision, check_trajectories
from ..models import System, check_no_system
from ..models._checks import check_own_names, own_names


def check_data(data: Any) -> Trajectories:
    """`data`, if they are samples of all states, at times that the precision of JAX tells apart."""
    data = check_trajectories(data)
    check_time_precision(data.ts, data.mask, data.run_names)
    return data


def check_known_data(data: Any) -> Trajectories:
    """`data`, if they are samples of all states with known values, which something is made from."""
    if is_traced(check_data(data)):
        raise ValueError(
            "The data are traced, and the loss is to be fixed to their values. Write "
            "`loss = loss.for_data(data)` outside of `jax.jit`."
        )
    return data


def check_model(model: Any, data: Trajectories) -> None:
    """Refuses a model that is more than a vector field of the states, or not in their order."""
    check_no_system("The model", model)
    check_no_mass("The model", model)
    check_own_names(model, data.names, "the data have")
    # In the precision of the data, which need not be the default.
    y = jax.ShapeDtypeStruct((data.num_states,), jnp.result_type(data.ys))
    t = jnp.zeros((), jnp.result_type(data.ts))
    what = f"For the {data.num_states} states of the data the model"
    out = eqx.filter_eval_shape(called, what, paramax.unwrap(model), t, y, None)
    check_rates("The model", out, y)


def conditions_of(system: System, data: Measurements, run: Array) -> Conditions:
    """The conditions of a run, with the parameters that the functions of the system share."""
    return dataclasses.replace(data.conditions(run), parameters=system.parameters)


def states_of(system: System, data: Measurements) -> tuple[str, ...]:
    """The names of the states, in the order of `y`: the columns of the data where there are none.

    Names of a field that nobody chose count where no column stands for them, or all have them.
    """
    own = own_names(system) or ()
    if system.states or (own and (system.observe is not None or {*data.names} <= {*own})):
        return own
    if system.observe is None:
        check_own_names(system, data.names, "the data have")
    return data.names


def with_states(system: System, data: Measurements) -> System:
    """The system with these names, which those of other data are not to replace."""
    return dataclasses.replace(system, states=states_of(system, data))


def check_columns(system: System, data: Measurements, other: Measurements) -> None:
    """Refuses other data whose columns would be taken for those of `data`: arrays go by place."""
    for name in ("observe", "sd") if data.names != other.names else ():
        given = _returned(paramax.unwrap(system), name, data)
        if not isinstance(given, dict) and np.ndim(given) > 0:
            raise ValueError(
                f"The data have the columns {other.names} and those of the fit {data.names}, in whose "
                f"order `{name}` returns an array. Return a dictionary by column, or write "
                f"`columns={list(data.names)}` where the data are read."
            )


def columns_with_spread(system: System, data: Measurements) -> tuple[str, ...]:
    """The columns of which the system says the standard deviation."""
    given = _returned(system, "sd", data)
    if isinstance(given, dict):
        return tuple(given)
    return () if given is None else data.names


def _returned(system: System, name: str, data: Measurements) -> Any:
    given = getattr(system, name)
    if not callable(given):
        return given
    whole = paramax.unwrap(system)
    args = conditions_of(whole, data, jnp.asarray(0))
    shape = getattr(whole.initial_state, "shape", ()) or (len(states_of(system, data)),)
    y = jnp.zeros(shape[-1])
    return jax.eval_shape(lambda t, y: paramax.unwrap(given)(t, y, args), y[0], y)


def observe(
    system: System,
    states: tuple[str, ...],
    data: Measurements,
    ts: Array,
    ys: Array,
    runs: Array,
) -> tuple[Float[Array, "runs times columns"], Float[Array, "runs times columns"]]:
    """What is observed, and its standard deviations by the system."""
    given = system.observe
    if given is None:
        given = _observe_states(states, data.names)

    def one(t: Array, y: Array, run: Array) -> tuple[Array, Array]:
        args = conditions_of(system, data, run)
        sd = system.sd(t, y, args) if callable(system.sd) else system.sd
        observed = given(t, y, args)
        others = {*states, *(observed if isinstance(observed, dict) else ())}
        return _columns("observe", observed, data.names), _columns("sd", sd, data.names, others)

    over_times = jax.vmap(one, in_axes=(0, 0, None))
    return jax.vmap(over_times)(ts, ys, runs)


def _observe_states(states: tuple[str, ...], names: tuple[str, ...]) -> Callable[..., Array]:
    unknown = [name for name in names if name not in states]
    if unknown:
        raise ValueError(
            f"The data have a column {unknown[0]!r}, which is no state of the system; the states "
            f"are {states}. Write `System(..., observe=lambda t, y, args: {{{unknown[0]!r}: ...}})`."
        )
    index = jnp.asarray([states.index(name) for name in names])
    return lambda _t, y, _args: y[index]


def _columns(what: str, given: Any, names: tuple[str, ...], others: Collection[str] = ()) -> Array:
    """One number for each column; zeros where `sd` says nothing."""
    if what == "sd" and (given is None or isinstance(given, dict)):
        given = dict.fromkeys(names, 0.0) | (given or {})
        unknown = [name for name in given if name not in names and name not in others]
        if unknown:
            raise ValueError(
                f"`sd` names {unknown[0]!r}, which is no column of the data, {list(names)}, and is not "
                "observed: write the name of a column."
            )
    if isinstance(given, dict):
        missing = [name for name in names if name not in given]
        if missing:
            raise ValueError(
                f"`{what}` names {sorted(given)}, and not the column {missing[0]!r} of the data. "
                "Return a number for it as well, or leave it out with `columns=` where the data are "
                "read."
            )
        given = jnp.stack([jnp.asarray(given[name], float) for name in names])
    given = jnp.asarray(given, float)
    if what == "sd" and given.ndim == 0:
        given = jnp.full(len(names), given)
    if given.shape != (len(names),):
        raise ValueError(
            f"`{what}` returns an array of shape {given.shape}; the data have the columns {names}: "
            f"return ({len(names)},), or a dictionary by column."
        )
    return given
