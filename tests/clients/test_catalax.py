"""catalax, with a solver of stiffrax in place of its explicit one and nothing else changed."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

ctx = pytest.importorskip("catalax", reason="`make test-clients` installs it")

# In its own programs types are promoted.
pytestmark = pytest.mark.filterwarnings("ignore")
SOLVERS = [srx.RadauIIA5, srx.RadauIIA9, srx.Rodas5P]
RATES = {"k1": 0.04, "k2": 3e7, "k3": 1e4}


@pytest.fixture(autouse=True)
def _as_it_promotes():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def prepared(solver):
    """A function of the rates: Robertson's reaction at ten times."""
    model = ctx.Model(name="robertson")
    model.add_states(a="A", b="B", c="C")
    model.add_ode("a", "-k1*a + k3*b*c")
    model.add_ode("b", "k1*a - k3*b*c - k2*b**2")
    model.add_ode("c", "k2*b**2")
    for name, value in RATES.items():
        model.parameters[name].value = value
    data = ctx.Dataset.from_model(model)
    data.add_initial(a=1.0, b=0.0, c=0.0)
    config = ctx.model.SimulationConfig(
        t1=100, nsteps=10, dt0=1e-4, solver=solver, rtol=1e-8, atol=1e-12
    )

    def states(rates):
        return model.simulate(data, config, parameters=rates, return_array=True)[1][0]

    return states


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_stiff_reaction_and_its_sensitivities_are_those_of_kvaerno5(solver):
    rates = jnp.array(list(RATES.values()))
    functions = [prepared(s) for s in (solver, diffrax.Kvaerno5)]
    for found, expected in (
        [function(rates) for function in functions],
        [jax.jacobian(function)(rates) for function in functions],
    ):
        size = np.max(np.abs(expected), axis=0)
        assert np.all(np.abs(found - expected) <= 1e-6 * size)
