"""jaxkineticmodel, with a solver of stiffrax in place of its implicit one and nothing else changed."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

REASON = "`make test-clients` installs it"
build = pytest.importorskip("jaxkineticmodel.building_models.JaxKineticModelBuild", reason=REASON)
mechanisms = pytest.importorskip(
    "jaxkineticmodel.kinetic_mechanisms.JaxKineticMechanisms", reason=REASON
)

# In its own programs types are promoted.
pytestmark = pytest.mark.filterwarnings("ignore")
SOLVERS = [srx.RadauIIA5(), srx.RadauIIA9(), srx.Rodas5P()]
PARAMETERS = {
    "A_Vmax": 1.0, "A_Km": 0.25, "B_Vmax": 300.0, "B_Km": 0.25, "C_Vmax": 0.3, "C_Km": 0.01,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _as_it_promotes():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def prepared(solver):
    """A function of its parameters: a cycle of three enzymes, one of them fast, and its gradient."""

    def reaction(enzyme, substrate, product):
        mechanism = mechanisms.Jax_MM_Irrev_Uni(
            substrate=substrate, vmax=f"{enzyme}_Vmax", km_substrate=f"{enzyme}_Km"
        )
        compartments = ["cell", "cell"]
        return build.Reaction(enzyme, [substrate, product], [-1, 1], compartments, mechanism)

    cycle = [reaction("A", "a", "b"), reaction("B", "b", "c"), reaction("C", "c", "a")]
    model = build.NeuralODEBuild(build.JaxKineticModelBuild(cycle, {"cell": 1}))

    def total(parameters):
        # The model takes this one however its solver is changed.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(diffrax, "Kvaerno5", lambda: solver)
            ys = model(jnp.linspace(0.0, 10.0, 50), jnp.array([2.0, 0.0, 0.0]), parameters)
        return jnp.sum(ys**2)

    return jax.jit(jax.value_and_grad(total))


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_a_cycle_of_enzymes_and_its_gradient_are_those_of_kvaerno5(solver):
    found, expected = (prepared(s)(PARAMETERS) for s in (solver, diffrax.Kvaerno5()))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-8)
    for name in PARAMETERS:
        np.testing.assert_allclose(found[1][name], expected[1][name], rtol=1e-6, atol=1e-6)
