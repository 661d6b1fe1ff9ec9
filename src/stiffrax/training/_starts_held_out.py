"""Refuses runs held out that start by numbers of their own, which nothing trains."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array

from ..data import Measurements
from ..models import SteadyState, System, split_trainable
from ._new_runs import is_run_of


def check_starts_trained(system: System, data: Measurements, held_out: Measurements) -> None:
    """Refuses a run held out that starts by a parameter that the number of no other run leads to."""
    parameters, rest = split_trainable(system)

    def start(parameters: Any, args: Any, number: Array) -> Array:
        whole = paramax.unwrap(eqx.combine(parameters, rest))
        given = whole.initial_state
        given = given.initial_state if isinstance(given, SteadyState) else given
        args = dataclasses.replace(args, run=number, parameters=whole.parameters)
        y = given(args) if callable(given) else given[number]
        y = jnp.concatenate([jnp.ravel(jnp.asarray(x, float)) for x in jax.tree.leaves(y)])
        # Weights by which no sum of states is zero.
        return jnp.sum(y * jnp.sqrt(1.0 + jnp.arange(y.size, dtype=float)))

    @eqx.filter_jit
    def by_number(parameters: Any, args: Any, numbers: Array) -> Any:
        """The derivatives of the start, were it that of the run of each number."""
        return jax.vmap(lambda number: jax.grad(start)(parameters, args, number))(numbers)

    if not jax.tree.leaves(parameters) or not _goes_by_run(system):
        return
    firsts = np.asarray(data.first_values()), np.asarray(held_out.first_values())
    for i, name in enumerate(held_out.run_names):
        if is_run_of(data, held_out, i, *firsts):
            continue
        numbers = jnp.asarray([held_out.numbers[i], *data.numbers])
        slopes = by_number(parameters, held_out.conditions(i), numbers)
        used = [np.asarray(x).reshape(len(numbers), -1) != 0 for x in jax.tree.leaves(slopes)]
        own, *others = np.concatenate(used, axis=1)
        # By a number that another run has, it would start as that one.
        taken = held_out.numbers[i] in data.numbers and np.any(own != others)
        if taken or np.any(own & ~np.any(others, axis=0)):
            raise ValueError(
                f"Run {name!r} is held out, and it would start by a parameter that stands for one run, "
                "a row of `initial_state` or what `args.run` leads to: no run that is trained on says "
                "what it is. Write `srx.fixed(...)` around starts that are known, or leave `held_out` "
                "out."
            )


def _goes_by_run(system: System) -> bool:
    """Whether the initial state may be another one for each run."""
    given = paramax.unwrap(system).initial_state
    given = given.initial_state if isinstance(given, SteadyState) else given
    return callable(given) or (eqx.is_array(given) and given.ndim == 2)
