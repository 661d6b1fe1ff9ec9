"""Systems with constraints: runs start on them, and stay there."""

import types

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
import pytest

import stiffrax as srx
from stiffrax.losses._simulation import Simulator, _initial_states
from stiffrax.solvers import on_constraints

TS = np.array([1.0, 2.0, 3.0])


class TestConstraints:
    """B is two times A, whatever a run starts from and is dosed with."""

    system = paramax.unwrap(
        srx.System(
            lambda t, y, args: jnp.stack([-y[0], 2 * y[0] - y[1]]), mass=np.array([1.0, 0.0])
        )
    )
    simulator = Simulator(srx.RadauIIA5(), 1e-3, 1e-6, 9, srx.DiscreteAdjoint())
    args = srx.Measurements.from_arrays(TS, np.ones((3, 1)), names=["A"]).conditions(0)

    @pytest.fixture(autouse=True)
    def still_solves(self, monkeypatch):
        def solve(self, field, args, begin, end, y0, ts, atol):
            assert isinstance(field, srx.System)
            return types.SimpleNamespace(
                ys=jnp.tile(y0, (len(ts), 1)), result=diffrax.RESULTS.successful
            )

        monkeypatch.setattr(Simulator, "_solve", solve)

    def test_starts_and_what_doses_make_of_a_state_meet_them(self):
        ts, ends = jnp.asarray(TS), jnp.array([1.0, 2.0, 3.0])
        added = jnp.array([[0.0, 0.0], [0.5, 0.0]])
        run = self.args, ts, ends, added, added
        ys, _ = jax.jit(lambda y0: self.simulator._solve_run(self.system, *run, y0))(
            jnp.array([1.0, 7.0])
        )
        np.testing.assert_allclose(ys, [[1.0, 2.0], [1.5, 3.0], [1.5, 3.0]], rtol=1e-12)

    def test_what_comes_to_rest_starts_there_too(self):
        y, unrested = self.simulator._rest(
            self.system, self.args, jnp.array([1.0, 7.0]), jnp.asarray(1.0)
        )
        assert (y.tolist(), bool(unrested)) == ([1.0, 2.0], False)

    def test_with_another_structure_starts_are_as_given(self):
        banded = eqx.tree_at(
            lambda x: x.solver, self.simulator, srx.RadauIIA5(structure=srx.Banded(1, 1))
        )
        start = banded._start(self.system, self.args, jnp.asarray(0.0), jnp.array([1.0, 7.0]))
        assert start.tolist() == [1.0, 7.0]


@pytest.mark.slow
def test_constraints_are_kept_without_a_mass_of_the_system():
    model = srx.ConstrainedField(
        lambda t, y, args: -y[:1], lambda t, y, args: jnp.sum(y) - 1, num_states=2
    )
    ts = np.linspace(0.0, 2.0, 5)
    ys = np.stack([np.exp(-ts), 1 - np.exp(-ts)], axis=1)
    measured = np.where(ts[:, None] == 0, [1.0, 0.013], ys)
    data = srx.Measurements.from_arrays(ts, measured, names=["A", "B"])
    found = srx.LikelihoodLoss().simulate(srx.System(model), data)
    np.testing.assert_allclose(found.values[0], ys, rtol=1e-4, atol=1e-12)


def test_a_run_without_a_consistent_start_leaves_the_gradient_of_the_others_alone():
    # In the second run 0 = z - sqrt(A - p) has no root.
    def total(p, starts):
        field = lambda t, y, args: jnp.stack([-y[0], y[1] - jnp.sqrt(y[0] - p)])
        term = srx.MassMatrixTerm(field, jnp.array([1.0, 0.0]))
        moved = jax.vmap(lambda y: on_constraints(term, jnp.asarray(0.0), y, None))(starts)
        return jnp.sum(jnp.where(starts[:, 0] > p, moved[:, 1], 0))

    starts = jnp.array([[2.0, 0.9], [0.5, 0.9]])
    value, slope = jax.jit(jax.value_and_grad(total))(1.0, starts)
    np.testing.assert_allclose([value, slope], [1.0, -0.5], rtol=1e-12)


def test_a_state_after_rest_that_no_run_has_leaves_the_gradient_of_the_others_alone():
    # The second run has no dose to divide by, and no rest.
    data = srx.Measurements.from_arrays(
        [TS, TS], np.ones((2, 3, 1)), names=["A"], constants={"dose": [2.0, 0.0]}
    )

    def total(p):
        rest = srx.SteadyState(
            lambda args: jnp.stack([args["p"]]),
            then=lambda y, args: args["p"] * y / args["dose"],
            applies=lambda args: args["dose"] > 0,
        )
        system = srx.System(lambda t, y, args: 0 * y, rest, states=["A"], parameters={"p": p})
        return jnp.sum(_initial_states(system, ("A",), data, TestConstraints.simulator)[0])

    # p^2 / 2 and p.
    np.testing.assert_allclose(jax.jit(jax.grad(total))(3.0), 4.0, rtol=1e-12)
