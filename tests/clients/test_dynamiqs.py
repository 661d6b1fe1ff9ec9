"""dynamiqs, with a solver of stiffrax in place of its implicit one and nothing else changed."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx

dq = pytest.importorskip("dynamiqs", reason="`make test-clients` installs it")

# In its own programs types are promoted.
pytestmark = pytest.mark.filterwarnings("ignore")
LEVELS, DETUNING, FAST, SLOW = 4, 2.0, 200.0, 0.5


@pytest.fixture
def in_place_of_theirs(monkeypatch):
    """The solver that `dynamiqs.method.Kvaerno5` stands for."""
    module = importlib.import_module("dynamiqs.integrators.apis.mesolve")
    theirs = module.mesolve_kvaerno5_integrator_constructor
    ours = functools.partial(theirs.func, **(theirs.keywords | {"diffrax_solver": srx.RadauIIA5()}))
    monkeypatch.setattr(module, "mesolve_kvaerno5_integrator_constructor", ours)
    # Their programs are kept by their arguments, which are the same.
    jax.clear_caches()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
    jax.clear_caches()


def photons(slow, method):
    """Of an oscillator with a drive, one decay of which is fast, at a few times."""
    a = dq.destroy(LEVELS)
    H = DETUNING * a.dag() @ a + 0.3 * (a + a.dag())
    jumps = [jnp.sqrt(slow) * a, np.sqrt(FAST) * a @ a]
    ts = jnp.linspace(0.0, 1.0, 5)
    result = dq.mesolve(
        H, jumps, dq.fock(LEVELS, 2), ts, exp_ops=[a.dag() @ a], method=method, progress_meter=False
    )
    return result.expects[0].real


@pytest.mark.usefixtures("in_place_of_theirs")
def test_a_master_equation_and_its_gradient_are_those_of_the_matrix_exponential():
    implicit, exact = dq.method.Kvaerno5(rtol=1e-8, atol=1e-10), dq.method.Expm()

    def total(method):
        return lambda slow: jnp.sum(photons(slow, method) * jnp.arange(1.0, 6.0))

    np.testing.assert_allclose(photons(SLOW, implicit), photons(SLOW, exact), atol=1e-7)
    found, expected = (jax.grad(total(method))(SLOW) for method in (implicit, exact))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
