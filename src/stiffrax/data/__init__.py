"""Measured runs: read, checked, padded and cut into segments."""

from ._segments import Segments as Segments
from ._trajectories import Trajectories as Trajectories
