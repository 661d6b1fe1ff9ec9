"""What is said of a solve: where it failed, and what to try, which is never what is in use."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

import stiffrax as srx
from stiffrax.diagnostics import explain
from stiffrax.diagnostics._explain import _after_success
from stiffrax.diffrax_loop._counted_loop import _is_undamped

KINDS = ("blow up", "fine", "backward", "few steps")


def field(t, y, kind):
    """One of `KINDS`, chosen by data, so that they share a program."""
    fields = (
        lambda y: jnp.stack([-y[0], y[1] ** 2]),
        lambda y: -y,
        lambda y: jnp.stack([y[0], -(y[1] ** 2)]),
        lambda y: -1e3 * (y - jnp.cos(t)),
    )
    return jax.lax.switch(kind, fields, y)


@functools.cache
def solve(kind):
    direction = -1.0 if kind == "backward" else 1.0
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        jnp.asarray(2.0 * direction),
        jnp.asarray(0.1 * direction),
        jnp.ones(2),
        jnp.asarray(KINDS.index(kind)),
        stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-8, dtmin=1e-9),
        adjoint=srx.DiscreteAdjoint(),
        throw=False,
        max_steps=5 if kind == "few steps" else 4096,
    )


def test_a_success_is_its_work():
    stats = solve("fine").stats
    text = explain(solve("fine"))
    assert text.startswith(f"{stats['num_steps']} steps, ")
    assert f"{stats['num_factorizations']} factorizations." in text
    assert "To try" not in text


def test_a_singularity_is_found_in_time_and_component():
    first, *_, last = explain(solve("blow up"), names=["calm", "wild"]).splitlines()
    assert first.startswith("Failed in the step from t = 1 with h = ")
    assert "wild" in first
    assert last.startswith("To try: lower `dtmin`")
    assert "adaptive" not in last


@pytest.mark.slow
def test_time_that_runs_backward_is_shown_as_the_caller_has_it():
    assert "from t = -1 " in explain(solve("backward"))


@pytest.mark.slow
def test_the_limit_of_steps_is_named():
    text = explain(solve("few steps"))
    assert text.startswith("Stopped at the limit of steps, in the step from t = ")
    assert "raise `max_steps`" in text


@pytest.mark.slow
def test_the_steps_that_are_missing_are_estimated():
    text = explain(solve("few steps"))
    last = solve("few steps").stats["last_step"]
    needed = float(text.split("needs about ")[1].split(" steps")[0])
    assert needed == pytest.approx(5 + float((2.0 - last["t"]) / last["h"]), abs=0.6)


@pytest.mark.parametrize(("t1", "needed"), [(2.0, "needs about 8 steps"), (jnp.inf, None)])
def test_a_first_step_at_the_limit_of_steps_is_short_of_them(t1, needed):
    solution = solve("fine")
    stats = {**solution.stats, "num_steps": 4}
    stats["last_step"] = {**stats["last_step"], "t": solution.t0, "h": 0.5}
    stopped = stats, diffrax.RESULTS.max_steps_reached, solution.t0 + t1
    text = explain(eqx.tree_at(lambda s: (s.stats, s.result, s.t1), solution, stopped))
    assert "raise `max_steps`" in text
    assert ("steps in all" in text) is bool(needed)
    assert (needed or "") in text


@pytest.mark.parametrize("code", ["max_steps_reached", "dt_min_reached"])
def test_a_first_step_of_next_to_nothing_is_stuck(code):
    solution = solve("fine")
    last = {**solution.stats["last_step"], "t": solution.t0, "h": 1e-70}
    stats = {**solution.stats, "num_steps": 4, "last_step": last}
    stopped = stats, getattr(diffrax.RESULTS, code)
    text = explain(eqx.tree_at(lambda s: (s.stats, s.result), solution, stopped))
    assert "more steps will not help" in text
    assert "raise `max_steps`" not in text
    assert "dtmin" not in text


@pytest.mark.parametrize(
    ("dtype", "failed", "said"),
    [("float32", 136, True), ("float32", 3, False), ("float64", 136, False)],
)
def test_rounding_of_single_precision_is_named_where_iterations_fail(dtype, failed, said):
    solution = solve("fine")
    last = {**solution.stats["last_step"], "h": jnp.asarray(6e-8, dtype)}
    counts = {"num_steps": 365, "num_rejected_by_newton": failed, "last_step": last}
    stopped = {**solution.stats, **counts}, diffrax.RESULTS.dt_min_reached
    text = explain(eqx.tree_at(lambda s: (s.stats, s.result), solution, stopped))
    assert ("To try: give the state in double precision" in text) is said


def test_a_low_order_that_takes_many_steps_is_named():
    setup = dict.fromkeys(("predictive", "unpreconditioned", "undamped"), False)
    stats = {"num_steps": 2159, "num_rejected_by_newton": 0}
    stats.update(num_newton_iterations=5000, num_gmres_cycles=0)
    for order, advised in ((1, True), (5, False)):
        stats["setup"] = {**setup, "adaptive": True, "order": order}
        (text, *_) = (*_after_success(stats), "")
        assert ("`RadauIIA5`" in text) == advised


def test_a_solve_by_another_adjoint_is_explained_by_what_is_known():
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -1e3 * (y - jnp.cos(t))),
        srx.BackwardEuler(),
        0.0,
        2.0,
        0.1,
        jnp.ones(2),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-8),
        max_steps=2,
        throw=False,
    )
    first, second, last = explain(solution).splitlines()
    assert first.startswith("Failed: The maximum number of solver steps was reached")
    assert second == f"2 steps, {solution.stats['num_rejected_steps']} of them rejected."
    assert "not `LearnableRungeKutta`, with `adjoint=stiffrax.DiscreteAdjoint()`" in last


@pytest.mark.parametrize("names", [["calm"], "yz"])
def test_names_that_do_not_reach_the_component_are_refused(names):
    with pytest.raises(ValueError, match="component 2 of the state is to be named"):
        explain(solve("blow up"), names=names)


def test_what_is_advised_for_a_batch_explains_its_first_lane():
    one = solve("fine")
    # `equinox.filter_vmap` leaves what is no array as it is.
    batch = jax.tree.map(lambda x: jnp.stack([x, x]) if eqx.is_array(x) else x, one)
    with pytest.raises(ValueError, match="batch of shape") as refusal:
        explain(batch)
    written = str(refusal.value).split("`")[1]
    assert explain(eval(written, {"jax": jax, "eqx": eqx, "solution": batch})) == explain(one)


def test_a_batch():
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), solve("fine"))
    with pytest.raises(ValueError, match=r"batch of shape \(2,\).*lambda x: x\[0\]"):
        explain(batch)


def said(field, y0, controller, **options):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        options.pop("solver", srx.RadauIIA5()),
        0.0,
        2.0,
        options.pop("dt0", 1e-2),
        y0,
        stepsize_controller=controller,
        adjoint=srx.DiscreteAdjoint(),
        throw=False,
        **options,
    )
    return explain(solution)


PID = diffrax.PIDController(1e-6, 1e-9)
SQUARE, ROOT, LOGARITHM = jnp.arange(3)


def leaving(t, y, kind):
    """Fields whose solutions from 1, 1 and 0 leave the domain; they share a program."""
    fields = (jnp.square, lambda y: -1 - jnp.sqrt(y), lambda y: -jnp.log(y))
    return jax.lax.switch(kind, fields, y)


def test_more_steps_are_no_advice_where_steps_have_shrunk_to_nothing():
    text = said(leaving, jnp.ones(1), PID, args=SQUARE)
    assert "max_steps" not in text
    assert "dtmin" not in text
    assert "grows without bound" in text


@pytest.mark.slow
def test_a_solve_that_was_forced_to_its_smallest_step_has_an_adaptive_controller():
    controller = diffrax.PIDController(1e-6, 1e-9, dtmin=1e-6)
    text = said(leaving, jnp.ones(1), controller, args=SQUARE)
    assert "take an adaptive controller" not in text
    assert "lower `dtmin`" in text
    assert "force_dtmin=False" in text


def test_fixed_steps_are_told_of_adaptive_ones():
    fixed = {"solver": srx.BackwardEuler(), "dt0": 0.5}
    text = said(lambda t, y, args: y**2, jnp.ones(1), diffrax.ConstantStepSize(), **fixed)
    assert "take an adaptive controller" in text


def test_a_root_that_left_its_domain_is_looked_for_in_the_field():
    text = said(leaving, jnp.ones(1), PID, args=ROOT)
    assert "look for a root" in text
    assert "adaptive" not in text


def test_a_start_that_is_not_finite_is_named():
    text = said(leaving, jnp.zeros(1), PID, args=LOGARITHM)
    assert text.startswith("Failed in the step from t = 0 ")
    assert "print `vector_field(t, y, args)`" in text


@pytest.mark.parametrize(
    ("predictive", "advice"), [(False, "take `PredictiveController`"), (True, "lower order")]
)
def test_the_controller_in_use_is_not_recommended(predictive, advice):
    stats = {
        "num_steps": 100,
        "num_rejected_by_newton": 30,
        "setup": {
            "adaptive": True,
            "predictive": predictive,
            "unpreconditioned": False,
            "undamped": False,
            "order": 5,
        },
    }
    solution = solve("fine")
    tried = eqx.tree_at(lambda s: s.stats, solution, {**solution.stats, **stats})
    assert advice in explain(tried)
    assert ("PredictiveController" in explain(tried)) is not predictive


@pytest.mark.slow_cases("solver0")
@pytest.mark.parametrize("solver", [srx.GaussLegendre4(), srx.GaussLegendre6(), srx.Trapezoid()])
def test_methods_that_do_not_damp_are_named_where_steps_do_not_suffice(solver):
    assert _is_undamped(solver.tableau)
    assert not _is_undamped(srx.RadauIIA5().tableau)
    assert not _is_undamped(srx.Rodas5P().tableau)
    few = solve("few steps")
    setup = {**few.stats["setup"], "undamped": jnp.asarray(_is_undamped(solver.tableau))}
    undamped = eqx.tree_at(lambda s: s.stats, few, {**few.stats, "setup": setup})
    assert "take a method that damps" in explain(undamped)
    assert "take a method that damps" not in explain(few)


@pytest.mark.slow
def test_a_missing_preconditioner_is_named():
    text = said(
        lambda t, y, args: -(jnp.arange(1.0, 41.0) ** 4) * y,
        jnp.ones(40),
        srx.PredictiveController(1e-6, 1e-9),
        solver=srx.RadauIIA5(structure=srx.MatrixFree(restart=2, max_steps=2)),
        max_steps=40,
    )
    assert "To try: give `MatrixFree` a `preconditioner`" in text


@pytest.mark.slow
@pytest.mark.parametrize("part", [None, srx.BlockDiagonal(1)], ids=["none", "diagonal"])
def test_many_cycles_of_gmres_are_counted_and_explained(part):
    def heat(t, y, args):
        left, right = jnp.roll(y, 1).at[0].set(0), jnp.roll(y, -1).at[-1].set(0)
        return 1e5 * (left - 2 * y + right)

    text = said(
        heat,
        jnp.linspace(0, 1, 60),
        srx.PredictiveController(1e-4, 1e-6),
        solver=srx.RadauIIA5(structure=srx.MatrixFree(part, restart=3)),
    )
    assert "cycles of GMRES" in text.splitlines()[0]
    closer = "`MatrixFree` a `preconditioner` that is closer" in text
    missing = "`MatrixFree` a `preconditioner`, such as" in text
    assert (closer, missing) == (part is not None, part is None)


@pytest.mark.slow
def test_setups_are_told_apart_through_controllers_around_others():
    for inner, predictive in ((diffrax.PIDController, False), (srx.PredictiveController, True)):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y),
            srx.RadauIIA5(),
            0.0,
            1.0,
            0.1,
            jnp.ones(1),
            stepsize_controller=srx.RecordingController(inner(1e-3, 1e-6), num_rows=16),
            adjoint=srx.DiscreteAdjoint(),
        )
        assert solution.stats["setup"]["predictive"] == predictive
        assert solution.stats["setup"]["adaptive"]


@pytest.mark.slow
def test_constraints_that_do_not_hold_are_named_under_fixed_steps_too():
    term = srx.MassMatrixTerm(
        lambda t, y, args: jnp.stack([-y[0], y[0] - y[1]]), jnp.array([1.0, 0.0])
    )
    solution = diffrax.diffeqsolve(
        term,
        srx.BackwardEuler(),
        0.0,
        1.0,
        0.1,
        jnp.array([1.0, 5.0]),
        adjoint=srx.DiscreteAdjoint(),
        max_steps=16,
        throw=False,
    )
    text = explain(solution)
    assert "start a problem with a mass matrix from" in text
    assert "adaptive" not in text
