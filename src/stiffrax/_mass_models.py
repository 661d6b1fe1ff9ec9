"""Models that are solved in the form `M y' = f`, and where `f` alone will not do."""

from typing import Any

import equinox as eqx
import jax


class AbstractMassModel(eqx.Module):
    """A model whose field is no rate of change of the states where `mass` is not `None`."""

    mass: eqx.AbstractVar[Any]


def _is_of_mass(node: Any) -> bool:
    return isinstance(node, AbstractMassModel) and node.mass is not None


def check_no_mass(
    what: str, model: Any, write: str = "Put what the constraints determine into the field"
) -> None:
    """Refuses a model in the form `M y' = f`, or one with such a part, whose `f` is taken for `y'`."""
    if any(map(_is_of_mass, jax.tree.leaves(model, is_leaf=_is_of_mass))):
        raise ValueError(
            f"{what} is of the form M y' = f, or has a part that is, and f is no rate of change of the "
            f"states. {write}; or fit `srx.System(model)` to "
            "`srx.Measurements.from_trajectories(data)` by `srx.LikelihoodLoss`, which solves with M."
        )
