"""Learned derivatives under algebraic constraints."""

from collections.abc import Callable, Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._checks import check_count, check_indices, check_state


@final
class ConstrainedField(eqx.Module):
    r"""A model of some of the derivatives; the other states follow from exact constraints.

    With `D` the states that `differential` lists and the others algebraic,

    $$y_D' = \mathrm{learned}(t, y, \mathrm{args}), \qquad 0 = g(t, y, \mathrm{args})$$

    in the form `M y' = f(t, y)`: rows `D` of `f` are learned, the others are the constraints, and
    `mass` is the diagonal of `M`. Whatever the parameters, the solution keeps `g = 0`.

    **Arguments:**

    - `learned`: a model, `learned(t, y, args)`, that sees all states and returns one derivative for
        each of `differential`, in the unit of `dy/dt`.
    - `constraint`: `g(t, y, args)`, one number for each other state, or a scalar where there is one.
        Where it is an equinox module it is trained too.
    - `num_states`: the number `n` of states.
    - `differential`: the states with a learned derivative, counted from 0; by default all but the
        last.

    **Raises:** `ValueError` for indices that are no states or are all of them, and for parts that
    return other shapes.

    ??? cite "Reference"
        Kim, Ji, Deng, Ma and Rackauckas, *Stiff neural ordinary differential equations*, Chaos 31,
        093122 (2021).

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
    def mass(self) -> Float[np.ndarray, " states"]:
        """The diagonal of `M`: one where a derivative is learned, zero elsewhere."""
        return np.isin(np.arange(self.num_states), self.differential).astype(float)

    def __call__(self, t: Any, y: Array, args: Any = None) -> Float[Array, " states"]:
        """`f(t, y)`: derivatives and constraints, each in its row."""
        y = check_state(y, self.num_states)
        derivatives = jnp.asarray(self.learned(t, y, args))
        violation = jnp.atleast_1d(jnp.asarray(self.constraint(t, y, args)))
        for name, value, size in (
            ("learned", derivatives, len(self.differential)),
            ("constraint", violation, len(self.algebraic)),
        ):
            if value.shape != (size,):
                raise ValueError(f"`{name}` must return shape ({size},), got {value.shape}.")
        # A gather, as in `PartiallyKnown`: its Jacobian is cheaper than a scatter's.
        order = np.argsort((*self.differential, *self.algebraic))
        return jnp.concatenate([derivatives, violation])[order]
