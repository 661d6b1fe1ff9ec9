"""The code on the pages of the documentation that promise it runs as it stands there."""

import functools
import inspect
import pathlib
import re
import types
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
import pytest

import stiffrax as srx

DOCS = pathlib.Path(__file__).parents[1] / "docs"
CALL = re.compile(r"`((?:srx|diffrax|jax|eqx)\.[^`]+)`")


def second_state(k, t=2.0):
    """The solution of the page's equations in closed form."""
    a, b = k**2 / (1 + k**2), k / (1 + k**2)
    slow = ((a - b) * np.cos(t) + (a + b) * np.sin(t)) / 2
    fast = -a / (1 - k)
    return slow + fast * np.exp(-k * t) + (1 - (a - b) / 2 - fast) * np.exp(-t)


def blocks(page):
    """The code of a page in order; what is indented belongs to a list and is a setting by itself."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


def run(page, only=(), **given):
    """What the blocks define, run one after the other beside what the page takes from its reader."""
    # With the settings that JAX has by default, which optax needs.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for number, block in enumerate(blocks(page), start=1):
            if not only or number in only:
                exec(compile(block, f"{page.name}, block {number}", "exec"), given)
    return given


@pytest.mark.slow
# diffrax says so of every complex state.
@pytest.mark.filterwarnings("ignore:Complex dtype support")
def test_the_blocks_on_solvers_run():
    found = run(DOCS / "solvers.md")
    assert found["explicit"].result == diffrax.RESULTS.max_steps_reached
    np.testing.assert_allclose(found["ends"][:, 0], 0.0, atol=0.0)
    np.testing.assert_allclose(found["ends"][:, 1], np.exp(-np.logspace(0, 3, 8)), atol=1e-6)
    slow = (np.cos(100.0) + np.sin(100.0)) / 2
    np.testing.assert_allclose(found["solution"].ys[-1], [np.cos(100.0), slow], atol=2e-3)
    assert found["happened"]
    assert 2 < found["time"] < 3
    np.testing.assert_allclose(second_state(1000.0, found["time"]), 0.0, atol=1e-6)


@pytest.mark.slow
def test_the_block_on_adjoints_runs():
    end = run(DOCS / "adjoints.md")["end"]
    assert end(2.0) == pytest.approx(np.exp(-2.0), rel=1e-5)


@pytest.mark.slow
def test_the_block_on_constraints_runs():
    solution = run(DOCS / "dae.md")["sol"]
    np.testing.assert_allclose(solution.ys[-1].sum(), 1.0, rtol=1e-12)
    expected = srx.problems.robertson().reference_values
    times = srx.problems.robertson().reference_times
    np.testing.assert_allclose(solution.ys[-1], expected[times == 1e5][0], rtol=1e-5)


@pytest.mark.slow
def test_the_blocks_on_own_methods_run():
    found = run(DOCS / "own_method.md")
    np.testing.assert_allclose(found["solution"].ys[-1], np.cos(1.0) + np.sin(1.0) / 1e3, rtol=1e-5)
    assert found["solver"].tableau.kind == "explicit"


def test_the_noise_on_own_methods_is_a_density_with_the_informations_that_it_says():
    found: dict[str, Any] = {}
    exec(blocks(DOCS / "own_method.md")[0].split("class")[0], found)
    exec(blocks(DOCS / "own_method.md")[3], found)
    noise, z = found["loss"].noise, np.linspace(-60.0, 60.0, 20001)
    density, slope = np.exp(-noise.rho(z)), np.asarray(noise.slope(z))
    moments = [density, density * z**2, density * slope**2, density * (1 - z * slope) ** 2]
    expected = [1.0, 1.0, *noise.information()]
    np.testing.assert_allclose(np.sum(moments, axis=1) * (z[1] - z[0]), expected, rtol=1e-8)
    np.testing.assert_allclose(jax.vmap(jax.grad(noise.rho))(jnp.asarray(z)), slope, atol=1e-12)


class Decaying(NamedTuple):
    """Runs of A -> B -> C, rates 2 and 0.5, in closed form, with different totals."""

    ts: np.ndarray = np.linspace(0.0, 4.0, 21)

    def states(self, total):
        a = total * np.exp(-2 * self.ts)
        b = total * 4 / 3 * (np.exp(-0.5 * self.ts) - np.exp(-2 * self.ts))
        return np.stack([a, b, total - a - b], axis=1)

    def write(self, path, run, **constant):
        rows = [
            ",".join(map(str, [name, t, *ys, *constant.values()]))
            for name, total in (("a", 1.0), ("b", 2.0), ("c", 0.5))
            for t, ys in zip(self.ts, self.states(total).tolist(), strict=True)
        ]
        path.write_text("\n".join([",".join([run, "t", "A", "B", "C", *constant]), *rows, ""]))


@pytest.fixture
def reactions_csv(tmp_path, monkeypatch):
    """The files that the guide to equations reads."""
    monkeypatch.chdir(tmp_path)
    Decaying().write(tmp_path / "runs.csv", "run")
    Decaying().write(tmp_path / "batches.csv", "batch", operator="Ann")
    rows = (tmp_path / "runs.csv").read_text().splitlines()
    rows[2::3] = [row[: row.rindex(",") + 1] for row in rows[2::3]]
    (tmp_path / "gaps.csv").write_text("\n".join([*rows, ""]))


@pytest.mark.slow
def test_the_blocks_on_equations_run(reactions_csv, monkeypatch):
    network = srx.ReactionNetwork(["A -> B", "B -> C"], rates=[2.0, 0.5])
    for fit in (srx.fit_least_squares, srx.fit_parameters):
        monkeypatch.setattr(srx, fit.__name__, untrained(fit))
    finds = network.to_polynomial(), network
    monkeypatch.setattr(srx, "prune_and_refit", untrained(srx.prune_and_refit, *finds))
    found = run(DOCS / "equations.md")
    assert found["data"].names == found["more"].names == ("A", "B", "C")
    assert np.mean(found["measured"].mask) < 1
    assert found["sparse"].model.num_states == 3
    assert pathlib.Path("model.xml").read_text().count("<reaction ") == 2
    assert set(found["network"].reactions()) == {"A -> B", "B -> C"}
    assert found["comparison"].num_missing == found["comparison"].num_extra == 0
    assert len(found["candidates"].reactions()) > 2


@pytest.mark.slow
def test_the_blocks_on_polynomials_run(monkeypatch):
    for fit in (srx.fit, srx.prune_and_refit):
        monkeypatch.setattr(srx, fit.__name__, untrained(fit))
    found = run(DOCS / "polynomial.md", range=lambda steps: [0])
    assert jnp.isfinite(found["value"])
    # What is known and `-1000 y2`, which is to be found, are the equations of the data.
    state = found["ys"][0, -1]
    slope = float(found["known"](0.0, state, None)[1]) - 1000 * state[1]
    assert slope == pytest.approx(-state[1], rel=1e-2)


@pytest.mark.slow
def test_the_blocks_on_chaotic_series_run(monkeypatch):
    for fit in (srx.fit, srx.fit_homotopy):
        monkeypatch.setattr(srx, fit.__name__, untrained(fit))
    spectrum = srx.diagnostics.lyapunov_spectrum
    short = {"time": 10.0, "burn_in": 1.0}
    monkeypatch.setattr(
        srx.diagnostics,
        "lyapunov_spectrum",
        lambda field, y0, **options: spectrum(field, y0, **(options | short)),
    )
    found = run(DOCS / "chaotic.md")
    assert found["data"].num_runs == 5
    assert found["held"].num_runs == 1
    assert np.all(np.isfinite(found["spectrum"].exponents))
    # An untrained network moves the states as fast as the data.
    y = jnp.asarray(found["data"].ys[0])
    rates = np.abs(jax.vmap(lambda y: found["model"](0.0, y, None))(y)).mean(axis=0)
    slopes = np.abs(np.gradient(np.asarray(y), 0.05, axis=0)).mean(axis=0)
    assert np.all((rates > 0.05 * slopes) & (rates < 20 * slopes))


@pytest.mark.slow
def test_the_block_on_learned_methods_runs():
    found = run(DOCS / "learnable.md")
    assert jax.tree.leaves(found["updates"])
    # The optimizer takes the model toward y' = -y.
    assert found["model"].coefficients[0, 1] < -0.9


def test_the_block_on_tables_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assay.csv").write_text("t,A [mM],B\n0,1.0,\n1,0.5,0.4\n1,,0.6\n")
    assert run(DOCS / "data.md")["data"].names == ("A", "B")


def bound(times, ligand, on=2.0, off=0.5):
    """The share that is bound, in closed form."""
    rate = on * ligand + off
    return on * ligand / rate * (1 - np.exp(-rate * times))


@pytest.fixture
def binding_csv(tmp_path, monkeypatch):
    """The file that the guide and the front page fit, with noise of one percent, simulated."""
    monkeypatch.chdir(tmp_path)
    rng, times = np.random.default_rng(0), np.linspace(0.0, 4.0, 9)
    rows = [
        f"{run},{t},{ligand},{2.5 * bound(t, ligand) + 0.01 * rng.normal():.4f}"
        for run, ligand in (("a", 0.5), ("b", 2.0))
        for t in times
    ]
    (tmp_path / "binding.csv").write_text("\n".join(["run,t,ligand,signal", *rows, ""]))


@pytest.mark.slow
def test_the_blocks_on_measured_data_find_the_rates_and_predict(binding_csv, monkeypatch):
    fit, start = srx.fit_parameters, untrained(srx.fit_parameters)

    def without_networks(system, *args, **options):
        hybrid = isinstance(system.field, srx.PartiallyKnown)
        return (start if hybrid else fit)(system, *args, **options)

    monkeypatch.setattr(srx, "fit_parameters", without_networks)
    found = run(DOCS / "measured.md")
    hybrid = found["hybrid_fit"].model
    assert type(hybrid.field.known) is found["Binding"]
    rates = paramax.unwrap(hybrid)(0.0, jnp.array([1.0, 0.0]), found["args"])
    assert np.all(np.isfinite(rates))
    assert found["small_weights"](hybrid, found["data"]) > 0
    assert found["fit"].values["field.k_on"] == pytest.approx(2.0, rel=0.1)
    expected = 2.5 * bound(np.array([0.0, 1.0, 2.0]), 8.0)
    np.testing.assert_allclose(found["predicted"][0, :, 0], expected, atol=0.05)
    half = (found["band"].upper - found["band"].lower)[0, 1:, 0] / 2
    assert np.all((half > 0) & (half < 0.1))
    np.testing.assert_allclose(found["solution"].ys[0].sum(), 1.0, rtol=1e-6)
    loss = found["with_prior"]
    system = found["system"]
    assert loss.losses[1](system, found["data"]) == 0


@pytest.mark.slow
def test_the_fit_on_the_front_page_finds_the_rates(binding_csv):
    found: dict[str, Any] = {}
    with jax.numpy_dtype_promotion("standard"):
        exec(blocks(DOCS.parent / "README.md")[1], found)
    assert found["fit"].values["parameters.k_off"] == pytest.approx(0.5, rel=0.1)


def _two_steps(fit, *args, **options):
    # Without runs to judge by, which is one more program to compile.
    return fit(*args, **(options | {"steps": 2, "held_out": None, "patience": None}))


@pytest.mark.slow
def test_the_block_on_training_runs_and_its_model_can_be_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(srx, "fit", functools.partial(_two_steps, srx.fit))
    found = run(DOCS / "training.md", only=(1, 3))
    assert found["predicted"].shape == (5, 18, 2)
    assert eqx.tree_equal(found["model"], found["fit"].model)


def untrained(fit, *finds):
    """`fit` without its steps: it finds the model, or what is given here in its place."""

    @functools.wraps(fit)
    def checked(model, data, *last, **options):
        inspect.signature(fit).bind(model, data, *last, **options)
        if "optimizer" in options:
            assert jnp.isfinite(last[0](model, data))
            options["optimizer"].init(eqx.filter(model, eqx.is_inexact_array))
        found = next((x for x in finds if type(x) is type(model)), model)
        return types.SimpleNamespace(model=found, system=found)

    return checked


@pytest.mark.slow
def test_the_recipe_for_stiff_networks_can_be_written_so(monkeypatch):
    for fit in (srx.fit, srx.fit_least_squares):
        monkeypatch.setattr(srx, fit.__name__, untrained(fit))
    found = run(DOCS / "training.md", only=(1, 2))
    # The clock passes the first gap, and each decade after it, in steps of one size.
    start, times = jnp.asarray(found["data"].ys[0, 0]), (0.0, 1e-4, 1e-1, 1.0)
    clock = [found["model"].features(t, start)[-1] for t in times]
    np.testing.assert_allclose(clock[:2], [0.0, np.arcsinh(1.0) / np.arcsinh(1e4)])
    np.testing.assert_allclose(clock[3] - clock[2], (clock[2] - clock[1]) / 3, rtol=0.1)
    assert found["fit"].model is found["model"]


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) for page in ("docs/index.md", "README.md")]
)
def test_the_first_block_of_the_front_pages_runs(page):
    found: dict[str, Any] = {}
    exec(blocks(DOCS.parent / page)[0], found)
    value = found["value"] if "value" in found else found["solution"].ys[-1, 2]
    assert value == pytest.approx(9.821340061103858513e-1, rel=1e-6)


@pytest.fixture(scope="module")
def coming_from():
    page = DOCS / "coming_from.md"
    return page.read_text(), run(page)


@pytest.mark.slow
def test_the_blocks_for_newcomers_run_and_agree_with_scipy(coming_from):
    _, found = coming_from
    assert found["difference"] < 1e-5
    assert found["value"] == pytest.approx(second_state(1000.0), rel=1e-6)
    assert found["gradient"] == pytest.approx(second_state(1000.0 + 1e-30j).imag / 1e-30, rel=1e-3)
    assert found["fit"].history.loss.shape == (20,)


@pytest.mark.slow
def test_every_call_in_the_tables_for_newcomers_can_be_written_so(coming_from):
    page, found = coming_from
    calls = CALL.findall(page)
    assert len(calls) > 40
    dense = found["solve"](1000.0, saveat=diffrax.SaveAt(dense=True))
    for call in calls:
        eval(call, found | {"solution": dense})
    (pattern,) = (call for call in calls if "Sparsity(" in call)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(found["field"]),
        eval(pattern, found),
        0.0,
        2.0,
        None,
        jnp.array([0.0, 1.0]),
        args=1000.0,
        stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-9),
    )
    np.testing.assert_allclose(solution.ys[-1], found["solution"].ys[-1], rtol=1e-9)
