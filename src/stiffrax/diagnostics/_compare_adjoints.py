"""Every adjoint on one problem: how far apart their gradients are, and what they cost."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from .._arguments import check_count
from ..adjoints import (
    DiscreteAdjoint,
    ForwardSensitivity,
    GaussAdjoint,
    ImexAdjoint,
    InterpolatingAdjoint,
    QuadratureAdjoint,
)

# A gradient that is off by more is not recommended, however fast.
_LARGEST_DIFFERENCE = 1e-2
# An adjoint that takes this much longer (in seconds) is not repeated for a median.
_LONG = 2.0
_LEAST_SAVING_OF_MEMORY = 4


@final
@dataclasses.dataclass(frozen=True)
class AdjointRow:
    """One adjoint, as `compare_adjoints` lists it.

    **Attributes:**

    - `name`: how the adjoint is written.
    - `difference`: of its gradient to that of the first adjoint, over the size of that one.
    - `seconds`: one value and gradient, compiled; the median.
    - `megabytes`: what the compiled program needs beside its inputs and outputs; NaN if unknown.
    - `refusal`: why it does not apply, or how it failed; `None` where all is well.

    ```python
    >>> import stiffrax as srx
    >>> srx.diagnostics.AdjointRow("GaussAdjoint()", 2e-7, 0.04, 0.5, None).is_right
    True

    ```
    """

    name: str
    difference: float
    seconds: float
    megabytes: float
    refusal: str | None

    @property
    def is_right(self) -> bool:
        """Whether its gradient is that of the first adjoint, to a hundredth."""
        return self.refusal is None and self.difference <= _LARGEST_DIFFERENCE


@final
@dataclasses.dataclass(frozen=True)
class AdjointComparison:
    """What `compare_adjoints` found; `print` shows it as a table and says which adjoint to use.

    **Attributes:**

    - `rows`: an `AdjointRow` for each adjoint, the one that is the measure of others first.

    ```python
    >>> import stiffrax as srx
    >>> row = srx.diagnostics.AdjointRow
    >>> discrete = row("DiscreteAdjoint()", 0.0, 0.007, 1.2, None)
    >>> gauss = row("GaussAdjoint()", 2e-7, 0.04, 0.5, None)
    >>> print(srx.diagnostics.AdjointComparison((discrete, gauss)))
    adjoint             difference   time      memory
    DiscreteAdjoint()     0.0e+00    7.00 ms     1.20 MB
    GaussAdjoint()        2.0e-07   40.00 ms     0.50 MB
    Use DiscreteAdjoint(), the fastest with the right gradient.

    ```
    """

    rows: tuple[AdjointRow, ...]

    @property
    def fastest(self) -> AdjointRow:
        """The fastest of those whose gradient is right."""
        return min(self._right, key=lambda row: row.seconds)

    @property
    def smallest(self) -> AdjointRow:
        """The one with the least memory of those whose gradient is right."""
        return min(self._right, key=lambda row: row.megabytes)

    @property
    def _right(self) -> list[AdjointRow]:
        return [row for row in self.rows if row.is_right]

    def recommendation(self) -> str:
        """Which to use, in a line."""
        fast, small = self.fastest, self.smallest
        text = f"Use {fast.name}, the fastest with the right gradient"
        if small.megabytes * _LEAST_SAVING_OF_MEMORY < fast.megabytes:
            text += f"; where memory is short {small.name}, {small.megabytes:.3g} MB"
        return text + "."

    def __str__(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [f"{'adjoint':{width}}  difference   time      memory"]
        for row in self.rows:
            shown = f"{row.name:{width}}  "
            if row.refusal is None:
                shown += f"{row.difference:10.1e}{row.seconds * 1e3:8.2f} ms"
                shown += f"{row.megabytes:9.2f} MB"
                shown += "" if row.is_right else "  wrong"
            else:
                shown += row.refusal
            lines.append(shown)
        return "\n".join([*lines, self.recommendation()])


def _candidates(num_parameters: int) -> dict[str, diffrax.AbstractAdjoint]:
    few = num_parameters <= 64
    return {
        "DiscreteAdjoint()": DiscreteAdjoint(),
        "DiscreteAdjoint(memory='steps')": DiscreteAdjoint(memory="steps"),
        "ForwardSensitivity()" if few else "ForwardSensitivity(chunk=64)": ForwardSensitivity(
            None if few else 64
        ),
        "GaussAdjoint()": GaussAdjoint(),
        "InterpolatingAdjoint()": InterpolatingAdjoint(),
        "QuadratureAdjoint()": QuadratureAdjoint(),
        "ImexAdjoint()": ImexAdjoint(),
        "diffrax.RecursiveCheckpointAdjoint()": diffrax.RecursiveCheckpointAdjoint(),
        "diffrax.BacksolveAdjoint()": diffrax.BacksolveAdjoint(),
    }


def compare_adjoints(
    loss: Callable[[PyTree, Any], Any],
    parameters: PyTree,
    adjoints: dict[str, diffrax.AbstractAdjoint] | None = None,
    *,
    repeats: int = 5,
) -> AdjointComparison:
    """Runs the adjoints on your own problem: difference of gradients, time, memory, which to use.

    **Arguments:**

    - `loss`: your loss as `loss(parameters, adjoint)`, a number; it solves with
      `diffrax.diffeqsolve(..., adjoint=adjoint)`.
    - `parameters`: a pytree (a model, for example) of the values to differentiate by.
    - `adjoints`: names and adjoints to compare, the measure of the others first; by default
      those of stiffrax, `diffrax.RecursiveCheckpointAdjoint` and `diffrax.BacksolveAdjoint`.
    - `repeats`: of the timing, for the median.

    **Returns:** an `AdjointComparison`; print it. An adjoint that cannot do your problem is listed
    with its reason.

    **Raises:** `ValueError` if the loss is not a number, if nothing is differentiated by, or if no
    adjoint gives a gradient that is finite and not zero.

    Cost: a compilation and `repeats + 1` gradients an adjoint.

    ```python
    >>> import diffrax, jax.numpy as jnp, stiffrax as srx
    >>> def loss(rate, adjoint):
    ...     decay = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     return diffrax.diffeqsolve(decay, srx.RadauIIA5(), 0.0, 1.0, 0.1, jnp.array(1.0),
    ...         adjoint=adjoint).ys[-1]
    >>> adjoints = {"DiscreteAdjoint()": srx.DiscreteAdjoint(), "GaussAdjoint()": srx.GaussAdjoint()}
    >>> comparison = srx.diagnostics.compare_adjoints(loss, jnp.array(2.0), adjoints)
    >>> [row.name for row in comparison.rows if row.is_right]
    ['DiscreteAdjoint()', 'GaussAdjoint()']

    ```
    """
    check_count("repeats", repeats, write="repeats=5")
    flat, _ = ravel_pytree(eqx.filter(parameters, eqx.is_inexact_array))
    if not flat.size:
        # Two empty gradients agree whatever they are of.
        raise ValueError(
            f"`parameters` is a {type(parameters).__name__} without floating-point arrays, which are "
            "what is differentiated by; numbers of Python are constants. Write `jnp.array(2.0)`."
        )
    if adjoints is None:
        adjoints = _candidates(flat.size)
    rows, reference = [], None
    for name, adjoint in adjoints.items():
        row, gradient = _measure(name, adjoint, loss, parameters, reference, repeats)
        reference = gradient if reference is None else reference
        rows.append(row)
    if reference is None:
        reasons = "; ".join(f"{row.name}: {row.refusal}" for row in rows)
        raise ValueError(
            f"No adjoint gave a gradient that is finite and not zero ({reasons}). Solve once without "
            "a gradient, and see `stiffrax.diagnostics.explain`."
        )
    return AdjointComparison(tuple(rows))


def _measure(
    name: str,
    adjoint: diffrax.AbstractAdjoint,
    loss: Callable,
    parameters: PyTree,
    reference: Array | None,
    repeats: int,
) -> tuple[AdjointRow, Array | None]:

    def value(parameters: PyTree) -> Any:
        found = loss(parameters, adjoint)
        if jnp.shape(found) != ():
            raise _NotANumber(
                f"The loss has shape {jnp.shape(found)}; a number is needed. Write `jnp.sum(...)` "
                "or `jnp.mean(...)`."
            )
        return found

    try:
        program = eqx.filter_jit(eqx.filter_value_and_grad(value)).lower(parameters).compile()
        gradient, first = _run(program, parameters)
    except _NotANumber:
        raise
    # Whatever an adjoint cannot do is what the table is there to say.
    except Exception as error:
        return AdjointRow(name, math.nan, math.nan, math.nan, _reason(error)), None
    finite = jnp.all(jnp.isfinite(gradient))
    if not finite or not jnp.any(gradient):
        # A solve that failed under `throw=False` has the gradient zero, by any adjoint.
        refusal = "zero like that of a failed solve" if finite else "not finite"
        return AdjointRow(name, math.nan, first, _megabytes(program), refusal), None
    times = [first]
    if first < _LONG:
        times = [_run(program, parameters)[1] for _ in range(repeats)]
    measure = gradient if reference is None else reference
    difference = _relative_difference(gradient, measure)
    row = AdjointRow(name, difference, statistics.median(times), _megabytes(program), None)
    return row, gradient


def _relative_difference(gradient: Array, measure: Array) -> float:
    # On the host: single precision has no squares of what is below 1e-20 or above 1e19.
    wide = np.result_type(np.float64, np.complex64 if jnp.iscomplexobj(measure) else np.float64)
    found, true = (np.asarray(x).astype(wide) for x in (gradient, measure))
    size = max(float(np.linalg.norm(true)), float(np.finfo(np.float64).tiny))
    return float(np.linalg.norm(found - true)) / size


class _NotANumber(ValueError):
    """The caller's own mistake, which no adjoint is to blame for."""


def _run(program: Any, parameters: PyTree) -> tuple[Array, float]:
    start = time.perf_counter()
    _, gradient = jax.block_until_ready(program(parameters))
    seconds = time.perf_counter() - start
    return ravel_pytree(eqx.filter(gradient, eqx.is_inexact_array))[0], seconds


def _megabytes(program: Any) -> float:
    try:
        return program.compiled.memory_analysis().temp_size_in_bytes / 1e6
    # Not every backend tells.
    except (AttributeError, NotImplementedError):
        return math.nan


def _reason(error: Exception) -> str:
    # What is raised within a compiled program stands below what the runtime says of it.
    text = str(error).rpartition("EquinoxRuntimeError: ")[2]
    lines = [line for line in text.splitlines() if line.strip()]
    shown = lines[0] if lines else type(error).__name__
    return shown if len(shown) <= 90 else shown[:87] + "..."
