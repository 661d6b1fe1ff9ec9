"""Doses: amounts that are added to a state at a known time."""

from typing import NamedTuple, final


@final
class Dose(NamedTuple):
    """An amount that is added to a state at a time of a run.

    A measurement at that time sees the state before it, unless `seen` is true.

    **Arguments:**

    - `run`: name of the run.
    - `time`: in the unit of the data, from the start of the run on.
    - `state`: name of a state of the system.
    - `amount`: what is added, in the unit of the state; it may be negative.
    - `seen`: whether a measurement at this time sees the state after it.

    Measurements raise `ValueError` for runs and times that they do not have, a system for states.

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
