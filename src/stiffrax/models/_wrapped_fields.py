"""Vector fields around another: in scaled units, or coupled to a path."""

import inspect
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import paramax
from jaxtyping import Array, Float

from .._arguments import check_choice, real_numbers
from .._flat_state import inexact
from .._options import StateFeatures
from ..data import check_sizes
from ._checks import check_state, named_parts


@final
class ScaledField(eqx.Module):
    r"""A network whose outputs are multiplied by the size of each state and divided by that of time.

    $$\frac{dy}{dt} = \mathrm{net}(x) \, \frac{y_{scale}}{t_{scale}}$$

    Its outputs are then of order one where states and rates differ by orders of magnitude, which
    makes stiff systems learnable. Its inputs `x` are the states as they are, or

    $$x_i = \frac{y_i}{y_{scale,i}} \quad \text{or} \quad
    x_i = \frac{\operatorname{asinh}(y_i / (\epsilon \, y_{scale,i}))}
    {\operatorname{asinh}(1 / \epsilon)},$$

    a logarithm for states above $\epsilon$ times their size that is linear around zero, so that
    negative states are allowed.

    With `log_time` the network gets the logarithm of the time in the same form, as one more input,
    for systems that change as much in every decade of time, and

    $$\frac{dy}{d\tau} = \mathrm{net}(x, \tau) \, y_{scale}, \qquad
    \tau = \frac{\operatorname{asinh}((t - t_0) / (\epsilon \, t_{scale}))}
    {\operatorname{asinh}(1 / \epsilon)}$$

    The scales are constants of the model: no optimizer changes them.

    **Arguments:**

    - `net`: called as `net(x)`, as `eqx.nn.MLP` is, or as `net(t, x, args)`, as the models of
        stiffrax are, where it needs two arguments or more; returns `n` numbers.
    - `y_scale`: the size of each state, in its unit, `n` positive numbers.
    - `t_scale`: the size of the time, in its unit. See [`stiffrax.Scaling`][] for both.
    - `output_scale`: the sizes of the states whose derivatives `net` returns, where these are not those
        that it sees, as for `learned` of a [`stiffrax.PartiallyKnown`][]; `y_scale` by default.
    - `states`: the features of the states: `"raw"`, `"scaled"` or `"log"`.
    - `log_time`: whether the clock is the logarithm of the time since `t0`.
    - `floor`: $\epsilon$, for states and time.
    - `t0`: where that clock begins: the time at which all runs start. From elsewhere its first
        gaps are far too long or too short.

    **Raises:** `ValueError` for sizes that are not positive, and options that are others or do nothing.

    Cost: that of `net`.

    ??? cite "Reference"
        Kim and others, *Stiff neural ordinary differential equations* (2021): the scaling,
        with the states as they are.

    ```python
    >>> import jax, jax.numpy as jnp, equinox as eqx, stiffrax as srx
    >>> net = eqx.nn.MLP(3, 3, width_size=5, depth=6, activation=jax.nn.gelu, key=jax.random.key(0))
    >>> model = srx.ScaledField(net, y_scale=[1.0, 3.6e-5, 1.0], t_scale=1e5)
    >>> y = jnp.array([1.0, 0.0, 0.0])
    >>> bool(jnp.allclose(model(0.0, y)[1], net(y)[1] * 3.6e-10))
    True

    ```
    """

    net: Callable[..., Any]
    # Python numbers: `eqx.filter` by arrays leaves them out of what is trained, and
    # `eqx.tree_serialise_leaves` writes them, as it would not static fields.
    y_scale: tuple[float, ...]
    t_scale: float
    states: StateFeatures = eqx.field(static=True)
    log_time: bool = eqx.field(static=True)
    floor: float
    output_scale: tuple[float, ...]
    t0: float

    def __init__(
        self,
        net: Callable[..., Any],
        y_scale: Any,
        t_scale: Any,
        *,
        output_scale: Any = None,
        states: StateFeatures = "raw",
        log_time: bool = False,
        floor: float = 1e-6,
        t0: Any = 0.0,
    ):
        self.net = net
        self.y_scale = tuple(map(float, check_sizes("y_scale", y_scale)))
        if output_scale is None:
            output_scale = self.y_scale
        self.output_scale = tuple(map(float, check_sizes("output_scale", output_scale)))
        (self.t_scale,) = map(float, check_sizes("t_scale", [t_scale]))
        check_choice("ScaledField", "states", states, "raw", "scaled", "log")
        (self.floor,) = map(float, check_sizes("floor", [floor]))
        self.states = states
        self.log_time = bool(log_time)
        self.t0 = float(real_numbers("t0", t0))
        if not self.log_time and (self.t0 or (self.floor != 1e-6 and states != "log")):
            raise ValueError(
                "`t0` or `floor` was given without a logarithm that it is of. Write `log_time=True`, "
                "or leave it out."
            )

    @property
    def num_states(self) -> int:
        """The number of states that it sees."""
        return len(self.y_scale)

    @property
    def num_outputs(self) -> int:
        """The number of derivatives that it returns."""
        return len(self.output_scale)

    def features(self, t: Any, y: Array) -> Float[Array, " features"]:
        """What the network sees at time `t` and state `y`."""
        y = check_state(y, self.num_states)
        x = y if self.states == "raw" else y / jnp.asarray(self.y_scale, y.dtype)
        if self.states == "log":
            x = self._logarithm(x)
        if not self.log_time:
            return x
        return jnp.append(x, self._logarithm(self._time(t, y)))

    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " outputs"]:
        """`net(x) output_scale / t_scale`, or with `log_time` that for its clock."""
        x = self.features(t, y)
        net = paramax.unwrap(self.net)
        rates = net(t, x, args) if _takes_time(net) else net(x)
        if jnp.shape(rates) != (self.num_outputs,):
            raise ValueError(
                f"`net` returned shape {jnp.shape(rates)} for {x.size} features; it needs one "
                f"number for each of the {self.num_outputs} states that it feeds."
            )
        size = jnp.asarray(self.output_scale, x.dtype)
        if self.log_time:
            # Before the quotient, which single precision may not have.
            size = size * self._clock(self._time(t, x))
        return jnp.asarray(rates * (size / jnp.asarray(self.t_scale, x.dtype)))

    def _time(self, t: Any, like: Array) -> Array:
        since = jnp.asarray(t, like.dtype) - jnp.asarray(self.t0, like.dtype)
        return since / jnp.asarray(self.t_scale, like.dtype)

    def _clock(self, x: Array) -> Array:
        return jax.jvp(self._logarithm, (x,), (jnp.ones_like(x),))[1]

    def _logarithm(self, x: Array) -> Array:
        return _arcsinh(x / self.floor) / jnp.arcsinh(1 / self.floor).astype(x.dtype)


# In single precision JAX has slopes of zero far out.
_arcsinh = jax.custom_jvp(jnp.arcsinh)
_arcsinh.defjvps(lambda dx, y, _: dx / jnp.cosh(y))


@named_parts.register(ScaledField)
def _(model: ScaledField) -> Any:
    return named_parts(model.net)


def _takes_time(net: Callable[..., Any]) -> bool:
    """Whether `net` is called as `net(t, x, args)` rather than as `net(x)`."""
    try:
        parameters = inspect.signature(net).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    # `args=None` has a default, as other arguments of a net of states alone have.
    return sum(p.default is p.empty for p in positional) >= 2


@final
class CoupledField(eqx.Module):
    r"""A vector field with a proportional coupling to a path, which its solution then follows.

    $$\frac{du}{dt} = f(t, u) - \lambda K (u - target(t))$$

    With large $\lambda K$ the solution stays near the path whatever `f` is; with $\lambda = 0$ it is
    that of `f`. [`stiffrax.HomotopyLoss`][] wraps the model that is trained in it.

    **Arguments:**

    - `field`: `field(t, u, args) -> du/dt`, any model.
    - `target`: a path of `n` states, such as [`stiffrax.SmoothingSpline`][].
    - `coupling`: `K`, per unit of time: a number, `n` of them, or an `n x n` matrix.
    - `strength`: $\lambda$, from 0 to 1.

    **Raises:** `ValueError` for a coupling that does not fit the state.

    ??? cite "Reference"
        Ko and others, *Homotopy-based training of NeuralODEs* (2023).

    ```python
    >>> import jax.numpy as jnp, numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> target = srx.SmoothingSpline(ts, np.ones((6, 1)))
    >>> coupled = srx.CoupledField(lambda t, y, args: -y, target, coupling=2.0)
    >>> print(coupled(0.5, jnp.array([3.0])))
    [-7.]

    ```
    """

    field: Callable[..., Any]
    target: diffrax.AbstractPath
    coupling: Any
    strength: Any = 1.0

    def __call__(self, t: Any, y: Float[Array, " n"], args: Any = None) -> Float[Array, " n"]:
        """`f(t, y) - strength * coupling @ (y - target(t))`."""
        y = inexact(y)
        coupling = jnp.asarray(self.coupling, y.dtype)
        check_coupling(coupling, y.size)
        distance = y - jnp.asarray(self.target.evaluate(t), y.dtype)
        # A sum, not `@`: for a few states a library call costs more than the product.
        if coupling.ndim == 2:
            pull = jnp.sum(coupling * distance[None], axis=-1)
        else:
            pull = coupling * distance
        rates = jnp.asarray(paramax.unwrap(self.field)(t, y, args))
        return rates - jnp.asarray(self.strength, y.dtype) * pull


@named_parts.register(CoupledField)
def _(model: CoupledField) -> Any:
    return named_parts(model.field)


def check_coupling(coupling: Any, n: int) -> None:
    """Raises `ValueError` unless the coupling is a number, `n` of them, or an `n x n` matrix."""
    if jnp.shape(coupling) not in ((), (n,), (n, n)):
        raise ValueError(
            f"`coupling` of shape {jnp.shape(coupling)} was given for {n} states; it needs one "
            f"number, {n} of them, or a matrix of shape ({n}, {n})."
        )
