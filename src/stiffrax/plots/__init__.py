"""Pictures of data, trainings, solves and methods: axes in, axes out. matplotlib loads on use."""

from ._parameter_fit import (
    measured_fit as measured_fit,
    normal_quantiles as normal_quantiles,
    profiles as profiles,
    waterfall as waterfall,
)
from ._solves import (
    lyapunov_convergence as lyapunov_convergence,
    newton_iterations as newton_iterations,
    steps as steps,
    work_precision as work_precision,
)
from ._stability_region import order_star as order_star, stability_region as stability_region
from ._training import (
    coefficients as coefficients,
    history as history,
    loss_landscape as loss_landscape,
)
from ._trajectories import trajectories as trajectories
