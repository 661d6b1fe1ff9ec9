"""The families of implicit methods, computed on first use and kept."""

import functools

from ._collocation import (
    collocation_coefficients,
    extended_precision,
    gauss_nodes,
    lobatto_nodes,
    radau_nodes,
)
from ._tableau import Tableau, tableau_from_collocation

_NODES = {"radau_iia": radau_nodes, "gauss": gauss_nodes, "lobatto_iiia": lobatto_nodes}


def _checked(stages: object, least: int, family: str) -> int:
    # A bool or a whole float would pass for the number of stages that it equals.
    if not isinstance(stages, int) or isinstance(stages, bool) or not least <= stages <= 15:
        raise ValueError(
            f"`stages={stages!r}` was given to `{family}`; it needs an integer from {least} to 15. "
            f"Write for example `{family}(3)`."
        )
    return stages


# One object a method, so that programs compiled for it are found again.
@functools.cache
def _collocation_tableau(family: str, name: str, order: int, stages: int) -> Tableau:
    mp = extended_precision()
    nodes = _NODES[family](mp, stages)
    A, b = collocation_coefficients(mp, nodes)
    return tableau_from_collocation(mp, f"{name} {order}", order, nodes, A, b)


def radau_iia(stages: int) -> Tableau:
    """Radau IIA: order `2 s - 1`, stiffly accurate, L-stable.

    **Arguments:**

    - `stages`: number of stages `s`, from 1 (backward Euler) to 15.

    **Returns:** A [`stiffrax.tableaus.Tableau`][], computed in 60 digits and rounded once.

    **Raises:** `ValueError` for a stage count outside that range.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.radau_iia(3).order
    5

    ```
    """
    s = _checked(stages, 1, "radau_iia")
    return _collocation_tableau("radau_iia", "Radau IIA", 2 * s - 1, s)


def gauss(stages: int) -> Tableau:
    """Gauss-Legendre: order `2 s`, A-stable and symplectic, not stiffly accurate.

    **Arguments:**

    - `stages`: number of stages `s`, from 1 (implicit midpoint) to 15.

    **Returns:** A [`stiffrax.tableaus.Tableau`][].

    **Raises:** `ValueError` for a stage count outside that range.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import stiffrax as srx
    >>> float(srx.tableaus.gauss(1).c[0])
    0.5

    ```
    """
    s = _checked(stages, 1, "gauss")
    return _collocation_tableau("gauss", "Gauss", 2 * s, s)


def lobatto_iiia(stages: int) -> Tableau:
    """Lobatto IIIA: order `2 s - 2`, first stage explicit, A-stable, stiffly accurate.

    **Arguments:**

    - `stages`: number of stages `s`, from 2 (the trapezoid rule) to 15.

    **Returns:** A [`stiffrax.tableaus.Tableau`][].

    **Raises:** `ValueError` for a stage count outside that range.

    ??? cite "Reference"
        Hairer and Wanner, *Solving Ordinary Differential Equations II*, section IV.5.

    ```python
    >>> import stiffrax as srx
    >>> srx.tableaus.lobatto_iiia(2).A.tolist()
    [[0.0, 0.0], [0.5, 0.5]]

    ```
    """
    s = _checked(stages, 2, "lobatto_iiia")
    return _collocation_tableau("lobatto_iiia", "Lobatto IIIA", 2 * s - 2, s)
