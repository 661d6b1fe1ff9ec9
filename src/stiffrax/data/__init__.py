"""Measured runs: read, checked, padded and cut into segments."""

from ._neighborhoods import (
    Neighborhoods as Neighborhoods,
    cloud_size as cloud_size,
    find_neighborhoods as find_neighborhoods,
)
from ._scaling import Scaling as Scaling, check_sizes as check_sizes
from ._segments import Segments as Segments
from ._smoothing_spline import SmoothingSpline as SmoothingSpline
from ._trajectories import Trajectories as Trajectories
from ._windows import cut_windows as cut_windows, pick_runs as pick_runs
