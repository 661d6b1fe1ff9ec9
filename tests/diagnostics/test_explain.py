import functools

import diffrax
import jax
import jax.numpy as jnp
import pytest

import stiffrax as srx
from stiffrax.diagnostics import explain


@functools.cache
def solve(kind):
    fields = {
        "blow up": (lambda t, y, args: jnp.stack([-y[0], y[1] ** 2]), 2.0, {}),
        "fine": (lambda t, y, args: -y, 2.0, {}),
        "few steps": (lambda t, y, args: -1e3 * (y - jnp.cos(t)), 2.0, {"max_steps": 5}),
        "backward": (lambda t, y, args: jnp.stack([y[0], -(y[1] ** 2)]), -2.0, {}),
    }
    field, t1, options = fields[kind]
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        srx.RadauIIA5(),
        0.0,
        t1,
        0.1 if t1 > 0 else -0.1,
        jnp.ones(2),
        stepsize_controller=srx.PredictiveController(rtol=1e-6, atol=1e-8, dtmin=1e-9),
        adjoint=srx.DiscreteAdjoint(),
        throw=False,
        **options,
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


def test_time_that_runs_backward_is_shown_as_the_caller_has_it():
    assert "from t = -1 " in explain(solve("backward"))


def test_the_limit_of_steps_is_named():
    text = explain(solve("few steps"))
    assert text.startswith("Stopped at the limit of steps, in the step from t = ")
    assert "raise `max_steps`" in text


def test_no_counts():
    plain = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y), srx.RadauIIA5(), 0.0, 1.0, 0.5, jnp.ones(1)
    )
    with pytest.raises(ValueError, match=r"no counts.*adjoint=stiffrax.DiscreteAdjoint\(\)"):
        explain(plain)


def test_a_batch():
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), solve("fine"))
    with pytest.raises(ValueError, match=r"batch of shape \(2,\).*lambda x: x\[0\]"):
        explain(batch)
