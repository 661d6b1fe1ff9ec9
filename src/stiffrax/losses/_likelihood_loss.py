"""The negative log-likelihood of measurements under a system."""

from collections.abc import Mapping
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import check_count, check_instance
from .._trees import is_none, is_traced
from ..adjoints import default_adjoint
from ..data import Measurements, Trajectories, check_measured_times
from ..models import SteadyState, System
from ..solvers import RadauIIA5
from ._loss import AbstractLoss, LossValue, check_parts, loss_tolerances
from ._model_and_data import columns_with_spread
from ._noise import AbstractNoise, NoiseTerms, NormalNoise
from ._simulation import Simulation, Simulator, check_starts, starting_cells

# A spread that is estimated, relative to the largest measurement: below it residuals show the
# tolerances of the solve, or rounding, of which it is the second. Chosen, not measured.
_SMALLEST_SPREAD, _UNITS_OF_ROUNDING = 1e-8, 10


@final
class LikelihoodLoss(AbstractLoss):
    r"""The negative log-likelihood of measurements under a [`stiffrax.System`][].

    $$-\sum_{r, k, j} \log p\left(x_{rkj} \mid \hat x_j(t_{rk}), \sigma_{rkj}\right)$$

    over all measured cells, without constants left out; of a system without an initial state not over
    those that its runs start from. The standard deviation of a cell is that of the system (`sd`),
    else that of the data, else one number for its column: that under which the residuals are most
    likely, which is put in by formula.

    A run whose solve fails is counted and takes part in no sum. So is one that is predicted without
    a likelihood: with a standard deviation, or under log-normal noise a value, that is not positive.

    **Arguments:**

    - `solver`: any diffrax solver; [`stiffrax.RadauIIA5`][] by default.
    - `noise`: [`stiffrax.NormalNoise`][] by default; [`stiffrax.LogNormalNoise`][],
        [`stiffrax.LaplaceNoise`][], [`stiffrax.StudentNoise`][], or a dictionary by column.
    - `rtol`: relative tolerance of the solve.
    - `atol`: absolute tolerance, one or `n` numbers in the unit of the states: below the smallest
        value that matters. By default 1e-12 of what each state starts with in the run, or is dosed
        with; for a state that starts at zero, of the smallest that does not; where all do, of the least
        that any would gain in the run by its rate at the start (the greatest rate at jumps and rows of
        inputs as well).
    - `adjoint`: of gradients; by default that of [`stiffrax.TrajectoryLoss`][].
        [`stiffrax.fit_parameters`][] differentiates forward, whatever is given here.
    - `max_steps`: the most steps of a solve.

    **Raises:** `ValueError` for tolerances that are not positive, a noise that is none, a system
    that does not fit the data, and log-normal noise of measurements that are not positive.

    Cost: one solve and one adjoint for each run, all in one batch.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> table = {"t": [0.0, 1.0, 2.0], "A": [1.0, None, 0.15]}
    >>> data = srx.Measurements.from_table(table, sd={"A": 0.1})
    >>> system = srx.System(lambda t, y, args: -y, jnp.ones(1), states=["A"])
    >>> print(f"{srx.LikelihoodLoss()(system, data):.3f}")
    -2.757

    ```
    """

    solver: diffrax.AbstractSolver
    noise: Any
    rtol: float
    atol: Any
    adjoint: diffrax.AbstractAdjoint
    max_steps: int
    # The columns of which the data do not know the standard deviation of every cell.
    _unknown: frozenset[str] | None

    def __init__(
        self,
        solver: diffrax.AbstractSolver | None = None,
        noise: Any = None,
        *,
        rtol: float = 1e-6,
        atol: Any = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
        max_steps: int = 4096,
    ):
        self.solver = RadauIIA5() if solver is None else solver
        self.noise = NormalNoise() if noise is None else noise
        given = self.noise.values() if isinstance(self.noise, Mapping) else [self.noise]
        for one in given:
            needed = "a noise model, or a dictionary of them by column"
            check_instance("noise", one, AbstractNoise, needed, "noise=srx.NormalNoise()")
        self.rtol, self.atol = loss_tolerances("LikelihoodLoss", rtol, atol)
        self.adjoint = default_adjoint(self.solver) if adjoint is None else adjoint
        check_parts(solver=self.solver, adjoint=self.adjoint)
        self.max_steps = check_count("max_steps", max_steps)
        self._unknown = None

    def for_data(self, data: Any, *others: Any) -> "LikelihoodLoss":
        """This loss knowing which standard deviations are to be estimated, in any of the data."""
        sets: list[Any] = [_unknown_spreads(check_measurements(one)) for one in (data, *others)]
        unknown = None if None in sets else frozenset().union(*sets)
        return eqx.tree_at(lambda x: x._unknown, self, unknown, is_leaf=is_none)

    def simulate(
        self, system: Any, data: Any, adjoint: diffrax.AbstractAdjoint | None = None
    ) -> Simulation:
        """What the system predicts at the rows of the data.

        **Arguments:**

        - `system`: a [`stiffrax.System`][], as in a call of the loss.
        - `data`: [`stiffrax.Measurements`][], of which runs, times and columns are read.
        - `adjoint`: another one than that of the loss.

        **Returns:** a [`stiffrax.Simulation`][]; NaN where a solve fails.

        **Raises:** `ValueError` for a system that does not fit the data.

        Cost: a solve for each run.
        """
        data = self.check(system, data)
        return self._simulator(self.adjoint if adjoint is None else adjoint)(system, data)

    def _simulator(self, adjoint: diffrax.AbstractAdjoint) -> Simulator:
        return Simulator(self.solver, self.rtol, self.atol, self.max_steps, adjoint)

    def check(self, system: Any, data: Any) -> Measurements:
        """`data` as measurements, if system and noise fit them."""
        check_system(system)
        data = check_measurements(data)
        noises = self.by_column(data)
        check_starts(system, data)
        counted = self.counted(system, data)
        if not isinstance(counted, np.ndarray):
            return data  # values may be traced
        on_logarithms = np.array([noise.on_logarithms for noise in noises])
        bad = counted & (data.values <= 0) & on_logarithms[None, None]
        for i, k, j in np.argwhere(bad):
            raise ValueError(
                f"Run {data.run_names[i]!r} has the value {data.values[i, k, j]:g} of "
                f"{data.names[j]!r} at time {data.ts[i, k]:g}, and its noise is on logarithms, which "
                "need positive ones. Leave the cell empty if it is below detection, or write "
                f"`noise={{{data.names[j]!r}: srx.NormalNoise(), ...}}`."
            )
        return data

    def evaluate(self, model: Any, data: Any) -> LossValue:
        """The negative log-likelihood of all runs that have one, and how many have none."""
        data = self.check(model, data)
        found = self.with_impossible_failed(model, self.simulate(model, data), data)
        cost = self.terms(model, found, data).cost
        seen = self.counted(model, data) & ~found.failed[:, None, None]
        return LossValue(jnp.sum(cost), jnp.sum(found.failed), jnp.sum(seen))

    def counted(self, system: System, data: Measurements) -> Any:
        """The cells that are residuals: measured, and not what a run starts from."""
        return data.mask & ~starting_cells(system, data)

    def with_impossible_failed(
        self, system: System, found: Simulation, data: Measurements
    ) -> Simulation:
        """Where runs that are predicted without a likelihood have failed as well."""
        bad = jnp.any(self._impossible(system, found, data), axis=(1, 2))
        return found._replace(failed=found.failed | bad)

    def _impossible(self, system: System, found: Simulation, data: Measurements) -> Array:
        given, columns = columns_with_spread(system, data), []
        for j, noise in enumerate(self.by_column(data)):
            value, sd = found.values[:, :, j], found.sd[:, :, j]
            fine = jnp.isfinite(value)
            if data.names[j] in given:
                fine &= jnp.isfinite(sd) & (sd > 0)
            if noise.on_logarithms:
                fine &= (value > 0) & (jnp.asarray(data.values)[:, :, j] > 0)
            columns.append(~fine)
        seen = self.counted(system, data) & ~found.failed[:, None, None]
        bad = seen & jnp.stack(columns, axis=2)
        estimated = np.array(self.estimates(system, data))
        if not estimated.any():
            return bad
        # Zero, of what is predicted as it was measured, which is zero. Not by what is bad already.
        found = found._replace(failed=found.failed | jnp.any(bad, axis=(1, 2)))
        nothing = (self.spread(system, found, data) == 0) & estimated[None, None]
        return bad | (seen & nothing & ~found.failed[:, None, None])

    def terms(self, system: System, found: Simulation, data: Measurements) -> NoiseTerms:
        """The cost of every cell with its derivatives; zero where there is no residual."""
        counted, measured = self.counted(system, data), jnp.asarray(data.values)
        sd = self.spread(system, found, data)
        columns = []
        for j, noise in enumerate(self.by_column(data)):
            seen = counted[:, :, j] & ~found.failed[:, None]
            # In all other cells value and derivative must stay finite.
            cell = (jnp.where(seen, x[:, :, j], 1) for x in (measured, found.values, sd))
            terms = noise.terms(*cell)
            columns.append(NoiseTerms(*(jnp.where(seen, x, 0) for x in terms)))
        return NoiseTerms(*(jnp.stack(x, axis=2) for x in zip(*columns, strict=True)))

    def spread(
        self, system: System, found: Simulation, data: Measurements
    ) -> Float[Array, "runs times columns"]:
        """The standard deviation of every cell: the system's, the data's, or the best one."""
        measured, given = jnp.asarray(data.values), jnp.asarray(data.sd)
        solved = self.counted(system, data) & ~found.failed[:, None, None]
        by_system, estimated = columns_with_spread(system, data), self.estimates(system, data)
        columns = []
        for j, noise in enumerate(self.by_column(data)):
            own = given[:, :, j]
            if noise.on_logarithms:  # that of a logarithm is relative
                own = own / jnp.where(measured[:, :, j] > 0, measured[:, :, j], 1)
            if data.names[j] in by_system or not estimated[j]:
                columns.append(found.sd[:, :, j] if data.names[j] in by_system else own)
                continue
            seen = solved[:, :, j] & (own == 0)
            values = [jnp.where(seen, x[:, :, j], 1) for x in (measured, found.values)]
            residual = jnp.where(seen, noise.residual(*values), 0)
            size = 1.0 if noise.on_logarithms else jnp.max(jnp.where(seen, jnp.abs(values[0]), 0))
            rounding = _UNITS_OF_ROUNDING * float(jnp.finfo(residual.dtype).eps)
            least = max(_SMALLEST_SPREAD, rounding) * size
            try:
                best = jnp.maximum(noise.best_spread(residual, seen, (0, 1)), least)
            except ValueError as fault:
                if self._unknown is not None or isinstance(data.sd, np.ndarray):
                    raise
                # Of traced data only their values tell whether one is needed.
                best = eqx.error_if(own, jnp.any(seen), str(fault))
            columns.append(jnp.where(own > 0, own, best))
        return jnp.stack(columns, axis=2)

    def residuals(
        self, system: System, found: Simulation, data: Measurements
    ) -> Float[Array, "runs times columns"]:
        """Measured minus predicted, or their logarithms, over the standard deviation."""
        sd, columns = self.spread(system, found, data), []
        counted, measured = self.counted(system, data), jnp.asarray(data.values)
        for j, noise in enumerate(self.by_column(data)):
            seen = counted[:, :, j] & ~found.failed[:, None]
            values = (jnp.where(seen, x[:, :, j], 1) for x in (measured, found.values))
            columns.append(noise.residual(*values) / jnp.where(seen, sd[:, :, j], 1))
        return jnp.stack(columns, axis=2)

    def estimates(self, system: System, data: Measurements) -> list[bool]:
        """For each column whether its standard deviation is put in by formula."""
        unknown = _unknown_spreads(data) if self._unknown is None else self._unknown
        given = columns_with_spread(system, data)
        return [(unknown is None or name in unknown) and name not in given for name in data.names]

    def by_column(self, data: Measurements) -> list[AbstractNoise]:
        """The noise model of each column."""
        if isinstance(self.noise, AbstractNoise):
            return [self.noise] * data.num_columns
        missing = [name for name in data.names if name not in self.noise]
        if missing:
            raise ValueError(
                f"`noise` names {sorted(self.noise)} and not the column {missing[0]!r} of the "
                "data; each column needs a noise model."
            )
        return [self.noise[name] for name in data.names]

    def first_failure(self, model: Any, data: Any) -> str:
        """The first run without a steady state or whose solve fails, or cell without a likelihood."""
        data = check_measurements(data)
        found = self.simulate(model, data)
        for i in np.flatnonzero(found.failed):
            run = data.run_names[i]
            if isinstance(model.initial_state, SteadyState):
                if self._simulator(self.adjoint).unrested(model, data)[i]:
                    return (
                        f"the steady state of run {run}: in a million times the time that the data "
                        "cover the system does not come to rest, or the solve fails on the way"
                    )
            cause = self._simulator(self.adjoint).cause(model, data, i)
            return f"the solve of run {run}: {cause}"
        for i, k, j in np.argwhere(self._impossible(model, found, data)):
            return (
                f"the likelihood of run {data.run_names[i]}: {data.names[j]} at time "
                f"{data.ts[i, k]:g} is predicted as {found.values[i, k, j]:g}, standard deviation "
                f"{self.spread(model, found, data)[i, k, j]:g}"
            )
        return ""


def _unknown_spreads(data: Measurements) -> frozenset[str] | None:
    """The columns that lack a standard deviation; `None` of traced data, whose all may."""
    if not isinstance(data.sd, np.ndarray) or not isinstance(data.mask, np.ndarray):
        return None
    unknown = np.any((data.sd == 0) & data.mask, axis=(0, 1))
    return frozenset(name for name, one in zip(data.names, unknown, strict=True) if one)


def check_measurements(data: Any) -> Measurements:
    """`data` as measurements, which samples of all states are too; see `check_data` for times."""
    if isinstance(data, Trajectories):
        data = Measurements.from_trajectories(data)
    data = check_instance(
        "data",
        data,
        Measurements,
        "`stiffrax.Measurements` or `stiffrax.Trajectories`, after the system",
        "Measurements.from_csv(path)",
    )

    def known(x: Any) -> Any:
        # What is checked are values, which only arrays of NumPy have while a program is traced.
        return np.asarray(x) if isinstance(x, Array) and not is_traced(x) else x

    data = jax.tree.map(known, data)
    check_measured_times(data)
    return data


def check_system(system: Any) -> System:
    """`system`, if it is one."""
    return check_instance(
        "system",
        system,
        System,
        "a `stiffrax.System`, which has an initial state and observables besides its vector field",
        "System(field, initial_state)",
    )


def check_cells_to_fit(likelihood: LikelihoodLoss, system: System, data: Measurements) -> None:
    """Refuses data of no residual, and columns with an estimated spread whose values are all equal.

    The likelihood of such a column has no largest value: the closer the parameters come to its one
    number, the smaller its spread. Only where a fit begins: predictions are made of such data too.
    """
    counted: Any = likelihood.counted(system, data)
    if not isinstance(counted, np.ndarray):
        return  # measurements may be traced
    if not counted.any():
        raise ValueError(
            "The data have no measured cell but those that runs start from, which are no residuals. "
            "Give `System(..., initial_state=...)`, or data with later rows."
        )
    estimated = likelihood.estimates(system, data)
    eps: Any = np.finfo(jnp.result_type(float)).eps
    for j in np.flatnonzero(estimated):
        cells = counted[..., j] & (np.asarray(data.sd)[..., j] == 0)
        values = np.asarray(data.values)[..., j][cells]
        # Equal but for rounding, as sums of the others are, is as unbounded as equal.
        if values.size and np.ptp(values) <= 10 * eps * np.max(np.abs(values)):
            name = data.names[j]
            which = (
                "in its only value" if values.size == 1 else f"in all of its {values.size} values"
            )
            raise ValueError(
                f"Column {name!r} is {values[0]:g} {which}, which tells no size of noise. Write "
                f"`sd={{{name!r}: 0.01}}`, with the resolution of the instrument, where the data are "
                "read, or leave the column out with `columns=`."
            )
