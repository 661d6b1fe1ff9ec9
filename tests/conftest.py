import fnmatch
import gc
import os
from pathlib import Path

import equinox as eqx
import jax
import jaxtyping
import pytest

# The package is not imported here: the jaxtyping plugin checks only what is imported after it.
jax.config.update("jax_enable_x64", True)
# What runs without promotion of types or ranks also runs in the programs of those who forbid it.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
if "JAX_PLATFORMS" not in os.environ:
    jax.config.update("jax_platforms", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")


# Collecting tests and tracing make millions of small objects, few of them garbage: to look for it takes
# a twentieth of the time.
gc.set_threshold(20_000, 20, 20)


def pytest_collection_finish(session):
    gc.freeze()


def _mark_slow_cases(name, cases):
    """Marks the cases of a test that its `slow_cases` name; yields what is wrong with the patterns."""
    patterns = [x for mark in cases[0].iter_markers("slow_cases") for x in mark.args]
    for pattern in patterns:
        slow = [
            item
            for item in cases
            if fnmatch.fnmatchcase(item.name.partition("[")[2].removesuffix("]"), pattern)
        ]
        for item in slow:
            item.add_marker("slow")
        if not slow:
            yield f"{name}: {pattern} fits no case"
    # Which claims the usual suite keeps should be seen at a test.
    if patterns and all(item.get_closest_marker("slow") for item in cases):
        yield f"{name}: all cases are slow, write `slow`"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    # Of a test with many cases the mark `slow_cases` has patterns of those that the usual suite
    # leaves out.
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    wrong = [line for name, cases in tests.items() for line in _mark_slow_cases(name, cases)]
    # Cases that are chosen one by one leave others out.
    whole = not any("::" in str(argument) for argument in config.args)
    if whole and wrong:
        raise pytest.UsageError("`slow_cases`: " + "; ".join(wrong))


@pytest.fixture
def unchecked_types():
    """Without the checks of annotations, which would refuse an input before the package does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def getkey():
    """A function that returns a new random key at each call, the same ones in every run."""
    seed = iter(range(1_000_000))
    return lambda: jax.random.key(next(seed))


MAPS, MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


def _free_compiled_programs():
    # A program takes three to five of the memory maps that a process may have, and compiling crashes
    # when none is left. To keep programs as long as there are enough saves to compile the operations
    # that all files use in each of them.
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) < int(MOST_MAPS.read_text()) / 3:
        return
    # equinox's alone keeps the programs of `jax.jit` and of operations outside of any.
    eqx.clear_caches()
    jax.clear_caches()
    gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _after_each_file():
    yield
    _free_compiled_programs()


@pytest.fixture(autouse=True)
def _after_each_slow_test(request):
    # A file of these can use up all maps; for the others it would take as long to count them.
    yield
    if request.node.get_closest_marker("slow"):
        _free_compiled_programs()
