"""Pictures of data, trainings, solves and methods: axes in, axes out. matplotlib loads on use."""

from ._coefficients import coefficients as coefficients
from ._history import history as history
from ._loss_landscape import loss_landscape as loss_landscape
from ._lyapunov_convergence import lyapunov_convergence as lyapunov_convergence
from ._stability_region import order_star as order_star, stability_region as stability_region
from ._steps import newton_iterations as newton_iterations, steps as steps
from ._trajectories import trajectories as trajectories
from ._work_precision import work_precision as work_precision
