"""Lyapunov exponents and the dimension made of them."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from .._arguments import check_count, check_positive, check_rates, real_array, real_numbers
from .._mass_models import check_no_mass
from ..losses import check_parts
from ..solvers import AdaptiveFlow, FixedStepFlow, MapFlow, orthonormalize, stretching_rates


def kaplan_yorke_dimension(exponents: Any) -> float:
    r"""The Kaplan-Yorke (Lyapunov) dimension.

    $$D = j + \frac{\lambda_1 + \dots + \lambda_j}{|\lambda_{j+1}|}$$

    with `j` the largest number of exponents whose sum is not negative.

    **Arguments:**

    - `exponents`: in any order, `Float[Array, " k"]`, per unit of time.

    **Returns:** the dimension, 0 if all exponents are negative; `nan` if the sum of all that are
    given is not negative, so that more of them are needed, or one of them is `nan`.

    **Raises:** `ValueError` without exponents, and for complex ones.

    ```python
    >>> import stiffrax as srx
    >>> print(f"{srx.diagnostics.kaplan_yorke_dimension([0.9056, 0.0, -14.572]):.3f}")
    2.062

    ```
    """
    exponents = np.sort(real_numbers("exponents", exponents))[::-1]
    if exponents.ndim != 1 or exponents.size == 0:
        raise ValueError(
            f"`exponents` of shape {exponents.shape} was given; it needs one or more numbers."
        )
    sums = np.cumsum(exponents)
    growing = np.flatnonzero(sums >= 0)
    if not np.all(np.isfinite(sums)) or growing.size == exponents.size:
        return float("nan")
    if not growing.size:
        return 0.0
    j = growing[-1]
    return float(j + 1 + sums[j] / abs(exponents[j + 1]))


@final
class LyapunovSpectrum(eqx.Module):
    """What [`stiffrax.diagnostics.lyapunov_spectrum`][] measured.

    **Attributes:**

    - `exponents`: in descending order, per unit of time (per iteration of a map),
        `Float[Array, " k"]`; last and NaN are those that steps or interval are too long for.
    - `standard_errors`: of the exponents, from the scatter of blocks of time and of starts.
    - `local`: the growth rates in each interval, in the order of `exponents`,
        `Float[Array, "starts intervals k"]`; see
        [`stiffrax.diagnostics.LyapunovSpectrum.finite_time`][].
    - `interval`: the time between two of them.
    - `y1`: the last states, `Float[Array, "starts n"]`.
    - `num_failed`: starts that ended before their time; they are left out of the means.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> spectrum = srx.diagnostics.lyapunov_spectrum(
    ...     lambda t, y, args: y * jnp.array([-1.0, -2.0]), jnp.ones(2), time=5.0, burn_in=5.0)
    >>> print(spectrum.finite_time(window=1.0).shape)
    (1, 5, 2)

    ```
    """

    exponents: Float[Array, " k"]
    standard_errors: Float[Array, " k"]
    local: Float[Array, "starts intervals k"]
    interval: float = eqx.field(static=True)
    y1: Float[Array, "starts n"]
    num_failed: Int[Array, ""]

    @property
    def kaplan_yorke_dimension(self) -> float:
        """See [`stiffrax.diagnostics.kaplan_yorke_dimension`][]."""
        return kaplan_yorke_dimension(self.exponents)

    def finite_time(self, window: float | int) -> Float[Array, "starts windows k"]:
        """Exponents over windows of time, one after the other, in the order of `exponents`.

        **Raises:** `ValueError` for a window that is no multiple of the interval, or longer than all.
        """
        starts, intervals, k = self.local.shape
        length = round(window / self.interval)
        whole = abs(window / self.interval - length) <= 1e-6
        if not (1 <= length <= intervals and whole):
            nearest = min(max(length, 1), intervals) * self.interval
            raise ValueError(
                f"`window={window}` was given; it needs a multiple of {self.interval:g}, the interval, "
                f"up to {intervals * self.interval:g}, the time measured. Write `window={nearest!r}`."
            )
        count = intervals // length
        windows = self.local[:, : count * length].reshape(starts, count, length, k)
        return jnp.mean(windows, axis=2)

    def __repr__(self) -> str:
        terms = (f"{a:.4f} +- {s:.1g}" for a, s in zip(*self._rows(), strict=True))
        return f"LyapunovSpectrum({', '.join(terms)})"

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.exponents), np.asarray(self.standard_errors)


def lyapunov_spectrum(
    field: Callable[..., Any],
    y0: Shaped[Array | np.ndarray, "*starts n"],
    *,
    time: float | int = 1000.0,
    burn_in: float | int = 100.0,
    num_exponents: int | None = None,
    interval: float | int | None = None,
    step: float | int | None = None,
    solver: diffrax.AbstractSolver | None = None,
    controller: diffrax.AbstractStepSizeController | None = None,
    discrete: bool = False,
    args: Any = None,
    blocks: int = 10,
    max_steps: int = 4096,
) -> LyapunovSpectrum:
    r"""Lyapunov exponents of a vector field or a map, by the QR method.

    $$\lambda_i = \lim_{T \to \infty} \frac{1}{T} \sum_j \log |R_{ii}^{(j)}|, \qquad
    D\Phi(y_j) \, Q_j = Q_{j+1} R^{(j)}$$

    with `\Phi` the flow over one interval. Its derivative is that of the fixed steps taken, one jvp a
    direction; adaptive steps solve for state and derivatives, so that the error of both is bounded.

    **Arguments:**

    - `field`: `field(t, y, args) -> dy/dt`, such as a model or `Problem.vector_field`; with
        `discrete`, `-> next y`.
    - `y0`: the start, or several, which are one batch: `(n,)` or `(starts, n)`.
    - `time`, `burn_in`: what is measured, and solved before, in the unit of time; iterations of a
        map, rounded to whole intervals. The burn-in also turns the frame into the directions of growth.
    - `num_exponents`: the `k` largest; default all `n`.
    - `interval`: time between two orthonormalizations, 0.1 by default; shorter than about
        `a / (lambda_1 - lambda_k)`, so that no direction gets lost in tolerances or rounding: `a` is
        13, with `step` 28, in single precision 5 and 9, and 3 for a tolerance of 1e-3. Exponents of
        directions that get lost, or become zero, are NaN.
    - `step`: the largest fixed step. Without it steps are adaptive. Exponents that differ by more than
        5 % (and `1e-6 / interval`) with half the step, over as many intervals as `blocks`, are NaN:
        fast decay in a long step is that of the method.
    - `solver`: any diffrax solver, `diffrax.Dopri8` by default; for the slow exponents of stiff fields
        [`stiffrax.RadauIIA5`][]. The fast ones need short steps and intervals. A `structure=` of the
        Jacobian is that with `step`.
    - `controller`: of adaptive steps; by default `diffrax.PIDController(1e-9, 1e-9)`, in single
        precision with 1e-5 for both, of states in units of the largest one in `y0`: all but the first
        exponent are wrong if a state begins far below its later size, and is not zero. One given
        has the states as they are, beside tangents of length one; its `norm` sees both.
    - `discrete`: `field` is a map.
    - `args`: passed on to `field`.
    - `blocks`: of time, of each start; the standard error is that of their mean.
    - `max_steps`: the most adaptive steps of one interval.

    **Returns:** a [`stiffrax.diagnostics.LyapunovSpectrum`][].

    **Raises:** `ValueError` for times, counts and shapes that do not fit, a field with a mass, and
    options that nothing would read: `controller` beside `step`, and all three beside `discrete`.

    Cost: `time / interval` solves, each with `k` jvps, and without `step` of `n (1 + k)` states; memory
    `starts * k * time / interval`. With `step` and for maps it is differentiable in every mode, which
    makes sense over windows of few Lyapunov times only; with adaptive steps in forward mode.

    ??? cite "Reference"
        Benettin, Galgani, Giorgilli and Strelcyn, *Lyapunov characteristic exponents for smooth
        dynamical systems*, Meccanica 15 (1980).

    ```python
    >>> import jax, jax.numpy as jnp, stiffrax as srx
    >>> logistic = lambda n, y, args: 4 * y * (1 - y)
    >>> spectrum = srx.diagnostics.lyapunov_spectrum(
    ...     logistic, jnp.array([0.3]), time=20000, burn_in=100, discrete=True)
    >>> print(f"{spectrum.exponents[0]:.2f}")  # log 2
    0.69

    ```
    """
    field = paramax.unwrap(field)
    check_no_mass("`field`", field)
    starts = jnp.atleast_2d(real_array("y0", y0))
    interval = (1.0 if discrete else 0.1) if interval is None else interval
    interval = float(check_positive("interval", interval, write="interval=0.1"))
    num_exponents = starts.shape[-1] if num_exponents is None else num_exponents
    _check(starts, np.ndim(y0), time, burn_in, num_exponents, interval, step, blocks, discrete)
    _check_steps(step, solver, controller, discrete)
    _check_field(field, starts, args, discrete)
    plain = controller is not None or step is not None or discrete
    unit = jnp.ones(starts.shape[-1], starts.dtype) if plain else _size_of(starts)
    field, solver, finer = _InUnits(field, unit), solver or diffrax.Dopri8(), None
    noise = jnp.asarray(jnp.finfo(starts.dtype).eps)
    if discrete:
        flow = MapFlow(field, args)
    elif step is not None:
        substeps = int(np.ceil(interval / step * (1 - 1e-12)))
        flow, finer = (FixedStepFlow(field, solver, interval, m * substeps, args) for m in (1, 2))
    else:
        chosen, noise = _controller(controller, starts.dtype)
        flow = AdaptiveFlow(field, solver, interval, chosen, max_steps, args)
    counts = round(burn_in / interval), round(time / interval), blocks
    y1, rates, again = _measure(flow, finer, starts / unit[None], num_exponents, interval, counts)
    # A fixed step that failed has tangents of zero.
    finite = jnp.all(jnp.isfinite(rates), axis=(1, 2)) & jnp.all(jnp.isfinite(y1), axis=1)
    mean, error = _mean_and_error(rates, finite, blocks)
    lost = _lost(mean, rates, again, finite, interval, noise)
    mean, error = (jnp.where(lost, jnp.nan, x) for x in (mean, error))
    rates = jnp.where(lost[None, None], jnp.nan, rates)
    order = jnp.argsort(-mean)
    return LyapunovSpectrum(
        exponents=mean[order],
        standard_errors=error[order],
        # Directions of the frame come out by their growth most of the time, and not always.
        local=rates[..., order],
        interval=interval,
        y1=y1 * unit[None],
        num_failed=jnp.sum(~finite),
    )


def _controller(given: Any, dtype: Any) -> tuple[Any, Array]:
    # Single precision holds no more.
    noise = 1e-9 if dtype == jnp.float64 else 1e-5
    controller = diffrax.PIDController(rtol=noise, atol=noise) if given is None else given
    inner = getattr(controller, "controller", controller)
    found = (jnp.max(jnp.asarray(getattr(inner, x, noise), dtype)) for x in ("rtol", "atol"))
    return controller, jnp.maximum(*found)


def _size_of(starts: Float[Array, "starts n"]) -> Float[Array, " n"]:
    sizes = jnp.abs(lax.stop_gradient(starts))
    # A start that is not finite fails alone.
    largest = jnp.max(jnp.where(jnp.isfinite(sizes), sizes, 0), axis=0)
    largest = jnp.where(largest > 0, largest, jnp.max(largest))
    return jnp.where(largest > 0, largest, 1)


def _lost(
    mean: Float[Array, " k"], rates: Array, again: Any, finite: Array, interval: float, noise: Any
) -> Bool[Array, " k"]:
    """Which directions are lost in noise in an interval, or seen otherwise by finer steps."""
    grown, known = mean * interval, finite[:, None, None]
    # What is left is so much larger than its error that the rate is known to a few percent.
    least = jnp.log(jnp.minimum(1e3 * noise, noise**0.5))
    below_noise = grown - jnp.maximum(jnp.max(grown), 0) < least
    # A direction that was once lost in rounding, as where a derivative is singular.
    zero = jnp.log(10 * jnp.asarray(jnp.finfo(mean.dtype).eps))
    once_lost = jnp.min(rates, axis=(0, 1), where=known, initial=0) * interval < zero
    if again is None:
        return below_noise | once_lost
    pair = jnp.stack([again - rates[:, : again.shape[1]], again]) * interval
    apart, size = jnp.mean(jnp.abs(pair), axis=(1, 2), where=known[None])
    alike = apart <= 0.05 * size + 1e-3 * jnp.max(size) + 1e-6 + 1e3 * noise
    return below_noise | once_lost | ~alike


@final
class _InUnits(eqx.Module):
    """A field of states in units of their own, so that a tolerance says the same of all."""

    field: Callable[..., Any]
    unit: Float[Array, " n"]

    def __call__(self, t: Array, y: Array, args: Any) -> Array:
        return jnp.asarray(self.field(t, y * self.unit, args)) / self.unit


@eqx.filter_jit
def _measure(
    flow: Any,
    finer: Any,
    starts: Float[Array, "starts n"],
    k: int,
    interval: float,
    counts: tuple[int, int, int],
) -> tuple[Float[Array, "starts n"], Float[Array, "starts intervals k"], Any]:
    burn_in, count, few = counts
    # Directions in general position: a unit vector may lie in a subspace that the flow never leaves.
    frame = jax.random.normal(jax.random.key(0), (starts.shape[-1], k), starts.dtype)
    frame, _ = orthonormalize(frame)

    def one(y: Array) -> tuple[Array, Array, Any]:
        t0, again = jnp.zeros((), y.dtype), None
        y, turned, _ = stretching_rates(flow, t0, y, frame, interval, burn_in)
        t0 = t0 + burn_in * interval
        if finer is not None:
            # From where the coarse steps begin each interval: orbits of chaos part.
            def compare(carry: Any, i: Array) -> tuple[Any, Array]:
                (y, frame), t = carry, t0 + i.astype(t0.dtype) * jnp.asarray(interval, t0.dtype)
                *_, seen = stretching_rates(finer, t, y, frame, interval, 1)
                return stretching_rates(flow, t, y, frame, interval, 1)[:2], seen[0]

            _, again = lax.scan(compare, (y, turned), jnp.arange(few))
        y, _, rates = stretching_rates(flow, t0, y, turned, interval, count)
        return y, rates, again

    # Outside `vmap` a solver may use what only pays off for one lane.
    if len(starts) == 1:
        return jax.tree.map(lambda x: x[None], one(starts[0]))
    return jax.vmap(one)(starts)


def _mean_and_error(
    rates: Float[Array, "starts intervals k"], finite: Array, blocks: int
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    starts, intervals, k = rates.shape
    length = intervals // blocks
    weight = finite[:, None, None]
    usable = jnp.where(weight, rates, 0)
    used = jnp.sum(finite).astype(rates.dtype)
    mean = jnp.sum(usable, axis=(0, 1)) / (used * intervals)
    cut = usable[:, : blocks * length].reshape(starts, blocks, length, k)
    scatter = jnp.where(weight, jnp.mean(cut, axis=2) - mean[None, None], 0)
    count = used * blocks
    return mean, jnp.sqrt(jnp.sum(scatter**2, axis=(0, 1)) / (count * (count - 1)))


def _check_steps(step: Any, solver: Any, controller: Any, discrete: bool) -> None:
    for name, value in (("step", step), ("solver", solver), ("controller", controller)):
        beside = "discrete" if discrete else "step"
        read = not discrete and (step is None or name != "controller")
        if value is not None and not read:
            raise ValueError(
                f"`{name}` was given with `{beside}`, beside which nothing reads it. Leave one out."
            )
    check_parts(controller=controller, solver=solver or diffrax.Dopri8())


def _check_field(field: Any, starts: Array, args: Any, discrete: bool) -> None:
    if starts.shape[-1] > 1:
        t = jnp.zeros((), starts.dtype)
        rates = eqx.filter_eval_shape(field, t, starts[0], args)
        if isinstance(rates, list | tuple) and discrete:
            rates = eqx.filter_eval_shape(MapFlow(field, args), t, starts[0])
        check_rates("`field`", rates, starts[0])


def _check(
    starts: Array,
    ndim: int,
    time: float | int,
    burn_in: float | int,
    k: int,
    interval: float | int,
    step: float | int | None,
    blocks: int,
    discrete: bool,
) -> None:
    n = starts.shape[-1]
    if ndim not in (1, 2):
        raise ValueError(f"`y0` has {ndim} dimensions; it needs shape (n,) or (starts, n).")
    check_count("num_exponents", k, most=n)
    if discrete and interval != 1:
        raise ValueError(f"`interval={interval}` was given for a map; leave it out, or write 1.")
    if step is not None:
        check_positive("step", step, write="step=0.1")
    for name, value in (("time", time), ("burn_in", burn_in)):
        if not 0 <= real_numbers(name, value) < np.inf:
            raise ValueError(
                f"`{name}={value}` was given; it needs a finite time that is not negative."
            )
    check_count("blocks", blocks, least=2)
    if round(time / interval) < blocks:
        raise ValueError(
            f"`time={time}` holds {round(time / interval)} intervals of {interval:g}; the "
            f"{blocks} blocks need one each: write `time={blocks * interval:g}` or more, or fewer "
            "`blocks`."
        )
