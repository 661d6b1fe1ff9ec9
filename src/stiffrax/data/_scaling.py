"""Sizes of states and times."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import check_choice, real_numbers
from .._options import Size
from ._trajectories import Trajectories, check_trajectories


@final
class Scaling(eqx.Module):
    r"""The size of every state and of the time, as measured by data or as given.

    $$\mathrm{range}_i = \max y_i - \min y_i \quad \text{or} \quad \mathrm{max}_i = \max |y_i|,
    \qquad t_{scale} = \max_{runs} (t_1 - t_0)$$

    Stiff states differ by orders of magnitude. Divided by their scales they are comparable, which
    is what a [`stiffrax.ScaledField`][] makes of the rates and [`stiffrax.ScaledMAE`][] of errors.

    **Arguments:**

    - `y_scale`: the size of each state, in its unit, `Float[ndarray, " n"]`.
    - `t_scale`: the size of the time, in its unit.

    **Raises:** `ValueError` unless all sizes are positive and finite.

    ```python
    >>> import numpy as np
    >>> import stiffrax as srx
    >>> ts = np.linspace(0.0, 2.0, 11)
    >>> data = srx.Trajectories.from_arrays(ts, np.stack([1 + ts, 1e-5 * ts], axis=1))
    >>> srx.Scaling.from_data(data)
    Scaling(y_scale=[2.e+00 2.e-05], t_scale=2)
    >>> srx.Scaling.from_data(data, kind="max")
    Scaling(y_scale=[3.e+00 2.e-05], t_scale=2)

    ```
    """

    y_scale: Float[np.ndarray, " n"]
    t_scale: float

    def __init__(self, y_scale: Any, t_scale: Any):
        self.y_scale = check_sizes("y_scale", y_scale)
        (self.t_scale,) = map(float, check_sizes("t_scale", [t_scale]))

    @classmethod
    def from_data(
        cls,
        data: Trajectories,
        *,
        kind: Size = "range",
        constant: float | None = None,
    ) -> "Scaling":
        """Measures the data.

        **Arguments:**

        - `data`: the runs; samples that are missing do not count.
        - `kind`: `"range"`, the largest value of a state less the smallest; `"max"`, its largest
            absolute value.
        - `constant`: the size of a state that does not vary (for `"max"`: that is zero throughout),
            which has no size of its own. By default such a state is refused.

        **Raises:** `ValueError` for another `kind`, and for states without a size.
        """
        check_choice("Scaling.from_data", "kind", kind, "range", "max")
        data = check_trajectories(data)
        ys = np.asarray(data.ys)
        y_scale = np.asarray(ranges_and_sizes(ys, np.asarray(data.mask))[kind == "max"])
        flat = y_scale == 0
        if np.any(flat):
            if constant is None:
                raise ValueError(_no_size(data, ys[0], flat, kind))
            y_scale = np.where(flat, constant, y_scale)
        return cls(y_scale, max(float(ts[-1] - ts[0]) for ts, _ in data))

    def __repr__(self) -> str:
        sizes = np.array2string(self.y_scale, precision=4, threshold=20)
        return f"Scaling(y_scale={sizes}, t_scale={self.t_scale:g})"


def default_scale(
    ys: Float[Array | np.ndarray, "runs times n"], mask: Bool[Array | np.ndarray, "runs times"]
) -> Float[Array | np.ndarray, " n"]:
    """The size of each state where none is given: its range in the data.

    Of a constant state its absolute value, and one where that is zero. Traceable.
    """
    xp = jnp if isinstance(ys, jax.Array) else np
    found, largest = ranges_and_sizes(ys, mask)
    return xp.where(found > 0, found, xp.where(largest > 0, largest, 1.0))


def ranges_and_sizes(
    ys: Float[Array | np.ndarray, "runs times n"], mask: Bool[Array | np.ndarray, "runs times"]
) -> tuple[Float[Array | np.ndarray, " n"], Float[Array | np.ndarray, " n"]]:
    """The range of each state and its largest absolute value. Traceable.

    A range of rounding errors is zero, as the deviation of equal numbers from their mean is not.
    """
    xp = jnp if isinstance(ys, jax.Array) else np
    present, far = mask[..., None], xp.finfo(ys.dtype).max
    top = xp.max(xp.where(present, ys, -far), axis=(0, 1))
    bottom = xp.min(xp.where(present, ys, far), axis=(0, 1))
    largest = xp.maximum(xp.abs(top), xp.abs(bottom))
    varies = top - bottom > 4 * unit_of_rounding(ys, present, (0, 1)) * largest
    return xp.where(varies, top - bottom, 0), largest


def check_sizes(name: str, sizes: Any) -> Float[np.ndarray, " n"]:
    """`sizes` as a vector of positive, finite numbers."""
    values = real_numbers(name, sizes)
    if values.ndim != 1 or not values.size or not np.all((values > 0) & np.isfinite(values)):
        raise ValueError(
            f"`{name}={sizes}` was given; it needs positive, finite numbers, one a state. "
            "`Scaling.from_data(data)` measures them."
        )
    return values


def _no_size(data: Trajectories, ys: np.ndarray, flat: np.ndarray, kind: str) -> str:
    i = int(np.argmax(flat))
    others = f" (and {int(flat.sum()) - 1} more)" if flat.sum() > 1 else ""
    if kind == "max":
        return (
            f"State {data.names[i]!r}{others} is zero throughout the data and has no size. Leave "
            "it out of the data, or say what size it has: `constant=1.0`."
        )
    instead = "" if ys[0, i] == 0 else '`kind="max"`, or '
    return (
        f"State {data.names[i]!r}{others} is {ys[0, i]:g} throughout the data: its range is zero "
        f"and no scale. Leave it out of the data, or write {instead}`constant=1.0` to say what "
        "size it has."
    )


def unit_of_rounding(x: Any, present: Any = True, axis: Any = None) -> Any:
    """That of single precision where all numbers have it, and else that of their type. Traceable.

    Samples of a solve in single precision are no better known for being stored in double.
    `present` says which numbers count, `axis` over which they are taken together.
    """
    xp: Any = jnp if isinstance(x, jax.Array) else np
    own, single = (float(jnp.finfo(dtype).eps) for dtype in (x.dtype, jnp.float32))
    if own >= single:
        return own
    with np.errstate(over="ignore"):
        same = x.astype(np.float32).astype(x.dtype) == x
    return xp.where(xp.all(same | ~xp.asarray(present), axis=axis), single, own).astype(x.dtype)
