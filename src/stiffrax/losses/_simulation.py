"""Predictions of what is measured of a system, in every run of the data."""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax import lax
from jaxtyping import Array, Bool, Float

from .._arguments import check_shapes
from .._trees import is_traced, passing_on, recompute_where
from ..data import Conditions, Measurements
from ..models import SteadyState, System
from ..solvers import MassMatrixTerm, on_constraints
from ..stages import Dense, stop_gradient
from ._model_and_data import conditions_of, observe, states_of
from ._schedule import make_schedule
from ._solve_runs import solve_runs

# A system is at rest if it is the same, to a hundred tolerances, at a tenth of this many times the
# time that the data cover, and at the end: modes that are slower show in no measurement.
_TIMES_TO_REST, _TOLERANCES_AT_REST = 1e6, 100.0
# This part of the size of a state: a species that reacts at once may be 1e-9 of the others, as in
# Robertson's reaction, and needs its three digits.
_PART_OF_SIZE = 1e-12
# And of the largest gain where all start at zero. Chosen, not measured.
_LEAST_GAIN = 1e-9


@final
class Simulation(NamedTuple):
    """What a system predicts.

    **Attributes:**

    - `values`: the observables at the rows of the data, in the unit of each column.
    - `sd`: their standard deviations by the system; zero where it gives none.
    - `states`: the states at the rows of the data.
    - `failed`: runs whose solve failed; all of the above is NaN of them, and of rows before the start
        of a run.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> data = srx.Measurements.from_table({"t": [0.0, 1.0], "A": [1.0, 0.4]})
    >>> system = srx.System(lambda t, y, args: -y, jnp.ones(1), states=["A"])
    >>> print(f"{srx.LikelihoodLoss().simulate(system, data).values[0, 1, 0]:.4f}")
    0.3679

    ```
    """

    values: Float[Array, "runs times columns"]
    sd: Float[Array, "runs times columns"]
    states: Float[Array, "runs times n"]
    failed: Bool[Array, " runs"]


class _Stretch(NamedTuple):
    """From one dose or jump to the next: what is added at its beginning, and what rows there see.

    `keeps`: the part of the state that stays, and the one that rows see.
    """

    begin: Array
    end: Array
    added: Array
    seen: Array | None
    keeps: Array | None
    is_last: Array


@final
class Simulator(eqx.Module):
    """How systems are solved; see [`stiffrax.LikelihoodLoss`][] for the settings."""

    solver: diffrax.AbstractSolver
    rtol: float
    atol: Any
    max_steps: int
    adjoint: diffrax.AbstractAdjoint

    def __call__(self, system: System, data: Measurements) -> Simulation:
        """The system's predictions; wrapped parameters are unwrapped."""
        system = paramax.unwrap(system)
        states = states_of(system, data)
        solve, lanes = self._solves(system, states, data)

        def solve_or_fail(*lane: Any) -> tuple[Array, Array]:
            ys, result = solve(*lane)
            return ys, result != diffrax.RESULTS.successful

        ys, failed = solve_runs(solve_or_fail, self.adjoint, *lanes)
        starts, run, ts = lanes[:3]
        # A failed run is observed as the first one that was solved: selected afterwards, a derivative
        # of what failed would be infinity times zero, and at its start, of a logarithm say, as well.
        # Where all failed, the start is what there is.
        stand_in = jnp.where(failed, jnp.argmin(failed), run)
        shown = jnp.where(jnp.all(failed), starts[:, None], ys[stand_in])
        values, sd = observe(system, states, data, ts[stand_in], shown, stand_in)
        nothing = (failed[:, None] | (ts < jnp.asarray(data.starts)[:, None]))[:, :, None]
        values, sd, ys = (jnp.where(nothing, jnp.nan, x) for x in (values, sd, ys))
        return Simulation(values, sd, ys, failed)

    def _solves(
        self, system: System, states: tuple[str, ...], data: Measurements
    ) -> tuple[Callable[..., tuple[Array, diffrax.RESULTS]], tuple[Any, ...]]:
        """The solve of a run, and what it takes of every run, from the start on."""
        starts, unrested = _initial_states(system, states, data, self)
        if starts.ndim != 2:
            raise ValueError(
                f"The initial state has shape {starts.shape[1:]}; it needs ({len(states)},), one "
                "number for each state."
            )
        n = starts.shape[1]
        if len(states) != n:
            raise ValueError(
                f"The system starts with {n} states and has the names {states}. Write "
                "`System(..., states=[...])` with a name for each."
            )
        schedule = make_schedule(data, states, system.jump_ts, n)
        ts, run = jnp.asarray(data.ts), jnp.arange(len(data))

        def solve(*lane: Any) -> tuple[Array, diffrax.RESULTS]:
            y0, run, ts, ends, (added, dose_seen, keeps), begins = lane
            args = conditions_of(system, data, run)
            ys, result = self._solve_run(system, args, ts, ends, added, dose_seen, y0, keeps)
            went_well = result == diffrax.RESULTS.successful
            undefined = went_well & ~(begins & jnp.all(jnp.isfinite(ys)))
            nonfinite: Any = diffrax.RESULTS.nonfinite  # by its type one of optimistix
            return ys, diffrax.RESULTS.where(undefined, nonfinite, result)

        begins = jnp.all(jnp.isfinite(starts), axis=1) & ~unrested
        return solve, (starts, run, ts, schedule.ends, schedule.added(), begins)

    def cause(self, system: System, data: Measurements, run: Any) -> str:
        """Why the solve of a run fails, in words of diffrax."""
        system = paramax.unwrap(system)
        solve, lanes = self._solves(system, states_of(system, data), data)
        _, result = solve(*jax.tree.map(lambda x: x[run], lanes))
        return diffrax.RESULTS[result].strip()

    def unrested(self, system: System, data: Measurements) -> Bool[Array, " runs"]:
        """The runs that a system has no steady state to start from."""
        system = paramax.unwrap(system)
        return _initial_states(system, states_of(system, data), data, self)[1]

    def _solve_run(
        self,
        system: System,
        args: Conditions,
        ts: Array,
        ends: Array,
        added: Array,
        seen: Array | None,
        y0: Array,
        keeps: Array | None = None,
    ) -> tuple[Float[Array, "times n"], diffrax.RESULTS]:
        """The states of one run at its rows: of a dose at its time a row sees what is in `seen`."""

        count = len(ends) - 1
        times = jnp.concatenate([ends, *(known.ts[0] for known in args.inputs.values())])
        times = jnp.clip(times, ends[0], ends[-1])
        atol = self._atol(system, args, y0, added, times, ends[-1] - ends[0])
        y0 = self._start(system, args, ends[0], y0)  # what it makes of a zero is rounding, no size

        def solve(carry: tuple[Array, Array, diffrax.RESULTS], part: _Stretch) -> tuple[Any, None]:
            y, ys, result = carry
            # No solver differentiates by `nextafter`.
            begin, end = lax.stop_gradient(part.begin), lax.stop_gradient(part.end)
            # A field that jumps at the end must not be evaluated there.
            stop = jnp.where(part.is_last, end, jnp.maximum(jnp.nextafter(end, begin), begin))
            at = jnp.append(jnp.clip(ts, begin, stop), stop)
            left, shown = (y, y) if part.keeps is None else part.keeps * y[None]
            if part.seen is not None:
                dosed = (ts == begin)[:, None] & (jnp.any(part.seen != 0) | jnp.any(shown != y))
                ys = jnp.where(dosed, self._start(system, args, begin, shown + part.seen), ys)
            if count > 1:
                y = self._start(system, args, begin, left + part.added)
            solution = self._solve(system, args, begin, stop, y, at, atol)
            new = jnp.asarray(solution.ys)
            here = (ts > begin) & (ts <= end)
            ys = jnp.where(here[:, None], new[:-1], ys)
            went_well = result == diffrax.RESULTS.successful
            return (new[-1], ys, diffrax.RESULTS.where(went_well, solution.result, result)), None

        parts = _Stretch(ends[:-1], ends[1:], added, seen, keeps, jnp.arange(count) == count - 1)
        begin = y0, jnp.broadcast_to(y0, (len(ts), y0.size)), diffrax.RESULTS.successful
        if count == 1:
            (_, ys, result), _ = solve(begin, jax.tree.map(lambda x: x[0], parts))
        else:
            (_, ys, result), _ = lax.scan(solve, begin, parts)
        return ys, result

    def _atol(
        self, field: Any, args: Any, y0: Array, added: Array, times: Array, span: Array
    ) -> Any:
        """The one given, or the default that `LikelihoodLoss` describes."""
        if isinstance(self.atol, float):
            return self.atol
        if self.atol is not None:
            atol = jnp.asarray(self.atol, y0.dtype)
            check_shapes(self.rtol, atol, y0)
            return atol
        field, args, y0, added = stop_gradient((field, args, y0, added))
        size = jnp.maximum(jnp.abs(y0), jnp.max(jnp.abs(added), axis=0))
        known = (size > 0) & jnp.isfinite(size)
        least = jnp.min(size, where=known, initial=jnp.inf)

        def by_rates() -> Array:
            rates = jnp.abs(jax.vmap(lambda t: jnp.asarray(field(t, y0, args)))(times))
            gained = span * jnp.max(rates, axis=0, where=jnp.isfinite(rates), initial=0)
            largest = jnp.max(gained)
            # What changes by next to nothing at these times is not what the others are measured by.
            gains = jnp.maximum(gained, _LEAST_GAIN * largest)
            least = jnp.min(gains, where=gained > 0, initial=jnp.inf)
            return jnp.where(largest > 0, least, 1)

        least = recompute_where(~jnp.any(known), by_rates, least)
        # The field may close over what is differentiated.
        return lax.stop_gradient(_PART_OF_SIZE * jnp.where(known, size, least))

    def _solve(
        self, field: Any, args: Any, begin: Any, end: Any, y0: Array, ts: Array, atol: Any
    ) -> diffrax.Solution:
        return diffrax.diffeqsolve(
            _term(field),
            self.solver,
            begin,
            end,
            None,
            y0,
            args,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=atol),
            adjoint=self.adjoint,
            max_steps=self.max_steps,
            throw=False,
        )

    def _start(self, field: Any, args: Any, t: Array, y: Array) -> Float[Array, " n"]:
        """The state with its algebraic components moved to the constraints, by a dense Jacobian."""
        dense = isinstance(getattr(self.solver, "structure", None), Dense | None)
        return on_constraints(_term(field), t, y, args) if dense else y

    def _rest(
        self, system: System, args: Conditions, y0: Array, span: Array
    ) -> tuple[Float[Array, " n"], Bool[Array, ""]]:
        """The state in which nothing changes any more, reached from `y0`; `y0` if there is none."""
        long = _TIMES_TO_REST * span

        def at_start(_: Array, y: Array, args: Conditions) -> Any:
            return system(args.start, y, args)

        frozen = eqx.tree_at(lambda s: s.field, system, at_start)
        ts = jnp.stack([long / 10, long])
        atol = self._atol(frozen, args, y0, jnp.zeros_like(y0)[None], jnp.zeros(1), span)
        y0 = jnp.where(span > 0, self._start(frozen, args, args.start, y0), y0)
        solution = self._solve(frozen, args, jnp.zeros_like(long), long, y0, ts, atol)
        before, y = jnp.asarray(solution.ys)
        change = jnp.abs(y - before) <= _TOLERANCES_AT_REST * (atol + self.rtol * jnp.abs(y))
        rests = jnp.all(change) & (solution.result == diffrax.RESULTS.successful)
        return jnp.where(rests, y, y0), ~rests & (span > 0)


def _term(system: Any) -> MassMatrixTerm | diffrax.ODETerm:
    mass = system.mass if isinstance(system, System) else None
    return diffrax.ODETerm(system) if mass is None else MassMatrixTerm(system, mass)


def _initial_states(
    system: System, states: tuple[str, ...], data: Measurements, simulator: Simulator
) -> tuple[Float[Array, "runs ..."], Bool[Array, " runs"]]:
    spans = jnp.max(jnp.asarray(data.ts), axis=1) - jnp.asarray(data.starts)
    # A run that is measured at its start alone does not say how slow a system is; others do.
    longest = jnp.max(spans)
    spans = jnp.where(spans > 0, spans, jnp.where(longest > 0, longest, 1))

    def start(run: Array, span: Array) -> tuple[Array, Array]:
        given, args = system.initial_state, conditions_of(system, data, run)
        if not isinstance(given, SteadyState):
            return _initial_state(given, states, data, args, run), jnp.asarray(False)
        if given.applies is None:
            applies, own = jnp.asarray(True), None
        else:
            applies = given.applies(args)
            own = passing_on((given.initial_state, args), ~applies)
            # What the state of another run is computed from has no derivative here, infinite or not.
            given, args = passing_on((given, args), applies)
        before = given.conditions_before(args)
        y = _initial_state(given.initial_state, states, data, before, run)
        if own is not None:
            y = jnp.where(applies, y, _initial_state(own[0], states, data, own[1], run))
        rest, failed = simulator._rest(system, before, y, jnp.where(applies, span, 0))
        if given.then is not None:
            then = given.then(passing_on(rest, applies), args)
            rest = jnp.where(applies, _vector(then, states), rest)
        return rest, failed

    runs = jnp.arange(len(data)), spans
    if isinstance(system.initial_state, SteadyState):
        return solve_runs(start, simulator.adjoint, *runs)
    return jax.vmap(start)(*runs)


def _initial_state(
    given: Any, states: tuple[str, ...], data: Measurements, args: Conditions, run: Array
) -> Array:
    if given is None:
        return data.first_values()[run, jnp.asarray([data.names.index(name) for name in states])]
    if callable(given):
        return _vector(given(args), states)
    if isinstance(given, dict):
        return _vector(given, states)
    given = jnp.asarray(given, float)
    if given.ndim == 2 and len(given) <= max(data.numbers):
        raise ValueError(
            f"`initial_state` has {len(given)} rows, and the data have the run "
            f"{data.run_names[np.argmax(data.numbers)]!r} of number {max(data.numbers)}; it needs a "
            "row for each run of the whole data: `select` and `split` keep the numbers of runs."
        )
    return given[args.run] if given.ndim == 2 else given


def _vector(y: Any, states: tuple[str, ...]) -> Array:
    if not isinstance(y, dict):
        return jnp.asarray(y, float)
    if set(y) != set(states) or any(map(jnp.ndim, y.values())):
        raise ValueError(
            f"`initial_state` names {sorted(y)}; the states are {list(states)}: each needs one "
            "number."
        )
    return jnp.stack([jnp.asarray(y[name], float) for name in states])


def starting_cells(
    system: System, data: Measurements
) -> Bool[Array | np.ndarray, "runs times columns"]:
    """The cells that runs start from, where the system does not say at what: they are no residuals."""
    states, begins = states_of(system, data), _begins_as_measured(system, data)
    own = begins[:, None, None] & np.array([name in states for name in data.names])[None, None]
    return data.mask & (data.ts == data.starts[:, None])[:, :, None] & own


def _begins_as_measured(system: System, data: Measurements) -> Bool[Array | np.ndarray, " runs"]:
    given = system.initial_state
    everywhere = np.ones(len(data), bool)
    if not isinstance(given, SteadyState):
        return everywhere & (given is None)
    if given.initial_state is not None or given.applies is None:
        return ~everywhere
    applies, system = given.applies, paramax.unwrap(system)
    rests = jax.vmap(lambda run: applies(conditions_of(system, data, run)))(jnp.arange(len(data)))
    return ~(rests if is_traced(rests) else np.asarray(rests))


def check_starts(system: System, data: Measurements) -> None:
    """Refuses a system that does not say where runs start, if the data do not either.

    Before data are traced: their mask is not known then, and a run that starts nowhere only fails.
    """
    given = system.initial_state
    given = given.initial_state if isinstance(given, SteadyState) else given
    if given is not None:
        return
    states = states_of(system, data)
    missing = [f"{name!r}" for name in states if name not in data.names]
    if not missing and isinstance(data.mask, np.ndarray):
        columns = [data.names.index(name) for name in states]
        first = data.mask & (data.ts == data.starts[:, None])[:, :, None]
        absent = np.argwhere(~np.any(first, axis=1)[:, columns])
        missing = [f"{states[k]!r} of run {data.run_names[i]!r}" for i, k in absent]
    if missing:
        raise ValueError(
            f"The system has no initial state, and {missing[0]} is not measured at the start. Write "
            "`System(field, initial_state=...)`: an array with parameters, or a function of `args`."
        )
    begins = _begins_as_measured(system, data)
    for dose in data.doses:
        i = data.run_names.index(dose.run)
        if isinstance(begins, np.ndarray) and begins[i] and dose.seen and dose.keeps:
            if isinstance(data.starts, np.ndarray) and dose.time == data.starts[i]:
                raise ValueError(
                    f"Run {dose.run!r} starts at what is measured after its dose to "
                    f"{dose.state!r}, which would count twice. Leave the dose out, or write "
                    "`System(field, initial_state=...)` with the state before it."
                )
