"""The negative log-likelihood of measurements under a system."""

from collections.abc import Mapping
from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import check_count, check_instance, check_tolerances
from ..adjoints import DiscreteAdjoint, records_steps
from ..data import Measurements, Trajectories
from ..models import System
from ..solvers import RadauIIA5
from ._loss import AbstractLoss, LossValue
from ._noise import AbstractNoise, NoiseTerms, NormalNoise
from ._simulation import Simulation, Simulator

# A spread that is estimated, relative to the largest measurement: below it residuals show the
# tolerances of the solve. Chosen, not measured.
_SMALLEST_SPREAD = 1e-8


@final
class LikelihoodLoss(AbstractLoss):
    r"""The negative log-likelihood of measurements under a [`stiffrax.System`][].

    $$-\sum_{r, k, j} \log p\left(x_{rkj} \mid \hat x_j(t_{rk}), \sigma_{rkj}\right)$$

    over all measured cells, without constants left out. The standard deviation of a cell is that of
    the system (`sd`), else that of the data, else one number for its column: that under which the
    residuals are most likely, which is put in by formula.

    A run whose solve fails is counted and takes part in no sum.

    **Arguments:**

    - `solver`: any diffrax solver; [`stiffrax.RadauIIA5`][] by default.
    - `noise`: [`stiffrax.NormalNoise`][] by default; [`stiffrax.LogNormalNoise`][],
        [`stiffrax.LaplaceNoise`][], [`stiffrax.StudentNoise`][], or a dictionary by column.
    - `rtol`: relative tolerance of the solve.
    - `atol`: absolute tolerance, in the unit of the states: below the smallest value that matters. By
        default 1e-12 of what each state starts with in the run, or is dosed with; for a state that
        starts at zero, of the smallest that does not.
    - `adjoint`: of gradients; by default [`stiffrax.DiscreteAdjoint`][] with the solvers of
        stiffrax, `diffrax.RecursiveCheckpointAdjoint` with others.
        [`stiffrax.fit_parameters`][] differentiates forward, whatever is given here.
    - `max_steps`: the most steps of a solve.

    **Raises:** `ValueError` for tolerances that are not positive, a noise that is none, and a
    system that does not fit the data.

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
    atol: float | None
    adjoint: diffrax.AbstractAdjoint
    max_steps: int
    # For which columns the data do not know the standard deviation of every cell.
    _unknown: tuple[bool, ...] | None

    def __init__(
        self,
        solver: diffrax.AbstractSolver | None = None,
        noise: Any = None,
        *,
        rtol: float = 1e-6,
        atol: float | None = None,
        adjoint: diffrax.AbstractAdjoint | None = None,
        max_steps: int = 4096,
    ):
        self.solver = RadauIIA5() if solver is None else solver
        self.noise = NormalNoise() if noise is None else noise
        given = self.noise.values() if isinstance(self.noise, Mapping) else [self.noise]
        for one in given:
            if not isinstance(one, AbstractNoise):
                raise ValueError(
                    f"`noise={one!r}` was given; it needs a noise model, as in "
                    "`noise=srx.NormalNoise()`, or a dictionary of them by column."
                )
        check_tolerances("LikelihoodLoss", rtol, 1.0 if atol is None else atol, positive=True)
        self.rtol, self.atol = float(rtol), None if atol is None else float(atol)
        if adjoint is None:
            ours = records_steps(self.solver)
            adjoint = DiscreteAdjoint() if ours else diffrax.RecursiveCheckpointAdjoint()
        self.adjoint = adjoint
        self.max_steps = check_count("max_steps", max_steps)
        self._unknown = None

    def for_data(self, data: Any) -> "LikelihoodLoss":
        """This loss knowing which standard deviations are to be estimated."""
        unknown = _unknown_spreads(check_measurements(data))
        return eqx.tree_at(lambda x: x._unknown, self, unknown, is_leaf=lambda x: x is None)

    def simulate(
        self, system: Any, data: Any, adjoint: diffrax.AbstractAdjoint | None = None
    ) -> Simulation:
        """What the system predicts at the rows of the data, a [`stiffrax.Simulation`][]."""
        check_system(system)
        self.by_column(check_measurements(data))
        adjoint = self.adjoint if adjoint is None else adjoint
        simulator = Simulator(self.solver, self.rtol, self.atol, self.max_steps, adjoint)
        return simulator(system, check_measurements(data))

    def evaluate(self, model: Any, data: Any) -> LossValue:
        """The negative log-likelihood of all runs that were solved, and how many failed."""
        data = check_measurements(data)
        found = self.simulate(model, data)
        solved = jnp.asarray(data.mask) & ~found.failed[:, None, None]
        cost = self.terms(model, found, data).cost
        value = jnp.sum(jnp.where(solved, cost, 0))
        return LossValue(value, jnp.sum(found.failed), jnp.sum(solved))

    def terms(self, system: System, found: Simulation, data: Measurements) -> NoiseTerms:
        """The cost of every cell with its derivatives; zero where nothing was measured."""
        mask, measured = jnp.asarray(data.mask), jnp.asarray(data.values)
        sd = self.spread(system, found, data)
        columns = []
        for j, noise in enumerate(self.by_column(data)):
            seen = mask[:, :, j]
            # Of cells that were not measured neither value nor derivative may be infinite.
            cell = (jnp.where(seen, x[:, :, j], 1) for x in (measured, found.values, sd))
            terms = noise.terms(*cell)
            columns.append(NoiseTerms(*(jnp.where(seen, x, 0) for x in terms)))
        return NoiseTerms(*(jnp.stack(x, axis=2) for x in zip(*columns, strict=True)))

    def spread(
        self, system: System, found: Simulation, data: Measurements
    ) -> Float[Array, "runs times columns"]:
        """The standard deviation of every cell: the system's, the data's, or the best one."""
        mask, measured, given = (jnp.asarray(x) for x in (data.mask, data.values, data.sd))
        solved = mask & ~found.failed[:, None, None]
        columns = []
        for j, noise in enumerate(self.by_column(data)):
            if gives_spread(system, data.names[j]):
                own, measured_sd = found.sd[:, :, j], given[:, :, j]
                columns.append(jnp.where(own > 0, own, measured_sd))
                continue
            if not self.estimates(system, data)[j]:
                columns.append(given[:, :, j])
                continue
            seen = solved[:, :, j] & (given[:, :, j] == 0)
            values = [jnp.where(seen, x[:, :, j], 1) for x in (measured, found.values)]
            residual = jnp.where(seen, noise.residual(*values), 0)
            size = 1.0 if noise.on_logarithms else jnp.max(jnp.where(seen, jnp.abs(values[0]), 0))
            best = jnp.maximum(noise.best_spread(residual, seen, (0, 1)), _SMALLEST_SPREAD * size)
            columns.append(jnp.where(given[:, :, j] > 0, given[:, :, j], best))
        return jnp.stack(columns, axis=2)

    def residuals(
        self, system: System, found: Simulation, data: Measurements
    ) -> Float[Array, "runs times columns"]:
        """Measured minus predicted, or their logarithms, over the standard deviation."""
        sd, columns = self.spread(system, found, data), []
        for j, noise in enumerate(self.by_column(data)):
            seen = jnp.asarray(data.mask)[:, :, j]
            values = (
                jnp.where(seen, x[:, :, j], 1) for x in (jnp.asarray(data.values), found.values)
            )
            columns.append(noise.residual(*values) / jnp.where(seen, sd[:, :, j], 1))
        return jnp.stack(columns, axis=2)

    def estimates(self, system: System, data: Measurements) -> list[bool]:
        """For each column whether its standard deviation is put in by formula."""
        unknown = _unknown_spreads(data) if self._unknown is None else self._unknown
        names = zip(data.names, unknown, strict=True)
        return [missing and not gives_spread(system, name) for name, missing in names]

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
        """The first run whose solve fails."""
        data = check_measurements(data)
        failed = np.flatnonzero(np.asarray(self.simulate(model, data).failed))
        return f"the solve of run {data.run_names[failed[0]]}" if len(failed) else ""


def _unknown_spreads(data: Measurements) -> tuple[bool, ...]:
    """For each column whether a measured cell has no standard deviation."""
    if not isinstance(data.sd, np.ndarray) or not isinstance(data.mask, np.ndarray):
        return (True,) * data.num_columns
    return tuple(np.any((data.sd == 0) & data.mask, axis=(0, 1)).tolist())


def gives_spread(system: System, column: str) -> bool:
    """Whether the system says the standard deviation of a column."""
    return column in system.sd if isinstance(system.sd, dict) else system.sd is not None


def check_measurements(data: Any) -> Measurements:
    """`data` as measurements, which samples of all states are too."""
    if isinstance(data, Trajectories):
        return Measurements.from_trajectories(data)
    return check_instance(
        "data",
        data,
        Measurements,
        "`stiffrax.Measurements` or `stiffrax.Trajectories`, after the system",
        "Measurements.from_csv(path)",
    )


def check_system(system: Any) -> System:
    """`system`, if it is one."""
    return check_instance(
        "system",
        system,
        System,
        "a `stiffrax.System`, which has an initial state and observables besides its vector field",
        "System(field, initial_state)",
    )
