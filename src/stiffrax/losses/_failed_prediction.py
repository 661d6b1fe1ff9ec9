"""Why a prediction could not be made, in words."""

from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np
import paramax


def failed_step(model: Any, ta: Any, tb: Any, ya: Any, yb: Any) -> str:
    """Why the step from sample `ya` at `ta` to sample `yb` at `tb` could not be solved.

    Found afterwards, by calling the model at both samples: steps report no cause, so that solved ones
    pay nothing for it.
    """
    model = paramax.unwrap(model)
    where = f"the step from t = {float(ta):.6g} to {float(tb):.6g}"
    for t, y in ((ta, ya), (tb, yb)):
        if not np.all(np.isfinite(np.asarray(model(jnp.asarray(t), jnp.asarray(y), None)))):
            return f"{where}: the model is not finite at t = {float(t):.6g}, y = {np.asarray(y)}"
    return f"{where}: its equations were not solved, or the solution left the range of numbers"


def failed_solve(run: str, t0: Any, solution: diffrax.Solution) -> str:
    """Why the solve of a run failed."""
    cause = diffrax.RESULTS[solution.result]
    return f"the solve of {run} from t = {float(t0):.6g}: {cause.strip()}"
