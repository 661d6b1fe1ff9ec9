import gc
import os

import equinox as eqx
import jax
import pytest

# The package is not imported here: the jaxtyping plugin checks only what is imported after it.
jax.config.update("jax_enable_x64", True)
if "JAX_PLATFORMS" not in os.environ:
    jax.config.update("jax_platforms", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")


def pytest_collection_finish(session):
    # Tracing makes millions of small objects, few of them garbage: to look for it takes a twentieth
    # of the time.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture
def getkey():
    """A function that returns a new random key at each call, the same ones in every run."""
    seed = iter(range(1_000_000))
    return lambda: jax.random.key(next(seed))


@pytest.fixture(autouse=True, scope="module")
def _free_compiled_programs():
    # Compiled programs of a whole run exceed the process's limit on memory maps.
    yield
    eqx.clear_caches()
