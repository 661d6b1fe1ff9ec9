"""Reactors of gases with the mechanisms of Cantera, as vector fields of arrays alone.

Mechanisms are read by the package cantera: `pip install 'stiffrax[cantera]'`.
"""

from ._mechanism import Mechanism as Mechanism
from ._reactors import (
    ConstantPressureReactor as ConstantPressureReactor,
    ConstantVolumeReactor as ConstantVolumeReactor,
    state as state,
)
