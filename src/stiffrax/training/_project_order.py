"""The link of an optimizer by which updates keep the order of a tableau."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from .._trees import is_none
from ..tableaus import AbstractLearnableTableau, order_projection


def project_order(
    order: int | None = None, iterations: int = 20
) -> optax.GradientTransformationExtraArgs:
    r"""The last link of an optimizer that trains a tableau: projects it back to its order.

    With an update `u` of the parameters `x`, and `P` the projection
    [`stiffrax.tableaus.order_projection`][] for each tableau among them,

    $$u \leftarrow P(x + u) - x .$$

    **Arguments:**

    - `order`: the order to keep, from 1 to 8; by default that of each tableau.
    - `iterations`: of the projection. Where the conditions are independent, as at Bosh3, RK4 and
        Radau IIA, 6 leave residuals of rounding. At Tsit5 and Dopri5 those of order five depend on
        each other: after updates of 1e-3 20 left rounding in six of eight draws, and up to 2e-6 in
        the others. Start from these at order three or four.

    **Returns:** An `optax.GradientTransformationExtraArgs`; other parameters pass unchanged.

    **Raises:** `ValueError` while tracing, if the parameters are not handed to `update`, hold no
    tableau, or only parts of one.

    Cost: that of the projection, once an update.

    ```python
    >>> import equinox as eqx, jax, jax.numpy as jnp, optax, stiffrax as srx
    >>> solver = srx.LearnableRungeKutta(3, order=2, key=jax.random.key(0))
    >>> optimizer = optax.chain(optax.sgd(0.1), srx.project_order())
    >>> gradient = jax.tree.map(jnp.ones_like, solver)
    >>> updates, _ = optimizer.update(gradient, optimizer.init(solver), solver)
    >>> solver = eqx.apply_updates(solver, updates)
    >>> bool(abs(srx.tableaus.order_residuals(solver.tableau, 2)).max() < 1e-15)
    True

    ```
    """

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del extra
        if params is None:
            raise ValueError(
                "`project_order` was not given the parameters. Write "
                "`optimizer.update(gradients, state, params)`."
            )
        found = []

        def one(x: Any, u: Any) -> Any:
            if not _is_tableau(x):
                return u
            found.append(x)
            _check_complete(x)
            projected = order_projection(jax.tree.map(jnp.add, x, u), order, iterations)
            return jax.tree.map(jnp.subtract, projected, x)

        updates = jax.tree.map(one, params, updates, is_leaf=_is_tableau)
        if not found:
            raise ValueError(
                "`project_order` found no tableau among the parameters. Train the solver as well: "
                "make `(model, solver)` the parameters, with a `stiffrax.LearnableRungeKutta`."
            )
        return updates, state

    def init(params: Any) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    return optax.GradientTransformationExtraArgs(init, update)


def _is_tableau(x: Any) -> bool:
    return isinstance(x, AbstractLearnableTableau)


def _check_complete(tableau: AbstractLearnableTableau) -> None:
    leaves = jax.tree.leaves(tableau, is_leaf=is_none)
    if any(leaf is None for leaf in leaves):
        raise ValueError(
            "`project_order` was given a tableau of which only a part is trained; it changes all "
            "coefficients. Make the whole tableau a parameter."
        )
