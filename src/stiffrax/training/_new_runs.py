"""Refuses runs, to predict or held out, that would begin or be seen as another of the fit is."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, Float

from ..data import Conditions, Measurements
from ..losses import states_of
from ..models import SteadyState, System, split_trainable
from ._likelihood_model import LikelihoodModel

_WRITE = (
    "Write its numbers in, a start by `system = eqx.tree_at(lambda s: s.initial_state, fit.system, "
    "srx.fixed(jnp.array([...])))`, then `loss.simulate(system, data)`."
)


def check_runs_known(
    model: LikelihoodModel,
    x: Float[np.ndarray, " p"],
    data: Measurements,
    acting: Float[np.ndarray, " p"],
) -> None:
    """Refuses runs that the data of a fit do not have, where nothing says what holds for them.

    The system tells runs apart by their number, which in other data says nothing, or they depend on
    what no run of the fit does. `acting`: of each parameter how much the data of the fit depend on it.
    """
    new, system = _new_runs(model.data, data), model.vector.system(x)
    if system.initial_state is not None:
        _check_starts(model.data, data)
    names, parts = list(model.data.run_names), _parts_by_number(system, data) if new else []
    for i in new if parts else []:
        run, number = data.run_names[i], data.numbers[i]
        if number in model.data.numbers:
            other = names[model.data.numbers.index(number)]
            raise ValueError(
                f"Run {run!r} has the number {number}, which is that of run {other!r} in the data of "
                f"the fit, {names}, and the system tells runs apart in {parts}. {_WRITE}"
            )
    lost = _unseen(model, x, acting)
    if not new or not lost.size:
        return
    moved = x.copy()
    moved[lost] += model.vector.scale[lost]
    before, after = (np.asarray(model.on(data).predict(at).values) for at in (x, moved))
    changed = ~np.isclose(before, after, rtol=1e-6, atol=0.0, equal_nan=True)
    for i in [i for i in new if np.any(changed[i])]:
        raise ValueError(
            f"Run {data.run_names[i]!r} depends on one of {[model.vector.names[k] for k in lost]}, on "
            f"which the runs of the fit, {names}, do not: nothing says what it is. Fit with that run. "
            f"{_WRITE}"
        )


def _check_starts(fitted: Measurements, data: Measurements) -> None:
    """Refuses later rows of a run of the fit, which would be predicted from its initial state."""
    starts = dict(zip(fitted.run_names, map(float, fitted.starts), strict=True))
    for name, start in zip(data.run_names, map(float, data.starts), strict=True):
        known = starts.get(name, start)
        if start != known:
            raise ValueError(
                f"Run {name!r} starts at {start:g}, and at {known:g} in the data of the fit, where the "
                f"system has its initial state. Write `start={known:g}` where it is read, or give an "
                "experiment that does begin there a name of its own, by `run_names=` or a column `run`."
            )


def _new_runs(fitted: Measurements, data: Measurements) -> list[int]:
    """The runs of data that have not number and name of a run of the fit.

    A name that is the number, as all runs have without a column `run`, says nothing: then what is
    measured at the start and the constants must agree as well.
    """
    firsts = np.asarray(fitted.first_values()), np.asarray(data.first_values())

    def is_new(i: int) -> bool:
        if data.numbers[i] not in fitted.numbers:
            return True
        j = fitted.numbers.index(data.numbers[i])
        if data.run_names[i] != fitted.run_names[j]:
            return True
        if data.run_names[i] != str(data.numbers[i]):
            return False
        shared = data.constants.keys() & fitted.constants.keys()
        same = [data.constants[name][i] == fitted.constants[name][j] for name in shared]
        same.append(data.starts[i] == fitted.starts[j])
        own = dict(zip(data.names, firsts[1][i], strict=True))
        for name, value in zip(fitted.names, firsts[0][j], strict=True):
            if np.isfinite(value) and np.isfinite(own.get(name, np.nan)):
                same.append(value == own[name])
        return not all(same)

    return list(filter(is_new, range(len(data))))


def check_numbers_trained(system: System, data: Measurements, held_out: Measurements) -> None:
    """Refuses a run held out that goes by a parameter that the number of no other run leads to."""
    new, parts = _new_runs(data, held_out), _parts_by_number(system, held_out)
    parameters, rest = split_trainable(system)
    y = jnp.linspace(1.0, 2.0, len(states_of(system, data)))  # no state by which a rate is zero

    def total(parameters: Any, args: Any, numbers: Array) -> Array:
        whole = paramax.unwrap(eqx.combine(parameters, rest))

        def values(number: Array) -> Array:
            seen = dataclasses.replace(args, run=number, parameters=whole.parameters)
            found = [f(args.start, y, seen) for name, f in _functions(whole) if name in parts]
            return _sum(*(jnp.ravel(jnp.asarray(x, float)) for x in jax.tree.leaves(found)))

        return _sum(jax.vmap(values)(numbers))

    slopes = eqx.filter_jit(jax.grad(total))
    for i in new if parts else []:
        own, args = held_out.numbers[i], held_out.conditions(i)
        # By a number that another run has, it would be taken for that one.
        bad = own in data.numbers
        if not bad and jax.tree.leaves(parameters):
            numbers = np.full(len(data), own), np.array(data.numbers)
            found = (slopes(parameters, args, jnp.asarray(x)) for x in numbers)
            used = jax.tree.map(lambda a, b: np.any((a != 0) & (b == 0)), *found)
            bad = any(jax.tree.leaves(used))
        if bad:
            raise ValueError(
                f"Run {held_out.run_names[i]!r} is held out, and its number leads in {parts} to a "
                "parameter of its own, of which no run that is trained on says what it is, or to that "
                "of another run. Write `srx.fixed(...)` around what is known, and hold out runs of the "
                "same data, or leave `held_out` out."
            )


def _sum(*values: Array) -> Array:
    """A sum by weights with which no sum of derivatives is zero."""
    x = jnp.concatenate(values)
    return jnp.sum(x * (2 + jnp.cos(jnp.arange(x.size, dtype=float))))


def _unseen(
    model: LikelihoodModel, x: Float[np.ndarray, " p"], acting: Float[np.ndarray, " p"]
) -> np.ndarray:
    """Parameters without effect in the fit, of arrays that have others with one: those of runs."""
    arrays = [name.split("[")[0] for name in model.vector.names]
    seen = {array for array, by in zip(arrays, acting, strict=True) if by > 0}
    return np.array([i for i in range(len(x)) if acting[i] == 0 and arrays[i] in seen], int)


def _parts_by_number(system: System, data: Measurements) -> list[str]:
    system = paramax.unwrap(system)
    args = dataclasses.replace(data.conditions(0), parameters=system.parameters)
    y = jnp.zeros(len(states_of(system, data)))
    return sorted({name for name, function in _functions(system) if _reads_run(function, y, args)})


def _reads_run(function: Callable[..., Any], y: Float[Array, " n"], args: Conditions) -> bool:
    """Whether a function goes by the number of the run, or fails only where that is traced."""

    def of_number(run: Any) -> Any:
        return function(y[0], y, dataclasses.replace(args, run=run))

    known = False
    try:
        jax.eval_shape(lambda: of_number(args.run))
        known = True
        jaxpr = jax.make_jaxpr(of_number)(args.run).jaxpr
    except Exception:  # whatever an index or an array makes of it
        # What fails for the run itself says nothing, and fails by its own message where it is solved.
        return known
    # A call of a function that is compiled has all of `args` as inputs, used or not.
    return dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1][0]


def _functions(system: System) -> Iterator[tuple[str, Callable[..., Any]]]:
    """All functions that see the conditions, as functions of time and state, and where they are."""
    for name in ("field", "observe", "sd"):
        if callable(getattr(system, name)):
            yield name, getattr(system, name)
    start, name = system.initial_state, "initial_state"
    if isinstance(start, SteadyState):
        # The conditions that it returns have the number of the run, which nobody looked at.
        yield name, lambda _t, _y, args: start.conditions_before(args).constants
        if start.then is not None:
            yield name, lambda _t, y, args: start.then(y, args)
        if start.applies is not None:
            yield name, lambda _t, _y, args: start.applies(args)
        start = start.initial_state
    if callable(start):
        yield name, lambda _t, _y, args: start(args)
    elif eqx.is_array(start) and start.ndim == 2:
        yield name, lambda _t, _y, args: start[args.run]
