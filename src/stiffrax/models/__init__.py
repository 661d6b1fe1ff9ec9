"""Right-hand sides to learn: equinox modules called as `model(t, y, args=None) -> dy/dt`.

Every model takes one state vector `y` of shape `(n,)`, so it is a diffrax vector field as it is.
Batches go through `jax.vmap`.
"""

from ._linear import (
    AbstractLinearModel as AbstractLinearModel,
    AbstractTermModel as AbstractTermModel,
    Library as Library,
)
from ._parameter import (
    Parameter as Parameter,
    bounded as bounded,
    bounds_of as bounds_of,
    check_trainable as check_trainable,
    fixed as fixed,
    has_bounds as has_bounds,
    is_fixed as is_fixed,
    positive as positive,
    split_trainable as split_trainable,
    within_bounds as within_bounds,
)
from ._partially_known import ConstrainedField as ConstrainedField, PartiallyKnown as PartiallyKnown
from ._pi_net import PiNet as PiNet
from ._polynomial import Polynomial as Polynomial
from ._reaction_network import ReactionNetwork as ReactionNetwork
from ._system import (
    SteadyState as SteadyState,
    System as System,
    check_no_system as check_no_system,
)
from ._wrapped_fields import (
    CoupledField as CoupledField,
    ScaledField as ScaledField,
    check_coupling as check_coupling,
)
