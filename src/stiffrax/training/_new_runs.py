"""Refuses predictions of runs that would begin, or be seen, as another run of the fit is."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from ..data import Conditions, Measurements
from ..losses import states_of
from ..models import SteadyState, System
from ._likelihood_model import LikelihoodModel

_ANSWERS = "eq ne lt le gt ge add radd sub rsub mul rmul mod and or index int float bool hash array"


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


def _unseen(
    model: LikelihoodModel, x: Float[np.ndarray, " p"], acting: Float[np.ndarray, " p"]
) -> np.ndarray:
    """Parameters without effect in the fit, of arrays that have others with one: those of runs."""
    arrays = [name.split("[")[0] for name in model.vector.names]
    seen = {array for array, by in zip(arrays, acting, strict=True) if by > 0}
    return np.array([i for i in range(len(x)) if acting[i] == 0 and arrays[i] in seen], int)


def _tells_runs_apart(system: System, data: Measurements) -> bool:
    """Whether rows of the initial state or a function of the system go by the number of the run."""
    system = paramax.unwrap(system)
    start = system.initial_state
    start = start.initial_state if isinstance(start, SteadyState) else start
    if eqx.is_array(start) and start.ndim == 2:
        return True
    true = dataclasses.replace(data.conditions(0), parameters=system.parameters)
    args = eqx.tree_at(lambda c: c.run, true, _Unknown())
    y = jnp.zeros(len(states_of(system, data)))
    # What fails for the run itself says nothing, and fails by its own message where it is solved.
    return any(
        _works(function, y, true) and not _works(function, y, args)
        for function in _functions(system)
    )


def _works(function: Callable[..., Any], y: Float[Array, " n"], args: Conditions) -> bool:
    try:
        jax.eval_shape(lambda t, y: function(t, y, args), y[0], y)
    except Exception:  # whatever an index or an array makes of it
        return False
    return True


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


@final
class _Unknown:
    """In the place of a run's number: whoever looks at it fails."""

    def __getattr__(self, name: str) -> NoReturn:
        raise LookupError(name)


def _fail(*_: Any) -> NoReturn:
    raise LookupError


for _name in (*_ANSWERS.split(), "jax_array"):
    setattr(_Unknown, f"__{_name}__", _fail)
