"""What all losses have in common: they are called, added and weighted, their parts checked."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._arguments import check_instance, check_positive, check_tolerances
from ._error_measures import AbstractErrorMeasure

_KINDS = {
    "solver": (diffrax.AbstractSolver, "a solver", "solver=stiffrax.RadauIIA5()"),
    "measure": (AbstractErrorMeasure, "a measure of errors", "measure=stiffrax.ScaledMAE()"),
    "adjoint": (diffrax.AbstractAdjoint, "an adjoint", "adjoint=stiffrax.DiscreteAdjoint()"),
    "controller": (
        diffrax.AbstractStepSizeController | None,
        "a step size controller of diffrax or stiffrax",
        "controller=diffrax.PIDController(rtol=1e-6, atol=1e-9)",
    ),
}


@final
class LossValue(NamedTuple):
    """The value of a loss, and how many of its predictions could be made.

    A prediction that failed has no error and takes part in no mean; any number put in its place could
    be preferred to the error of a poor prediction. Values are therefore compared by the samples that
    were predicted first, and only then by the value.

    **Attributes:**

    - `value`: the loss over what could be predicted, `Float[Array, ""]`.
    - `num_failed`: solves that failed, `Int[Array, ""]`.
    - `num_solved`: samples that were predicted, `Int[Array, ""]`; at most all of them. A loss that
        predicts nothing, such as a penalty, leaves it out.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 5)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> srx.SegmentLoss(srx.RadauIIA5()).evaluate(lambda t, y, args: -y, data).num_failed.item()
    0

    ```
    """

    value: Float[Array, ""]
    num_failed: Int[Array, ""]
    num_solved: Any = None

    @property
    def or_infinity(self) -> Float[Array, ""]:
        """The value, infinite if a solve failed; its derivative is that of what was solved."""
        return self.value + jnp.where(self.num_failed > 0, jnp.inf, 0).astype(self.value.dtype)

    @property
    def nothing_solved(self) -> Bool[Array, ""]:
        """Whether every solve failed: the value and its derivative say nothing then."""
        # A function of the user's that sums losses shows failures by its value alone.
        if self.num_solved is None:
            return jnp.asarray(False)
        return (self.num_failed > 0) & (jnp.asarray(self.num_solved) == 0)


class AbstractSummand(eqx.Module):
    """What `+` and `*` make a `WeightedSum` of: a loss, or a penalty, which predicts nothing."""

    # Arrays of NumPy leave the product to `__rmul__`.
    __array_ufunc__: ClassVar[None] = None

    @abc.abstractmethod
    def __call__(self, model: Any, data: Any) -> Float[Array, ""]:
        """The number that is minimized."""

    def __add__(self, other: Any) -> "AbstractLoss":
        if not callable(other):
            return NotImplemented
        return _sum_of([*weighted_terms(self), *weighted_terms(other)])

    def __radd__(self, other: Any) -> "AbstractLoss":
        if isinstance(other, int) and other == 0:
            return self * 1.0  # what `sum` begins with
        if not callable(other):
            return NotImplemented
        return _sum_of([*weighted_terms(other), *weighted_terms(self)])

    def __mul__(self, weight: Any) -> "AbstractLoss":
        if callable(weight):
            return NotImplemented
        if jnp.ndim(weight) != 0:
            raise ValueError(
                f"A loss was multiplied by an array of shape {jnp.shape(weight)}; it needs one "
                "number. Weights of states or samples belong to its `measure`."
            )
        return _sum_of([(weight * w, loss) for w, loss in weighted_terms(self)])

    def __rmul__(self, weight: Any) -> "AbstractLoss":
        return self * weight


class AbstractLoss(AbstractSummand):
    """A loss: `loss(model, data)` returns the number that training minimizes.

    Losses are added and multiplied by numbers, `segments + 0.1 * trajectories`; what is added may
    also be a plain function of model and data, such as a penalty on parameters.

    A subclass defines `evaluate`, and may define `for_data` and `window`.

    ```python
    >>> import jax.numpy as jnp, numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 5)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> model = srx.Polynomial(1, degree=1, coefficients=[[0.0, -1.0]])
    >>> loss = srx.SegmentLoss() + (lambda model, data: jnp.sum(model.coefficients**2))
    >>> print(f"{(0.5 * loss)(model, data):.4f}")
    0.5000

    ```
    """

    @abc.abstractmethod
    def evaluate(self, model: Any, data: Any) -> LossValue:
        """The value over what could be predicted, the failures and the samples; traceable."""

    def first_failure(self, model: Any, data: Any) -> str:
        """Where and why the first prediction that fails does, or nothing; not traceable."""
        failed = int(self.evaluate(model, data).num_failed)
        return f"{failed} predictions of {type(self).__name__} failed" if failed else ""

    def for_data(self, data: Any) -> "AbstractLoss":
        """This loss with everything that depends on the data as a whole, such as scales, fixed.

        Minibatches of the data then all mean the same.
        """
        del data
        return self

    @property
    def window(self) -> int | None:
        """How many segments belong together, which a minibatch must not cut; `None`: a whole run."""
        return None

    @property
    def is_of_one_data_set(self) -> bool:
        """Whether `for_data` keeps something of every sample, so that no others can be judged."""
        return False

    def __call__(self, model: Any, data: Any) -> Float[Array, ""]:
        """The value, infinite if a solve failed; its derivative is that of what was solved."""
        return self.evaluate(model, data).or_infinity


@final
class WeightedSum(AbstractLoss):
    """`sum_j weights_j losses_j`, which is what `+` and `*` on losses make; none is such a sum."""

    losses: tuple[Callable[..., Any], ...]
    weights: tuple[Any, ...]

    def evaluate(self, model: Any, data: Any) -> LossValue:
        """The weighted sum of the values, and the sums of failures and samples."""
        values = [evaluate_loss(loss, model, data) for loss in self.losses]
        total = sum(w * v.value for w, v in zip(self.weights, values, strict=True))
        # What predicts nothing does not hide that all predictions failed.
        predicting = [v.num_solved for v in values if v.num_solved is not None]
        failed: Any = sum(v.num_failed for v in values)
        return LossValue(jnp.asarray(total), failed, sum(predicting) if predicting else None)

    def first_failure(self, model: Any, data: Any) -> str:
        """That of the first loss that has one."""
        failures = (loss.first_failure(model, data) for loss in self._proper)
        return next(filter(None, failures), "")

    def for_data(self, data: Any) -> "WeightedSum":
        """Every loss for the data."""
        return WeightedSum(tuple(fix_to_data(loss, data) for loss in self.losses), self.weights)

    @property
    def window(self) -> int | None:
        """What all losses agree on, or else whole runs."""
        windows = {loss.window for loss in self._proper}
        return windows.pop() if len(windows) == 1 else None

    @property
    def has_plain_functions(self) -> bool:
        """Whether some of the losses are functions of model and data."""
        return len(self._proper) < len(self.losses)

    @property
    def is_of_one_data_set(self) -> bool:
        """Whether any of the losses is."""
        return any(loss.is_of_one_data_set for loss in self._proper)

    @property
    def _proper(self) -> list[AbstractLoss]:
        return [loss for loss in self.losses if isinstance(loss, AbstractLoss)]


def weighted_terms(loss: Callable[..., Any]) -> list[tuple[Any, Callable[..., Any]]]:
    """The losses of a sum, each with its weight; of any other loss itself."""
    if not isinstance(loss, WeightedSum):
        return [(1.0, loss)]
    return list(zip(loss.weights, loss.losses, strict=True))


def _sum_of(terms: list[tuple[Any, Callable[..., Any]]]) -> WeightedSum:
    # A number that is zero, as at the end of a sweep over weights: its loss is none, and cannot fail.
    some = [(w, loss) for w, loss in terms if not (isinstance(w, int | float) and w == 0)]
    weights, losses = zip(*(some or terms), strict=True)
    return WeightedSum(losses, weights)


def evaluate_loss(loss: Callable[..., Any], model: Any, data: Any) -> LossValue:
    """`loss.evaluate(model, data)`; a plain function of model and data is a loss too."""
    if isinstance(loss, AbstractLoss):
        found = loss.evaluate(model, data)
    else:
        found = LossValue(loss(model, data), jnp.asarray(0))
    value = jnp.asarray(found.value)
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"The loss returned {value.dtype} of shape {value.shape}; it needs one real number: "
            "write for example `jnp.mean(...)`."
        )
    return LossValue(value, jnp.asarray(found.num_failed), found.num_solved)


def losses_of(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The losses of a sum, without penalties and functions."""
    terms = [(w, one) for w, one in weighted_terms(loss) if isinstance(one, AbstractLoss)]
    return _sum_of(terms) if terms else loss


def fix_to_data(loss: Callable[..., Any], data: Any) -> Callable[..., Any]:
    """`loss.for_data(data)`; a plain function has nothing to fix."""
    return loss.for_data(data) if isinstance(loss, AbstractLoss) else loss


def check_parts(**parts: Any) -> None:
    """Refuses parts of another kind than their name says."""
    for name, part in parts.items():
        check_instance(name, part, *_KINDS[name])
    inner = parts.get("controller")
    while isinstance(inner, diffrax.ClipStepSizeController):
        inner = inner.controller
    if isinstance(inner, diffrax.ConstantStepSize):
        raise ValueError(
            "`controller=ConstantStepSize()` was given, and no size of its steps. Write "
            "`controller=diffrax.PIDController(rtol=1e-6, atol=1e-9)`; for fixed steps take "
            "`stiffrax.SegmentLoss(solver, substeps=4)`, or `step=0.1` of a Lyapunov spectrum."
        )


def loss_tolerances(owner: str, rtol: Any, atol: Any) -> tuple[float, Any]:
    """One relative tolerance, and absolute ones for all states or each, if a solve can keep them."""
    check_positive("rtol", rtol, write="rtol=1e-6")
    atol = jnp.asarray(atol) if isinstance(atol, list | tuple) else atol
    check_tolerances(owner, rtol, 1.0 if atol is None else atol, positive=True)
    return float(rtol), atol
