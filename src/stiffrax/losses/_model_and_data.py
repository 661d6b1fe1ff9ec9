"""Whether a model and data belong together, said before anything is solved."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import paramax

from .._arguments import called, check_rates
from .._mass_models import check_no_mass
from .._trees import is_traced
from ..data import Trajectories, check_time_precision, check_trajectories
from ..models import check_no_system
from ..models._checks import check_own_names


def check_data(data: Any) -> Trajectories:
    """`data`, if they are samples of all states, at times that the precision of JAX tells apart."""
    data = check_trajectories(data)
    check_time_precision(data.ts, data.mask, data.run_names)
    return data


def check_known_data(data: Any) -> Trajectories:
    """`data`, if they are samples of all states with known values, which something is made from."""
    if is_traced(check_data(data)):
        raise ValueError(
            "The data are traced, and the loss is to be fixed to their values. Write "
            "`loss = loss.for_data(data)` outside of `jax.jit`."
        )
    return data


def check_model(model: Any, data: Trajectories) -> None:
    """Refuses a model that is more than a vector field of the states, or not in their order."""
    check_no_system("The model", model)
    check_no_mass("The model", model)
    check_own_names(model, data.names, "the data have")
    # In the precision of the data, which need not be the default.
    y = jax.ShapeDtypeStruct((data.num_states,), jnp.result_type(data.ys))
    t = jnp.zeros((), jnp.result_type(data.ts))
    what = f"For the {data.num_states} states of the data the model"
    out = eqx.filter_eval_shape(called, what, paramax.unwrap(model), t, y, None)
    check_rates("The model", out, y)
