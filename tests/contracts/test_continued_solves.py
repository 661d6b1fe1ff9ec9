"""A solve that goes on from the state of the solver and the controller of another has its gradient."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stiffrax as srx


def half(rate, y0, t0, **states):
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -rate * y),
        srx.BackwardEuler(),
        t0,
        t0 + 1.0,
        0.25,
        y0,
        saveat=diffrax.SaveAt(steps=True, solver_state=True, controller_state=True),
        stepsize_controller=diffrax.PIDController(rtol=0.1, atol=0.1),
        adjoint=srx.DiscreteAdjoint(),
        max_steps=16,
        **states,
    )


def both(rate):
    first = half(rate, jnp.array(1.0), 0.0)
    states = {"solver_state": first.solver_state, "controller_state": first.controller_state}
    middle = first.ys[first.stats["num_accepted_steps"] - 1]
    second = half(rate, middle, 1.0, **states)
    end = second.ys[second.stats["num_accepted_steps"] - 1]
    return end, (first.ts, second.ts)


@pytest.mark.slow
def test_a_continued_solve_has_the_gradient_of_all_steps():
    (end, times), gradient = jax.value_and_grad(both, has_aux=True)(1.0)
    h = np.concatenate([np.diff(ts[np.isfinite(ts)], prepend=k) for k, ts in enumerate(times)])
    np.testing.assert_allclose(end, np.prod(1 / (1 + h)), rtol=1e-10)
    # Each step is a factor 1 / (1 + rate h); the sizes of steps are held fixed.
    np.testing.assert_allclose(gradient, -end * np.sum(h / (1 + h)), rtol=1e-10)
