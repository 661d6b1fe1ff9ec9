"""Models of which a part is known exactly: terms, or constraints."""

from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from jaxtyping import Array, Float

from .._arguments import called, check_count
from .._mass_models import AbstractMassModel, check_no_mass
from .._trees import is_traced
from ._checks import (
    check_indices,
    check_output,
    check_own_names,
    check_state,
    named_parts,
)
from ._parameter import split_trainable


@jax.tree_util.register_static
class _Constant:
    """A box that JAX does not look into: what is inside is part of the program, and not trained.

    As a static field it would need a hash. Boxes are equal where their contents are: a copy is.
    """

    def __init__(self, content: Any):
        self.content = content

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Constant) or self.content is other.content:
            return isinstance(other, _Constant)
        if is_traced((self.content, other.content)):
            return False
        return bool(eqx.tree_equal(self.content, other.content))

    def __hash__(self) -> int:
        return hash(type(self.content))

    def __repr__(self) -> str:
        return repr(self.content)


@final
class PartiallyKnown(eqx.Module):
    r"""Known terms, kept exact, plus a learned part that sees and feeds chosen states.

    $$f(t, y) = \mathrm{known}(t, y, \mathrm{args})
    + \sum_k e_{o_k} \mathrm{learned}_k(t, y_{\mathrm{inputs}}, \mathrm{args}),
    \qquad o = \mathrm{outputs}$$

    Only `learned` is trained. `known` is a constant of the model, compiled in; numbers in it that
    vary from call to call belong in `args`. With `train_known=True` its numbers are trained beside
    the learned part; its terms are never dropped. Numbers in both parts may be wrapped:
    [`stiffrax.positive`][], [`stiffrax.bounded`][], [`stiffrax.fixed`][].

    **Arguments:**

    - `known`: `known(t, y, args) -> dy/dt`, state and result of shape `(n,)`.
    - `learned`: a model, `learned(t, y[inputs], args)`, that returns one number for each entry of
        `outputs`, in the unit of `dy/dt`.
    - `inputs`: the states that `learned` sees, counted from 0; default all.
    - `outputs`: the equations that `learned` is added to, counted from 0; default all.
    - `num_states`: the number `n` of states; default that of `learned`, if it sees all of them.
    - `train_known`: whether the floating-point arrays in `known`, an equinox module, are trained,
        but those that are fixed.

    **Raises:** `ValueError` for indices that are no states, for parts whose sizes do not fit, that name
    the states differently or have a mass, and for a known part without a number to train.

    ```python
    >>> import jax.numpy as jnp
    >>> import stiffrax as srx
    >>> learned = srx.Polynomial(1, degree=1, coefficients=[[0.0, 5.0]])
    >>> model = srx.PartiallyKnown(
    ...     lambda t, y, args: -y, learned, inputs=(0,), outputs=(1,), num_states=2
    ... )
    >>> print(model(0.0, jnp.array([1.0, 2.0])))
    [-1.  3.]
    >>> srx.to_sympy(model)
    (-y1, 5*y1 - y2)

    ```
    """

    learned: Callable[..., Any]
    inputs: tuple[int, ...] = eqx.field(static=True)
    outputs: tuple[int, ...] = eqx.field(static=True)
    num_states: int = eqx.field(static=True)
    # In a box, or as it is.
    _known: Any

    def __init__(
        self,
        known: Callable[..., Any],
        learned: Callable[..., Any],
        *,
        inputs: Sequence[int] | None = None,
        outputs: Sequence[int] | None = None,
        num_states: SupportsIndex | None = None,
        train_known: bool = False,
    ):
        if num_states is None and inputs is None:
            num_states = getattr(learned, "num_states", None)
        if num_states is None:
            raise ValueError(
                "`num_states` must be given when `learned` sees only some of the states or does "
                "not tell how many it takes: write for example `num_states=8`."
            )
        if train_known and not jax.tree.leaves(split_trainable(known)[0]):
            raise ValueError(
                "`train_known=True` was given, and `known` holds no number to train: write it as an "
                "`equinox.Module` with arrays or `srx.positive(1.0)` as fields, or leave it out."
            )
        check_no_mass("A part of `PartiallyKnown`", (known, learned))
        self._known = known if train_known else _Constant(known)
        self.learned = learned
        self.num_states = check_count("num_states", num_states)
        self.inputs = check_indices("inputs", inputs, self.num_states)
        self.outputs = check_indices("outputs", outputs, self.num_states)
        for name, indices, attribute in (
            ("inputs", self.inputs, "num_states"),
            ("outputs", self.outputs, "num_outputs"),
        ):
            size = getattr(learned, attribute, len(indices))
            if size != len(indices):
                raise ValueError(
                    f"`learned` has {attribute}={size}, but `{name}` lists {len(indices)} states, "
                    f"{indices}: make the two numbers the same."
                )

        for places, names in named_parts(known):
            if places is not None:
                by_place = dict(zip(places, names, strict=True))
                names = [by_place.get(i) for i in range(self.num_states)]
            if len(names) == self.num_states:
                check_own_names(self, names, "`known` names what it sees")

    @property
    def known(self) -> Callable[..., Any]:
        """The known part, as it was given."""
        return self._known.content if isinstance(self._known, _Constant) else self._known

    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " states"]:
        """`known(t, y, args)` with `learned(t, y[inputs], args)` added into `outputs`."""
        y = check_state(y, self.num_states)
        known_part, learned_part = paramax.unwrap((self.known, self.learned))
        known = jnp.asarray(called("`known`", known_part, t, y, args))
        seen = y[np.array(self.inputs)]
        learned = jnp.asarray(called("`learned`", learned_part, t, seen, args))
        check_output("known", known, self.num_states)
        check_output("learned", learned, len(self.outputs))
        # A gather, not `known.at[outputs].add(learned)`: its Jacobian took half the time on the
        # CPU.
        places = np.full(self.num_states, len(self.outputs))
        places[list(self.outputs)] = np.arange(len(self.outputs))
        return known + jnp.append(learned, 0)[places]


@named_parts.register(PartiallyKnown)
def _(model: PartiallyKnown) -> Any:
    def seen(places: tuple[int, ...] | None) -> tuple[int, ...] | None:
        found = model.inputs if places is None else tuple(model.inputs[i] for i in places)
        return None if found == tuple(range(model.num_states)) else found

    learned = [(seen(places), names) for places, names in named_parts(model.learned)]
    return [*named_parts(model.known), *learned]


@final
class ConstrainedField(AbstractMassModel):
    r"""A model of some of the derivatives; the other states follow from exact constraints.

    With `D` the states that `differential` lists and the others algebraic,

    $$y_D' = \mathrm{learned}(t, y, \mathrm{args}), \qquad 0 = g(t, y, \mathrm{args})$$

    in the form `M y' = f(t, y)`: rows `D` of `f` are learned, the others are the constraints, and
    `mass` is the diagonal of `M`. Whatever the parameters, the solution keeps `g = 0`. It is solved by
    [`stiffrax.MassMatrixTerm`][], and as the field of a [`stiffrax.System`][], whose mass it gives;
    losses of [`stiffrax.Trajectories`][] take `f` for `y'` and refuse it.

    **Arguments:**

    - `learned`: a model, `learned(t, y, args)`, that sees all states and returns one derivative for
        each of `differential`, in the unit of `dy/dt`.
    - `constraint`: `g(t, y, args)`, one number for each other state, or a scalar where there is one.
        Where it is an equinox module it is trained too.
    - `num_states`: the number `n` of states.
    - `differential`: the states with a learned derivative, counted from 0; by default all but the
        last.

    **Raises:** `ValueError` for indices that are no states or are all of them, for parts that return
    other shapes, and for a part that has constraints itself.

    ??? cite "Reference"
        Kim and others, *Stiff neural ordinary differential equations* (2021).

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> rates = lambda t, y, args: jnp.stack([-y[0], y[0] - y[1]])
    >>> model = srx.ConstrainedField(rates, lambda t, y, args: jnp.sum(y) - 1, num_states=3)
    >>> term = srx.MassMatrixTerm(model, model.mass)
    >>> y0 = jnp.array([1.0, 0.0, 0.0])
    >>> sol = diffrax.diffeqsolve(term, srx.RadauIIA5(), 0.0, 1.0, 0.1, y0)
    >>> print(f"{sol.ys[-1, 2]:.5f}, {sol.ys[-1].sum():.5f}")  # 1 - 2 / e
    0.26424, 1.00000

    ```
    """

    learned: Callable[..., Any]
    constraint: Callable[..., Any]
    num_states: int = eqx.field(static=True)
    differential: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        learned: Callable[..., Any],
        constraint: Callable[..., Any],
        *,
        num_states: int,
        differential: Sequence[int] | None = None,
    ):
        check_no_mass("`learned`", learned)
        self.learned, self.constraint = learned, constraint
        self.num_states = check_count("num_states", num_states)
        if differential is None:
            differential = range(self.num_states - 1)
        self.differential = check_indices("differential", differential, self.num_states)
        if len(self.differential) == self.num_states:
            raise ValueError(
                f"`differential` lists all {self.num_states} states; a constraint needs one that it "
                "determines. Leave it out of `differential`, or use `learned` as it is."
            )

    @property
    def algebraic(self) -> tuple[int, ...]:
        """The states that the constraints determine."""
        return tuple(i for i in range(self.num_states) if i not in self.differential)

    @property
    def mass(self) -> Float[np.ndarray, " states"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The diagonal of `M`: one where a derivative is learned, zero elsewhere."""
        return np.isin(np.arange(self.num_states), self.differential).astype(float)

    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " states"]:
        """`f(t, y)`: derivatives and constraints, each in its row."""
        y = check_state(y, self.num_states)
        learned, constraint = paramax.unwrap((self.learned, self.constraint))
        derivatives = jnp.asarray(called("`learned`", learned, t, y, args))
        violation = jnp.atleast_1d(jnp.asarray(called("`constraint`", constraint, t, y, args)))
        check_output("learned", derivatives, len(self.differential))
        check_output("constraint", violation, len(self.algebraic))
        # A gather, as in `PartiallyKnown`: its Jacobian is cheaper than a scatter's.
        order = np.argsort((*self.differential, *self.algebraic))
        return jnp.concatenate([derivatives, violation])[order]


@named_parts.register(ConstrainedField)
def _(model: ConstrainedField) -> Any:
    return named_parts(model.learned)
