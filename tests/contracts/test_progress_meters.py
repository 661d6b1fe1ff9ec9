"""The progress meters of diffrax see the steps of our solvers and adjoints."""

import diffrax
import jax.numpy as jnp
import pytest
from every_solver import EULER

import stiffrax as srx

ADJOINTS = {"checkpoints": diffrax.RecursiveCheckpointAdjoint(), "ours": srx.DiscreteAdjoint()}


@pytest.mark.slow_cases("ours")
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_a_progress_meter_of_diffrax_counts_to_the_end(adjoint, capfd):
    diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: -y),
        EULER,
        t0=0.0,
        t1=1.0,
        dt0=0.25,
        y0=jnp.array(1.0),
        adjoint=ADJOINTS[adjoint],
        progress_meter=diffrax.TextProgressMeter(minimum_increase=0.0),
    ).ys.block_until_ready()
    shown = capfd.readouterr().out.split()
    assert shown[0] == "0.00%"
    assert shown[-1] == "100.00%"
    assert "50.00%" in shown
