import gc
import mmap
import os
from pathlib import Path

import equinox as eqx
import jax
import jaxlib
import pytest

# The package is not imported here: the jaxtyping plugin checks only what is imported after it.
jax.config.update("jax_enable_x64", True)
if "JAX_PLATFORMS" not in os.environ:
    jax.config.update("jax_platforms", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")


def _has_flag(name):
    """Whether this version of XLA knows the flag; it ends the process at one it does not know."""
    for file in Path(jaxlib.__file__).parent.glob("*.so"):
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text,
        ):
            if text.find(name.encode()) >= 0:
                return True
    return False


# Tests are bound by compilation. With the older of its two code generators for the processor XLA
# compiles our programs in two thirds of the time, and without LLVM's optimization in half of that.
# Slow tests run for longer than they compile: they are optimized.
CODE_GENERATOR = ("xla_cpu_use_fusion_emitters", "false")
OPTIMIZATION = ("xla_backend_optimization_level", "0")


def pytest_configure(config):
    flags = [CODE_GENERATOR, OPTIMIZATION][: 2 if "not slow" in config.option.markexpr else 1]
    # XLA reads the variable when first used.
    given = os.environ.get("XLA_FLAGS", "")
    new = [f"--{name}={value}" for name, value in flags if name not in given and _has_flag(name)]
    os.environ["XLA_FLAGS"] = " ".join([given, *new])


def pytest_collection_finish(session):
    # Tracing makes millions of small objects, few of them garbage: to look for it takes a twentieth
    # of the time.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def jit_with():
    """`jax.jit` with other values of the compiler's options than the flags chosen above.

    For claims about last digits, which depend on the order of operations.
    """

    def jit(function, **options):
        chosen = os.environ["XLA_FLAGS"]
        options = {name: value for name, value in options.items() if name in chosen}
        return jax.jit(function, compiler_options=options or None)

    return jit


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
