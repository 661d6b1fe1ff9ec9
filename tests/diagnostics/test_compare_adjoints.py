"""The table of adjoints: what is right, what is wrong, what does not apply."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import pytest
from every_solver import EULER

import stiffrax as srx
from stiffrax.adjoints._differentiable_solve import AbstractRecordedAdjoint
from stiffrax.diagnostics._compare_adjoints import _relative_difference


def loss(rate, adjoint):
    decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    y0 = jnp.array(1.0)
    return diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, 0.1, y0, adjoint=adjoint).ys[-1]


class Halved(AbstractRecordedAdjoint):
    """Half of the gradient."""

    failed: str = "zero"

    def push(self, solved, tangents):
        return jax.tree.map(lambda x: x / 2, srx.DiscreteAdjoint().push(solved, tangents))

    def pull(self, solved, cotangents, *, times):
        found = srx.DiscreteAdjoint().pull(solved, cotangents, times=times)
        return jax.tree.map(lambda x: x / 2, found)


ADJOINTS = {
    "DiscreteAdjoint()": srx.DiscreteAdjoint(),
    "ForwardSensitivity()": srx.ForwardSensitivity(),
    "a wrong one": Halved(),
    "diffrax.BacksolveAdjoint()": diffrax.BacksolveAdjoint(),
}


@functools.cache
def comparison():
    return srx.diagnostics.compare_adjoints(loss, jnp.array(2.0), ADJOINTS, repeats=2)


def rows():
    return {row.name: row for row in comparison().rows}


@pytest.mark.slow
def test_the_first_adjoint_is_the_measure_of_the_others():
    assert rows()["DiscreteAdjoint()"].difference == 0
    assert 0 <= rows()["ForwardSensitivity()"].difference < 1e-12


@pytest.mark.slow
def test_time_and_memory_are_measured():
    row = rows()["DiscreteAdjoint()"]
    assert row.seconds > 0
    assert row.megabytes > 0


@pytest.mark.slow
def test_a_wrong_gradient_is_marked_and_not_recommended():
    assert not rows()["a wrong one"].is_right
    assert "a wrong one" not in comparison().recommendation()
    line = next(line for line in str(comparison()).splitlines() if "a wrong one" in line)
    assert line.endswith("wrong")


@pytest.mark.slow
def test_an_adjoint_that_does_not_apply_is_listed_with_its_reason():
    row = rows()["diffrax.BacksolveAdjoint()"]
    assert not row.is_right
    assert "closed-over value" in str(row.refusal)
    assert str(row.refusal) in str(comparison())


@pytest.mark.slow
def test_the_recommendation_is_the_last_line():
    assert str(comparison()).splitlines()[-1] == comparison().recommendation()
    assert comparison().recommendation().startswith(f"Use {comparison().fastest.name}")


def test_a_loss_that_is_no_number_is_the_callers_mistake():
    with pytest.raises(ValueError, match=r"shape \(1,\).*jnp\.sum"):
        srx.diagnostics.compare_adjoints(lambda p, adjoint: p, jnp.ones(1))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("repeats", [0, 2.5])
def test_repeats_that_are_no_count_are_refused(repeats):
    with pytest.raises(ValueError, match=rf"`repeats={repeats}` was given.*Write `repeats=5`"):
        srx.diagnostics.compare_adjoints(loss, jnp.array(2.0), repeats=repeats)


@pytest.mark.slow
def test_no_finite_gradient_is_said_with_all_reasons():
    adjoints = {"DiscreteAdjoint()": srx.DiscreteAdjoint()}
    with pytest.raises(ValueError, match=r"No adjoint.*DiscreteAdjoint\(\): not finite"):
        srx.diagnostics.compare_adjoints(
            lambda p, adjoint: loss(p, adjoint) + jnp.sqrt(p - 2.0), jnp.array(2.0), adjoints
        )


def test_why_a_solve_failed_is_said():
    def too_few(rate, adjoint):
        decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
        options = {"adjoint": adjoint, "max_steps": 2}
        return diffrax.diffeqsolve(decay, EULER, 0.0, 1.0, 0.1, jnp.array(1.0), **options).ys[-1]

    with pytest.raises(ValueError, match=r"\(a: The maximum number of solver steps was reached"):
        srx.diagnostics.compare_adjoints(too_few, jnp.array(2.0), {"a": srx.DiscreteAdjoint()})


def test_gradients_that_are_all_zero_tell_no_adjoint_from_another():
    # As those of solves that failed under `throw=False`.
    with pytest.raises(ValueError, match=r"finite and not zero \(a: zero like .*; b: zero like"):
        srx.diagnostics.compare_adjoints(
            lambda p, adjoint: 0.0 * p, jnp.array(2.0), dict.fromkeys("ab", srx.DiscreteAdjoint())
        )


@pytest.mark.parametrize("parameters", [2.0, {"k": 2, "name": "decay"}, ()])
def test_nothing_to_differentiate_by_is_refused_before_any_adjoint_is_called_right(parameters):
    with pytest.raises(ValueError, match=r"without floating-point arrays.*jnp\.array\(2\.0\)"):
        srx.diagnostics.compare_adjoints(loss, parameters)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_gradients_of_any_size_are_told_apart_in_single_precision(size):
    gradient = jnp.array([3.0, 4.0], jnp.float32) * jnp.float32(size)
    assert _relative_difference(gradient, gradient) == 0
    assert _relative_difference(2 * gradient, gradient) == pytest.approx(1)
