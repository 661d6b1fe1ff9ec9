"""Doses: amounts that are added to a state at a known time."""

from typing import NamedTuple, final


@final
class Dose(NamedTuple):
    """An amount that is added to a state at a time of a run.

    A measurement at that time sees the state before it, unless `seen` is true.

    ```python
    >>> import stiffrax as srx
    >>> srx.Dose(run="patient 1", time=2.0, state="drug", amount=50.0).amount
    50.0

    ```
    """

    run: str
    time: float
    state: str
    amount: float
    seen: bool = False
