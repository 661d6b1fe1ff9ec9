"""Refuses runs, to predict or held out, that would begin or be seen as another of the fit is."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from ..data import Conditions, Measurements
from ..losses import states_of
from ..models import SteadyState, System, split_trainable
from ._likelihood_model import LikelihoodModel


def check_runs_known(
    model: LikelihoodModel,
    x: Float[np.ndarray, " p"],
    data: Measurements,
    acting: Float[np.ndarray, " p"],
) -> None:
    """Refuses runs that the data of a fit do not have, where the system tells runs apart.

    By their number, that is, which in other data says nothing. `acting`: of each parameter how much
    the data of the fit depend on it.
    """
    known = dict(zip(model.data.numbers, model.data.run_names, strict=True))
    firsts = np.asarray(model.data.first_values()), np.asarray(data.first_values())
    new = [i for i in range(len(data)) if not is_run_of(model.data, data, i, *firsts)]
    system, names = model.vector.system(x), list(known.values())
    if not new or not _tells_runs_apart(system, data):
        return
    for i in new:
        run, number = data.run_names[i], data.numbers[i]
        if number in known:
            raise ValueError(
                f"Run {run!r} has the number {number}, which is that of run {known[number]!r} in the "
                f"data of the fit, {names}, and the system tells runs apart by `args.run` or by rows "
                "of `initial_state`. Say what holds for it: `system = eqx.tree_at(lambda s: "
                "s.initial_state, fit.system, srx.fixed(jnp.array([...])))`, then `loss.simulate("
                "system, data)`."
            )
    lost = _unseen(model, x, acting)
    if not lost.size:
        return
    moved = x.copy()
    moved[lost] += model.vector.scale[lost]
    before, after = (np.asarray(model.on(data).predict(at).values) for at in (x, moved))
    changed = ~np.isclose(before, after, rtol=1e-6, atol=0.0, equal_nan=True)
    for i in [i for i in new if np.any(changed[i])]:
        raise ValueError(
            f"Run {data.run_names[i]!r} depends on one of {[model.vector.names[k] for k in lost]}, on "
            f"which the runs of the fit, {names}, do not: nothing says what it is. Fit with that run, "
            "or write its number in, as in `system = eqx.tree_at(lambda s: s.initial_state, "
            "fit.system, srx.fixed(jnp.array([...])))`, then `loss.simulate(system, data)`."
        )


def is_run_of(
    fitted: Measurements,
    data: Measurements,
    i: int,
    fitted_first: Float[np.ndarray, "runs columns"],
    data_first: Float[np.ndarray, "others others_columns"],
) -> bool:
    """Whether a run has number and name of a run of the fit.

    A name that is the number, as all runs have without a column `run`, says nothing: then what is
    measured at the start and the constants must agree as well.
    """
    if data.numbers[i] not in fitted.numbers:
        return False
    j = fitted.numbers.index(data.numbers[i])
    if data.run_names[i] != fitted.run_names[j]:
        return False
    if data.run_names[i] != str(data.numbers[i]):
        return True
    shared = data.constants.keys() & fitted.constants.keys()
    same = [data.constants[name][i] == fitted.constants[name][j] for name in shared]
    same.append(data.starts[i] == fitted.starts[j])
    own = dict(zip(data.names, data_first[i], strict=True))
    for name, value in zip(fitted.names, fitted_first[j], strict=True):
        if np.isfinite(value) and np.isfinite(own.get(name, np.nan)):
            same.append(value == own[name])
    return bool(all(same))


def check_starts_trained(system: System, data: Measurements, held_out: Measurements) -> None:
    """Refuses a run held out that starts by a parameter that the number of no other run leads to."""
    parameters, rest = split_trainable(system)

    def start(parameters: Any, args: Any, number: Array) -> Array:
        whole = paramax.unwrap(eqx.combine(parameters, rest))
        given = _start_of(whole)
        args = dataclasses.replace(args, run=number, parameters=whole.parameters)
        y = given(args) if callable(given) else given[number]
        y = jnp.concatenate([jnp.ravel(jnp.asarray(x, float)) for x in jax.tree.leaves(y)])
        # Weights by which no sum of states is zero.
        return jnp.sum(y * jnp.sqrt(1.0 + jnp.arange(y.size, dtype=float)))

    @eqx.filter_jit
    def by_number(parameters: Any, args: Any, numbers: Array) -> Any:
        """The derivatives of the start, were it that of the run of each number."""
        return jax.vmap(lambda number: jax.grad(start)(parameters, args, number))(numbers)

    known = _start_of(paramax.unwrap(system))
    if not jax.tree.leaves(parameters) or not (callable(known) or _has_rows(known)):
        return
    firsts = np.asarray(data.first_values()), np.asarray(held_out.first_values())
    for i, name in enumerate(held_out.run_names):
        if is_run_of(data, held_out, i, *firsts):
            continue
        numbers = jnp.asarray([held_out.numbers[i], *data.numbers])
        slopes = by_number(parameters, held_out.conditions(i), numbers)
        used = [np.asarray(x).reshape(len(numbers), -1) != 0 for x in jax.tree.leaves(slopes)]
        own, *others = np.concatenate(used, axis=1)
        # By a number that another run has, it would start as that one.
        taken = held_out.numbers[i] in data.numbers and np.any(own != others)
        if taken or np.any(own & ~np.any(others, axis=0)):
            raise ValueError(
                f"Run {name!r} is held out, and it would start by a parameter that stands for one run, "
                "a row of `initial_state` or what `args.run` leads to: no run that is trained on says "
                "what it is. Write `srx.fixed(...)` around starts that are known, or leave `held_out` "
                "out."
            )


def _unseen(
    model: LikelihoodModel, x: Float[np.ndarray, " p"], acting: Float[np.ndarray, " p"]
) -> np.ndarray:
    """Parameters without effect in the fit, of arrays that have others with one: those of runs."""
    arrays = [name.split("[")[0] for name in model.vector.names]
    seen = {array for array, by in zip(arrays, acting, strict=True) if by > 0}
    return np.array([i for i in range(len(x)) if acting[i] == 0 and arrays[i] in seen], int)


def _start_of(system: System) -> Any:
    """The initial state, or the one that a steady state is reached from."""
    given = system.initial_state
    return given.initial_state if isinstance(given, SteadyState) else given


def _has_rows(start: Any) -> bool:
    return eqx.is_array(start) and start.ndim == 2


def _tells_runs_apart(system: System, data: Measurements) -> bool:
    """Whether rows of the initial state or a function of the system go by the number of the run."""
    system = paramax.unwrap(system)
    if _has_rows(_start_of(system)):
        return True
    args = dataclasses.replace(data.conditions(0), parameters=system.parameters)
    y = jnp.zeros(len(states_of(system, data)))
    return any(_reads_run(function, y, args) for function in _functions(system))


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
    read = [*jaxpr.outvars, *(x for equation in jaxpr.eqns for x in equation.invars)]
    return any(x is jaxpr.invars[0] for x in read)


def _functions(system: System) -> Iterator[Callable[..., Any]]:
    """All functions that see the conditions, as functions of time and state."""
    yield system.field
    yield from (one for one in (system.observe, system.sd) if callable(one))
    start = system.initial_state
    if isinstance(start, SteadyState):
        # The conditions that it returns have the number of the run, which nobody looked at.
        yield lambda _t, _y, args: start.conditions_before(args).constants
        if start.then is not None:
            yield lambda _t, y, args: start.then(y, args)
        if start.applies is not None:
            yield lambda _t, _y, args: start.applies(args)
        start = start.initial_state
    if callable(start):
        yield lambda _t, _y, args: start(args)
