"""Jacobians of an unknown system from its samples."""

import numpy as np
from jaxtyping import Float

from .._arguments import check_choice, check_count
from .._options import JacobianKind
from ..data import Trajectories, check_trajectories, find_neighborhoods


def estimate_jacobians(
    data: Trajectories,
    num_neighbors: int,
    *,
    theiler: int = 10,
    kind: JacobianKind = "field",
) -> Float[np.ndarray, "runs times n n"]:
    r"""Jacobians at the samples of a series, by local linear fits to nearest neighbors.

    $$\min_{A_k, b_k} \sum_j |y_{j+1} - y_{k+1} - b_k - A_k (y_j - y_k)|^2, \qquad
    J_k = \frac{1}{2 \Delta t} (\log A_{k-1} + \log A_k)$$

    over the neighbors `j` of the sample `k`. `A` is the derivative of the flow over one sampling
    time, its logarithm that of the vector field halfway; the mean of two is that at the sample. Where
    only one is known, as at both ends of a run, it is that one, half a sampling time off.

    Where all neighbors lie on a sheet, as on the attractor of Lorenz, they do not show how
    differences across it change, and that part of the estimate is arbitrary.

    **Arguments:**

    - `data`: equally spaced samples.
    - `num_neighbors`: of each fit; `n + 1`, its unknowns a state, or more, so that noise averages.
    - `theiler`: samples so close in time are no neighbors.
    - `kind`: `"field"` for `J`, per unit of time, or `"flow"` for `A`.

    **Returns:** `Float[ndarray, "runs times n n"]`; NaN at the last sample of a run for `"flow"`,
    and where samples are missing.

    **Raises:** `ValueError` for too few neighbors or samples, constant states, samples not equally
    spaced, and another kind.

    Cost: a least-squares fit and a matrix logarithm a sample.

    ??? cite "Reference"
        Sano and Sawada, *Measurement of the Lyapunov spectrum from a chaotic time series*, Physical
        Review Letters 55 (1985).

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 3.0, 61)
    >>> runs = [np.outer(np.exp(-ts), [1.0, y]) * [[1, np.exp(-t)] for t in ts] for y in (1, 2, 3)]
    >>> data = srx.Trajectories.from_arrays(ts, np.stack(runs))  # x' = -x, y' = -2 y
    >>> J = srx.diagnostics.estimate_jacobians(data, num_neighbors=8, theiler=0)
    >>> print(J[0, 10].round(6) + 0.0)
    [[-1.  0.]
     [ 0. -2.]]

    ```
    """
    check_choice("estimate_jacobians", "kind", kind, "field", "flow")
    n = check_trajectories(data).num_states
    check_count("num_neighbors", num_neighbors, least=n + 1, write=f"num_neighbors={4 * n}")
    found = find_neighborhoods(data, num_neighbors, theiler=theiler)
    # In units of the states' ranges: in their own, rounding would hide the small ones.
    size = np.ptp(np.asarray(data.ys)[np.asarray(data.mask)], axis=0)
    flat = np.asarray(data.ys).reshape(-1, n) / size
    flows = np.full((len(flat), n, n), np.nan)
    pairs = zip(np.asarray(found.centers), np.asarray(found.neighbors), strict=True)
    for center, neighbors in pairs:
        flows[center] = _linear_fit(
            flat[neighbors] - flat[center], flat[neighbors + 1] - flat[center + 1]
        )
    flows = flows.reshape(*data.ys.shape, n)
    flows = flows if kind == "flow" else _of_field(flows, found.dt)
    return flows * size[:, None] / size


def _linear_fit(
    before: Float[np.ndarray, "neighbors n"], after: Float[np.ndarray, "neighbors n"]
) -> Float[np.ndarray, "n n"]:
    # With a constant: the centers' own noise must not tilt the fit.
    design = np.column_stack([before, np.ones(len(before))])
    return np.linalg.lstsq(design, after, rcond=None)[0][:-1].T


def _of_field(
    flows: Float[np.ndarray, "runs times n n"], dt: float
) -> Float[np.ndarray, "runs times n n"]:
    from scipy.linalg import logm

    halfway = np.full_like(flows, np.nan)
    for index in np.argwhere(np.isfinite(flows[..., 0, 0])):
        # A fit spoiled by noise may have no real logarithm: the real part is the nearest to it.
        halfway[tuple(index)] = np.real(logm(flows[tuple(index)])) / dt
    before, after = halfway.copy(), halfway
    before[:, 1:] = halfway[:, :-1]
    before[:, 0] = np.nan
    both = np.stack([before, after])
    count = np.isfinite(both).sum(axis=0)
    return np.where(count > 0, np.nansum(both, axis=0) / np.maximum(count, 1), np.nan)
