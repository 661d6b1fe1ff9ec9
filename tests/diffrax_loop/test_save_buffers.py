import diffrax
import jax
import numpy as np
from every_solver import EULER

import stiffrax as srx


def test_a_buffer_of_times_alone_has_no_place_in_a_derivative():
    subs = [
        diffrax.SubSaveAt(t1=True),
        diffrax.SubSaveAt(steps=True, fn=lambda t, y, args: None),
    ]

    def end(y0):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -y),
            EULER,
            0.0,
            1.0,
            0.5,
            y0,
            saveat=diffrax.SaveAt(subs=subs),
            adjoint=srx.DiscreteAdjoint(chunk=2),
            max_steps=2,
        )
        return solution.ys[0][0], solution.ts[1]

    slope, times = jax.jit(jax.grad(end, has_aux=True))(1.0)
    np.testing.assert_allclose(slope, 0.25)
    np.testing.assert_array_equal(times, [0.5, 1.0])
