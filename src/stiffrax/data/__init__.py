"""Measured runs: read, checked, padded and cut into windows."""

from ._derived_measurements import common_units as common_units
from ._known_input import KnownInput as KnownInput
from ._measurements import Measurements as Measurements
from ._names import check_names as check_names
from ._neighborhoods import (
    Neighborhoods as Neighborhoods,
    cloud_size as cloud_size,
    find_neighborhoods as find_neighborhoods,
)
from ._run_checks import (
    check_measured_times as check_measured_times,
    check_time_precision as check_time_precision,
)
from ._run_conditions import Conditions as Conditions, Dose as Dose
from ._scaling import (
    Scaling as Scaling,
    check_sizes as check_sizes,
    default_scale as default_scale,
    ranges_and_sizes as ranges_and_sizes,
    unit_of_rounding as unit_of_rounding,
)
from ._smoothing_spline import SmoothingSpline as SmoothingSpline
from ._trajectories import (
    Trajectories as Trajectories,
    check_same_samples as check_same_samples,
    check_trajectories as check_trajectories,
    cut_arrays as cut_arrays,
    cut_windows as cut_windows,
    digest_of_samples as digest_of_samples,
    pick_runs as pick_runs,
)
