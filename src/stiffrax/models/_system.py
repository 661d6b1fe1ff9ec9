"""A system as it is measured: vector field, initial state, observables and their noise."""

import functools as ft
import math
from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jax.core import Tracer

from .._arguments import called, check_rates, real_numbers
from .._mass_models import AbstractMassModel, check_no_mass
from ..data import check_names
from ._checks import check_own_names, chosen_names, is_wrapped, named_parts
from ._partially_known import ConstrainedField


def _known(name: str, given: Any) -> Any:
    """Plain numbers in what is no function are known: only parameters are trained."""
    if callable(given) or isinstance(given, SteadyState):
        return given

    def wrap(x: Any) -> Any:
        return x if is_wrapped(x) else paramax.NonTrainable(_numbers(name, x))

    return jax.tree.map(wrap, given, is_leaf=is_wrapped)


def _numbers(name: str, value: Any) -> Any:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return jnp.asarray(real_numbers(name, value))


def _check_spread(given: Any) -> None:
    """Refuses standard deviations of zero, which would make a measurement exact."""
    for known in jax.tree.leaves(given, is_leaf=lambda x: isinstance(x, paramax.NonTrainable)):
        if not isinstance(known, paramax.NonTrainable) or isinstance(known.tree, Tracer):
            continue
        if not np.all(np.asarray(known.tree) > 0):
            raise ValueError(
                f"`sd` of the system is {known.tree}; standard deviations are positive. Leave a column "
                "out of `sd` to have its own estimated."
            )


def _check_parameters(parameters: Any) -> None:
    """Refuses text, complex numbers and NaN; functions and settings of networks may be among them."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        if isinstance(leaf, str) or (eqx.is_array_like(leaf) and jnp.iscomplexobj(leaf)):
            real_numbers(f"parameters{jax.tree_util.keystr(path)}", leaf)
        if isinstance(leaf, float) and math.isnan(leaf):
            raise ValueError(
                f"`parameters{jax.tree_util.keystr(path)}` is NaN; give a number, or "
                "`srx.positive(...)` or `srx.bounded(...)` for one that is to be found."
            )


@final
class SteadyState(eqx.Module):
    r"""The state that a system has reached before its run starts: $f(\cdot, y_0, args') = 0$.

    As `initial_state` of a [`stiffrax.System`][] it is found by integrating the system from
    `initial_state` under other conditions until nothing changes. Its derivatives are those of that
    solve, so that conserved amounts, for which $\partial f / \partial y$ has no inverse, need no
    care.

    **Arguments:**

    - `initial_state`: where the solve begins, as in [`stiffrax.System`][].
    - `conditions`: `args'` from `args`, a function, or a dictionary of the constants that differ.
    - `then`: the initial state from the steady one, `then(y, args)`; the steady state without.
    - `applies`: `applies(args)`, whether a run begins so; all do without. Others begin at
        `initial_state`, under their own conditions and without `then`.

    Cost: one more solve for each run that begins so, over up to 1e6 times the time that its data
    cover, or the data of all runs where its own are of one time. If those are as well it is 1e6 units
    of time: slower changes count as none. A run without a steady state there has failed.

    ```python
    >>> import jax.numpy as jnp, stiffrax as srx
    >>> resting = srx.SteadyState(jnp.zeros(1), {"drug": 0.0})
    >>> system = srx.System(lambda t, y, args: 1 + args["drug"] - y, resting, states=["c"])

    ```
    """

    initial_state: Any = eqx.field(converter=ft.partial(_known, "initial_state"))
    conditions: Any = None
    then: Callable[..., Any] | None = None
    applies: Callable[..., Any] | None = None

    def conditions_before(self, args: Any) -> Any:
        """The conditions under which the system comes to rest."""
        if callable(self.conditions):
            return self.conditions(args)
        return args.replace(**(self.conditions or {}))


@final
class System(AbstractMassModel):
    r"""What is measured: a vector field, its initial state, and observables of the state.

    $$M \frac{dy}{dt} = f(t, y, args), \qquad y(t_0) = y_0(args), \qquad
      \hat x_j(t) = g_j(t, y(t), args)$$

    Each part is a function or an equinox module; all see the run's conditions as `args`
    ([`stiffrax.Conditions`][]): `args["T"]` is a constant, `args["feed"](t)` an input. Arrays in
    modules are parameters: plain, or [`stiffrax.positive`][], [`stiffrax.bounded`][] and
    [`stiffrax.fixed`][] ones. An initial state, standard deviation or mass given as plain numbers is
    known.

    **Arguments:**

    - `field`: $f$, called as `field(t, y, args)` with a flat state `y`, `(n,)`; returns `(n,)`.
    - `initial_state`: `(n,)` for all runs, a dictionary by the names of the states, a function of
        `args` that returns either, `(runs, n)`, or a [`stiffrax.SteadyState`][]. Without, runs
        start at what is measured at their start, the mean of replicates: all states must be. These
        cells are then no residuals.
    - `observe`: $g$, called as `observe(t, y, args)`; returns a dictionary of the columns of the
        data, and of others, which are left out, or an array in their order. Without, columns are
        states of the same name.
    - `sd`: standard deviations of the noise, in the unit of each column, or relative where noise is
        log-normal: a number, a dictionary by column, or a function `sd(t, y, args)` that returns one
        of these, such as `{"A": 0.01 + 0.1 * abs(y[0])}`. Numbers in it may be parameters. Without,
        they are those of the data, or else estimated, one for each column.
    - `states`: names of the states in the order of `y`; default those that the field has itself
        (species of a network, names given to a [`stiffrax.SymbolicModel`][]), else the columns of the
        data, which a fit keeps.
    - `mass`: $M$, a constant `(n, n)` array or its diagonal, in equations of index one; by default that
        of a [`stiffrax.ConstrainedField`][], else one. Algebraic components of starts, and after doses,
        move to the constraints.
    - `parameters`: what several of these functions share, such as a dictionary of parameters by
        name; they see it as `args.parameters`, and an entry of a dictionary as `args["k"]` too.
    - `jump_ts`: times at which the field jumps; a step ends there. Those of inputs and doses are
        known.

    Losses of [`stiffrax.Trajectories`][] take the field alone; they refuse a system with more.

    **Raises:** `ValueError` for names that are not unique or not those of the field, standard
    deviations that are not positive, and a field with a system's other parts, or a mass, inside.

    ```python
    >>> import equinox as eqx, jax.numpy as jnp, stiffrax as srx
    >>> class Decay(eqx.Module):
    ...     k: object
    ...     def __call__(self, t, y, args):
    ...         return -self.k * y
    >>> decay = Decay(srx.positive(1.0, 1e-3, 1e3))
    >>> system = srx.System(decay, jnp.array([1.0]), states=["A"])
    >>> system.states
    ('A',)

    ```
    """

    field: Callable[..., Any]
    initial_state: Any = None
    observe: Any = None
    sd: Any = None
    states: tuple[str, ...] = eqx.field(static=True, default=())
    mass: Any = None
    parameters: Any = None
    jump_ts: tuple[float, ...] = eqx.field(static=True, default=())

    def __init__(
        self,
        field: Callable[..., Any],
        initial_state: Any = None,
        observe: Any = None,
        sd: Any = None,
        *,
        states: Sequence[str] = (),
        mass: Any = None,
        parameters: Any = None,
        jump_ts: Sequence[float] = (),
    ):
        self.field = field
        self.initial_state = _known("initial_state", initial_state)
        self.observe = observe
        self.sd = _known("sd", sd)
        if not callable(sd):
            _check_spread(self.sd)
        if len(states):
            self.states = check_names("`states`", states)
            check_own_names(field, self.states, "`states` of the system are")
        else:
            self.states = chosen_names(field)
        check_no_system("`field`", field)
        if mass is None and isinstance(field, ConstrainedField):
            mass = field.mass
        elif mass is None:
            check_no_mass("`field`", field, "Give `mass=` beside it")
        self.mass = _known("mass", mass)
        _check_parameters(parameters)
        self.parameters = parameters
        self.jump_ts = tuple(sorted(float(t) for t in jump_ts))

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        """The vector field.

        **Raises:** `ValueError` unless it takes these three and returns one number for each state.
        """
        rates = called("`field`", self.field, t, y, args)
        if jnp.size(y) > 1:  # of one state a number alone says all
            check_rates("`field`", rates, jnp.asarray(y))
        return rates


def check_no_system(what: str, model: Any) -> None:
    """Refuses a system, or a part that is one, with more than the field that is taken of it."""
    for part in jax.tree.leaves(model, is_leaf=lambda x: isinstance(x, System)):
        if not isinstance(part, System):
            continue
        names = ("initial_state", "observe", "sd", "parameters")
        lost = [name for name in names if getattr(part, name) is not None]
        if part.jump_ts:
            lost.append("jump_ts")
        if lost:
            raise ValueError(
                f"{what} is a `System` with `{'`, `'.join(lost)}`, or has a part that is, of which the "
                "field alone would be taken. Write `system.field`; or fit the system to "
                "`srx.Measurements.from_trajectories(data)` by `srx.LikelihoodLoss`, which sees all."
            )


@named_parts.register(System)
def _(model: System) -> Any:
    return [(None, model.states)] if model.states else named_parts(model.field)
