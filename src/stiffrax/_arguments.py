"""Checks of counts, tolerances and choices, wherever a user gives them: one of each."""

import contextlib
import math
import operator
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from ._flat_state import inexact, real_dtype
from ._trees import is_traced

# Least relative tolerance in units of rounding. Chosen, not measured; RADAU5 refuses below 10.
_LEAST_TOLERANCE = 16.0


def check_count(
    name: str, value: Any, *, least: int = 1, most: int | None = None, write: str | None = None
) -> int:
    """`value` as a Python integer from `least` to `most`.

    A bool or a whole float would pass for the number that it equals, and is refused.
    """
    count = as_integer(value)
    if count is not None and count >= least and (most is None or count <= most):
        return count
    needed = (
        f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"
    )
    needed = "a positive integer" if most is None and least == 1 else needed
    write = f"{name}={least}" if write is None else write
    raise ValueError(f"`{name}={value!r}` was given; it needs {needed}. Write `{write}`.")


def as_integer(value: Any) -> int | None:
    """`value` as a Python integer, if it is an integer of any library."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        return None


def plain_integer(value: Any) -> Any:
    """`value` as a Python integer if it is one of another library, which no static field may hold."""
    integer = as_integer(value)
    return value if integer is None else integer


def check_instance(name: str, value: Any, kinds: Any, needed: str, write: str) -> Any:
    """`value`, if it is of one of the kinds; `needed` says in words which."""
    if not isinstance(value, kinds):
        given = repr(value) if isinstance(value, str | int | float | type | None) else None
        given = f"a {type(value).__name__}" if given is None else f"`{given}`"
        raise ValueError(f"`{name}` is {given}; it needs {needed}. Write `{write}`.")
    return value


def check_positive(name: str, value: Any, *, write: str, below: float = math.inf) -> Any:
    """`value`, if it is a number above zero and below another; infinity, NaN and arrays are none."""
    with contextlib.suppress(TypeError, ValueError):  # text, and more than one number
        if 0 < value < below:
            return value
    needed = "a positive number" if below == math.inf else f"a number above 0 and below {below:g}"
    raise ValueError(f"`{name}={value!r}` was given; it needs {needed}. Write `{write}`.")


def check_callable(name: str, value: Any, write: str) -> Any:
    """`value`, if it can be called."""
    if not callable(value):
        given = "None" if value is None else f"a {type(value).__name__}"
        raise ValueError(f"`{name}` is {given}, which cannot be called. Write `{write}`.")
    return value


def called(what: str, model: Any, t: Any, y: Any, args: Any) -> Any:
    """`model(t, y, args)`; a model that takes other arguments, or asks for more, is named."""
    try:
        return model(t, y, args)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{what} fails, called as `model(t, y, args)` with `y` of shape {jnp.shape(y)}: {error}"
        ) from error


def check_one_lane(number: Any) -> None:
    """Refuses a batch of solutions, which have many of a number where one has one."""
    if np.ndim(number):
        raise ValueError(
            f"A batch of shape {np.shape(number)} was given; one solution is needed. Write "
            "`jax.tree.map(lambda x: x[0] if eqx.is_array(x) else x, solution)` for its first lane."
        )


def check_rates(what: str, rates: Any, y: Any) -> None:
    """Refuses a derivative of another shape than the state, which broadcasts to it or does not."""
    shape = getattr(rates, "shape", None)
    if shape != y.shape:
        given = f"a {type(rates).__name__}" if shape is None else f"an array of shape {shape}"
        raise ValueError(
            f"{what} returns {given} for `y` of shape {y.shape}; it must return one number for each "
            f"of the {y.size} states."
        )


def real_numbers(name: str, value: Any) -> np.ndarray:
    """`value` as an array of float64, if it holds real numbers; `None` and what is masked are NaN.

    NumPy alone would read numbers out of text, and drop the imaginary parts of complex ones.
    """
    given = None
    with contextlib.suppress(TypeError, ValueError):
        read = _with_masks(value)
        array = (np.ma.array if isinstance(read, np.ma.MaskedArray) else np.asarray)(read)
        given = array.dtype
        texts = (str, bytes, np.datetime64, np.timedelta64)
        mixed = array.dtype.kind == "O" and any(isinstance(x, texts) for x in array.flat)
        if not mixed and array.dtype.kind in "biufO" or jnp.issubdtype(array.dtype, jnp.floating):
            return np.ma.filled(array.astype(float), np.nan)
    if is_traced(value):
        raise ValueError(
            f"`{name}` is traced, and its numbers are checked. Give them outside of `jax.jit`, "
            "`jax.grad` and `jax.vmap`, and put traced ones in their place by `equinox.tree_at`."
        )
    raise ValueError(
        f"`{name}` is a {type(value).__name__} of dtype {given}; it needs real numbers. Convert text "
        "with `float`, and give the real and the imaginary part of a complex quantity as two."
    )


def _with_masks(value: Any) -> Any:
    # NumPy sees the masks of a list's items, and none further within.
    if isinstance(value, list | tuple):
        items = list(map(_with_masks, value))
        if any(isinstance(x, np.ma.MaskedArray) for x in items):
            return np.ma.array(items)
    return value


def real_array(name: str, value: Any) -> Array:
    """`value` as an array of a real floating-point type."""
    array = inexact(value)
    if jnp.iscomplexobj(array):
        raise ValueError(
            f"`{name}` must be real, got {array.dtype}: make the real and the imaginary part of a "
            "complex state two states."
        )
    return array


def check_state(y: Any) -> None:
    """Refuses states that no solve can be made of."""
    leaves = jax.tree.leaves(y)
    if not sum(jnp.size(leaf) for leaf in leaves):
        raise ValueError(
            f"The state {jax.tree.map(jnp.shape, y)} has no component. Give `y0` one "
            "floating-point array or more, such as `jnp.array([1.0])`."
        )
    for leaf in leaves:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"The state has a leaf of dtype {dtype}; stiffrax solves floating-point and complex "
                "states. Convert integers with `jnp.asarray(y0, float)`."
            )


def check_choice(owner: str, name: str, value: Any, *choices: Any) -> None:
    """Refuses an option that is none of the choices."""
    if not any(value is choice or (value == choice) is True for choice in choices):
        shown = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{owner}({name}={value!r})` was given; write one of {shown}.")


def check_tolerances(
    owner: str, rtol: Any, atol: Any, *, state: Any = None, positive: bool = False
) -> None:
    """Refuses tolerances that no step can keep, where their values are known while tracing.

    `positive`: whether both must be positive, instead of one of them. `state`: that they are of;
    below some ten units of rounding its error estimate is noise, and steps are rejected for ever.
    """
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if isinstance(tolerance, list | tuple | dict):
            raise ValueError(
                f"`{owner}({name}={tolerance!r})` was given; it needs one number, or an array of one "
                f"for each component. Write `{name}=jnp.array([1e-6, 1e-9])`."
            )
    if state is not None:
        check_shapes(rtol, atol, state)
        # Known by itself: `atol` may be an array that is traced.
        known = numbers(rtol)
        if known is not None and len(known) == 1 and known[0].size == 1:
            dtype = real_dtype(state)
            _check_precision(dtype, float(known[0].reshape(())))
    relative, absolute = numbers(rtol), numbers(atol)
    if relative is None or absolute is None:
        return
    known = all(np.all((x >= 0) & np.isfinite(x)) for x in (*relative, *absolute))
    nothing = [any(np.any(x == 0) for x in tolerance) for tolerance in (relative, absolute)]
    if not known or (any(nothing) if positive else all(nothing)):
        needed = "both must be positive" if positive else "neither may be negative, nor both zero"
        raise ValueError(
            f"`{owner}(rtol={rtol!r}, atol={atol!r})` was given; {needed}. Write for example "
            f"`{owner}(rtol=1e-6, atol=1e-9)`."
        )


def numbers(given: Any) -> list[np.ndarray] | None:
    """The numbers in what was given, NaN for what is none; `None` where they are traced."""
    leaves = jax.tree.leaves(given)
    if not leaves or any(isinstance(x, Tracer | jax.ShapeDtypeStruct) for x in leaves):
        return None
    try:
        return [np.asarray(x, float) for x in leaves]
    except (TypeError, ValueError):
        return [np.asarray(np.nan)]


def check_shapes(rtol: Any, atol: Any, state: Any) -> None:
    """Refuses tolerances that are neither one number nor one for each component."""
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not isinstance(tolerance, Array | np.ndarray):
            continue
        for shape in [jnp.shape(leaf) for leaf in jax.tree.leaves(state)]:
            if not shapes_fit(tolerance.shape, shape):
                raise ValueError(
                    f"`{name}` of shape {tolerance.shape} was given for a state of shape {shape}; "
                    f"it needs one number, or one for each component. Write `{name}=1e-6`."
                )


def shapes_fit(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    """Whether an array of one shape broadcasts to another."""
    pairs = zip(shape[::-1], into[::-1], strict=False)
    return len(shape) <= len(into) and all(a in (1, b) for a, b in pairs)


def least_tolerance(dtype: Any) -> float:
    """The least relative tolerance that a precision holds."""
    return _LEAST_TOLERANCE * float(jnp.finfo(dtype).eps)


def _check_precision(dtype: Any, rtol: float) -> None:
    limit = least_tolerance(dtype)
    if not 0 < rtol < limit:
        return
    wider = (
        ""
        if dtype == jnp.float64
        else (
            ', or solve in double precision: `jax.config.update("jax_enable_x64", True)` and a float64 '
            "`y0`"
        )
    )
    # Rounded up: what the message tells to write must not be refused again.
    digit = 10.0 ** math.floor(math.log10(limit))
    written = math.ceil(limit / digit) * digit
    raise ValueError(
        f"`rtol={rtol:g}` was given for a state of {jnp.dtype(dtype).name}, which holds "
        f"relative tolerances down to {limit:.1e}. Write `rtol={written:.0e}` or more{wider}."
    )


def refuse_no_estimate(controller: str) -> NoReturn:
    """A controller of errors needs an estimate."""
    raise ValueError(
        f"`{controller}` was given a solver that estimates no error. Write "
        "`diffrax.ConstantStepSize()`, or take a solver that does, such as `stiffrax.RadauIIA5()`."
    )
