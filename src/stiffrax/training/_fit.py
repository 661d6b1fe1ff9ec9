"""Training by gradient descent of any kind."""

import functools as ft
import warnings
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from .._arguments import check_callable, check_count, check_instance
from ..data import Measurements, Trajectories, common_units
from ..losses import (
    AbstractLoss,
    LikelihoodLoss,
    check_cells_to_fit,
    check_columns,
    check_data,
    fix_to_data,
    with_states,
)
from ..models import PartiallyKnown, PiNet, ScaledField, System, check_trainable, split_trainable
from ..models._checks import are_in_order
from ._batches import make_batches, replicate, whole
from ._checkpoint import Store, fingerprint, numbers_of
from ._history import History, Record
from ._new_runs import check_numbers_trained
from ._progress import progress_bar
from ._session import Judgement, Session
from ._training_loop import Training, TrainingState, check_optimizer

# Ranges that differ by more are worth a warning. Chosen, not measured.
_LARGEST_RATIO = 1e3
# One object, so that programs are found again.
_ADAM = optax.adam(1e-3)


@final
class Fit(eqx.Module):
    """What [`stiffrax.fit`][] found.

    **Attributes:**

    - `model`: the best model seen: on the runs held out, if there are any; else on the data, if
        every step saw all of them as they are; else the last one. A model that predicts more samples is
        better than one that predicts fewer, whatever their losses.
    - `last_model`: the model after the last step.
    - `loss`: the loss by which `model` is the best, or else that of the last step; infinite if a
        solve failed.
    - `history`: a [`stiffrax.History`][].
    - `num_skipped`: steps not taken because loss, gradient, or what the optimizer made of it were not
        finite.
    - `stopped`: why training ended: `"steps"`, `"patience"`, `"interrupted"`, `"not finite"`, or
        `"all solves failed"`, in twenty steps in a row.
    - `failure`: the first solve that fails with `last_model`, and why; or what was not finite, if that
        stopped the training; empty if nothing failed in the last step.

    ```python
    >>> import numpy as np, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-ts)[:, None])
    >>> fit = srx.fit(srx.Polynomial(1, degree=1), data, srx.SegmentLoss(), steps=3)
    >>> fit.stopped, fit.num_skipped
    ('steps', 0)

    ```
    """

    model: Any
    last_model: Any
    loss: float
    history: History
    num_skipped: int
    stopped: str
    failure: str

    def __repr__(self) -> str:
        steps = self.history.loss.size
        skipped = f", {self.num_skipped} skipped" if self.num_skipped else ""
        failure = f", {self.failure}" if self.failure else ""
        stopped = f"stopped by {self.stopped!r}{failure}"
        return f"Fit(loss={self.loss:.3e}, {steps} steps{skipped}, {stopped})"


def fit(
    model: Any,
    data: Trajectories | Measurements,
    loss: Callable[..., Any],
    *,
    optimizer: optax.GradientTransformation | None = None,
    steps: int = 1000,
    batch_size: int | None = None,
    transforms: Callable[..., Any] | Iterable[Callable[..., Any]] = (),
    held_out: Any = None,
    judge_every: int = 50,
    patience: int | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: float = 10.0,
    progress: bool | None = None,
) -> Fit:
    r"""Trains a model with an optimizer of optax.

    $$\theta_{k+1} = \theta_k + \mathrm{optimizer}(\nabla_\theta \,
    \mathrm{loss}(\mathrm{model}_\theta, \mathrm{data}_k))$$

    Solves that fail take part in no sum and are counted (`history.num_failed`); where all of them fail
    the parameters go back halfway to where one did not. Ctrl-C ends the training and returns what it
    has found so far.

    **Arguments:**

    - `model`: any equinox module; its floating-point arrays are trained.
    - `data`: the measured runs.
    - `loss`: `loss(model, data)`, such as [`stiffrax.SegmentLoss`][] or
        [`stiffrax.TrajectoryLoss`][], a weighted sum of losses, or a function of your own.
    - `optimizer`: an `optax.GradientTransformation`, schedules and clipping included; by default
        `optax.adam(1e-3)`. [Not all](../training.md#fit-or-your-own-loop). Schedules count the steps
        taken, not those skipped. Labels and masks are functions of the parameters,
        `optax.masked(optimizer, lambda parameters: ...)`: what is [`stiffrax.fixed`][] is `None`.
    - `steps`: how many steps, those of the checkpoint included; of a training that has taken more
        all are kept.
    - `batch_size`: how many runs a step sees; windows of samples, for losses that consist of them,
        and for what is added to these. By default all.
    - `transforms`: functions `(data, step, key) -> data`, applied in turn to the data of each step,
        such as [`stiffrax.Steer`][] and [`stiffrax.GrowingHorizon`][]; or one of them. The number of
        runs and samples may change.
    - `held_out`: runs to judge by, as `data`, or which of the runs to hold out, as in `data.split`.
        Of a sum the losses judge, without penalties and functions.
    - `judge_every`: steps between two looks at the runs held out; one more is taken at the end.
    - `patience`: training stops when so many steps have brought nothing better on them.
    - `seed`: of minibatches and transforms.
    - `mesh`: a `jax.sharding.Mesh`: the runs of a step are shared out among its devices, filled up by
        runs without a sample: a function of your own takes means where `data.mask` is true.
    - `checkpoint`: a file to which the training is written every `checkpoint_every` seconds and at
        the end. If it is there, training goes on from it, to the same bits as without interruption.
        Model, initial parameters, loss, transforms and data are compared with those of the file,
        functions by their names alone. So are the numbers that an optimizer keeps in its state, as
        `optax.inject_hyperparams` does; those in its functions, as most learning rates, are not.
    - `progress`: shows a bar; by default on a terminal with tqdm installed.

    **Returns:** a [`stiffrax.Fit`][].

    **Raises:** `ValueError` for counts that do not fit, a model without parameters, and a
    checkpoint of another training. Warns of states of very different size in a model that is not
    scaled.

    Cost: one value and gradient of the loss a step.

    ```python
    >>> import numpy as np, optax, stiffrax as srx
    >>> ts = np.linspace(0.0, 1.0, 6)
    >>> data = srx.Trajectories.from_arrays(ts, np.exp(-3 * ts)[:, None])
    >>> model, loss = srx.Polynomial(1, degree=1), srx.SegmentLoss(srx.RadauIIA5())
    >>> fit = srx.fit(model, data, loss, optimizer=optax.adam(0.1), steps=300, progress=False)
    >>> print(f"{fit.model.coefficients[0, 1]:.2f}")
    -3.00

    ```
    """
    steps, judge_every, patience = _counts(
        held_out, steps=steps, judge_every=judge_every, patience=patience
    )
    seed, given = check_count("seed", seed, least=0), loss
    model, data, held_out = _parts(model, data, loss, held_out)
    loss = _fixed(loss, data, held_out)
    mesh = _plain(mesh)
    transforms = _functions(transforms)
    batches = make_batches(loss, data, batch_size, mesh, transformed=bool(transforms))
    parameters, static = trained_part(model)
    place = (lambda tree: tree) if mesh is None else ft.partial(replicate, mesh=mesh)
    training = Training(
        static=place(static),
        loss=place(loss),
        optimizer=check_optimizer(optimizer) or _ADAM,
        transforms=transforms,
        batches=batches,
        seed=place(jnp.asarray(seed)),
        keep_best=batches.size is None and not transforms and held_out is None,
    )
    state, judgement = place(training.start(parameters)), None
    if held_out is not None:
        judgement = Judgement(whole(loss, held_out, mesh), judge_every, patience)
        training.check(parameters, judgement.runs)
    store = None
    if checkpoint is not None:
        compared = {
            "data": data,
            "held_out": held_out,
            "initial model": parameters,
            "model": static,
            "loss": given,
            "transforms": transforms,
            "model and optimizer": state,  # which an optimizer may keep its learning rate in
        }
        same = fingerprint(compared, seed=seed, batch_size=batches.size, judge_every=judge_every)
        store = Store(checkpoint, same, checkpoint_every)
    session = Session(state, judgement, store)
    stopped = session.run([(training, steps)], progress_bar(progress, steps, "fit"))
    return result_of(training, session.now, stopped, loss, data)


def _functions(transforms: Any) -> tuple[Callable[..., Any], ...]:
    write = "transforms=[srx.Steer(0.1)]"
    transforms = (transforms,) if callable(transforms) else transforms
    check_instance("transforms", transforms, Iterable, "functions", write)
    return tuple(check_callable("transforms", one, write) for one in transforms)


def _plain(mesh: Any) -> Mesh | None:
    write = 'mesh=jax.sharding.Mesh(jax.devices(), ("runs",))'
    check_instance("mesh", mesh, Mesh | None, "a mesh", write)
    # `jax.make_mesh` makes axes that want the sharding of every operation written.
    return None if mesh is None else Mesh(mesh.devices, mesh.axis_names)


def _parts(model: Any, data: Any, loss: Any, held_out: Any) -> tuple[Any, Any, Any]:
    """The model, the runs to train on and those to judge by, if any; all checked."""
    check_callable("loss", loss, "loss=stiffrax.SegmentLoss()")
    likelihoods = [x for x in jax.tree.leaves(loss, is_leaf=_is_likelihood) if _is_likelihood(x)]
    for one in likelihoods:
        data = one.check(model, data)  # before any run is held out
        if isinstance(held_out, Trajectories | Measurements):
            held_out = one.check(model, held_out)
    for runs in (data, held_out) if isinstance(held_out, Trajectories) else (data,):
        if not isinstance(runs, Measurements):
            check_data(runs)
    if held_out is not None and not isinstance(held_out, Trajectories | Measurements):
        data, held_out = data.split(held_out)
    _check_states(model, data, held_out)
    for one in likelihoods:
        check_cells_to_fit(one, model, data)
    if isinstance(data, Trajectories):
        warn_if_unscaled(model, data)
    if held_out is not None and isinstance(loss, AbstractLoss) and loss.is_of_one_data_set:
        raise ValueError(
            "`held_out` was given with a loss that holds splines, neighbors or Jacobians of the data "
            "it is for, such as `HomotopyLoss`; runs held out would be judged by those of others. "
            "Leave it out, and judge `fit.model` by `SegmentLoss` or `TrajectoryLoss` on other data."
        )
    if isinstance(model, System) and isinstance(data, Measurements):
        model = with_states(model, data)
    return model, data, held_out


def _check_states(model: Any, data: Any, held_out: Any) -> None:
    """Refuses runs held out whose states, units or starts are not those of the data."""
    if isinstance(data, Measurements) and isinstance(held_out, Measurements):
        common_units([data, held_out])
        if isinstance(model, System):
            check_columns(model, data, held_out)
            check_numbers_trained(model, data, held_out)
    if not (isinstance(data, Trajectories) and isinstance(held_out, Trajectories)):
        return
    if not are_in_order(data.names, held_out.names):
        raise ValueError(
            f"`held_out` has the states {held_out.names}, and `data` {data.names}; they are taken by "
            f"their place. Write `states={list(data.names)}` where it is read."
        )


def _is_likelihood(part: Any) -> bool:
    return isinstance(part, LikelihoodLoss)


def _fixed(loss: Any, data: Any, held_out: Any) -> Any:
    """The loss for the data to train on; of what is held out it knows the unknown spreads alone."""
    loss = fix_to_data(loss, data)
    if not isinstance(held_out, Measurements):
        return loss

    def known(part: Any) -> Any:
        return part.for_data(data, held_out) if _is_likelihood(part) else part

    return jax.tree.map(known, loss, is_leaf=_is_likelihood)


def _counts(held_out: Any, **counts: Any) -> list[Any]:
    found = [
        count if count is None else check_count(name, count, write=f"{name}=100")
        for name, count in counts.items()
    ]
    if counts["patience"] is not None and held_out is None:
        raise ValueError(
            f"`patience={counts['patience']}` was given without runs to judge by. Write for example "
            "`held_out=0.2`."
        )
    return found


def trained_part(model: Any) -> tuple[Any, Any]:
    """The parameters that are trained, and the rest of the model."""
    check_trainable(model)
    parameters, static = split_trainable(model)
    if not jax.tree.leaves(parameters):
        raise ValueError(
            f"The model {type(model).__name__} has no floating-point array to train. Pass an "
            "`equinox.Module` with parameters."
        )
    # An array of NumPy may have a precision that no step, and so no checkpoint, keeps.
    return jax.tree.map(jnp.asarray, parameters), static


def result_of(
    training: Training, now: tuple[TrainingState, Record], stopped: str, loss: Any, data: Any
) -> Fit:
    """What a training found, from its state and record."""
    state, record = now
    state, history = numbers_of(state), record.history()
    judged = bool(state.best_solved >= 0)
    last = eqx.combine(jax.tree.map(jnp.asarray, state.parameters), training.static)
    best = eqx.combine(jax.tree.map(jnp.asarray, state.best), training.static)
    best_loss = float("inf") if state.best_failed else float(state.best_value)
    last_loss = float(history.loss[-1]) if history.loss.size else float("nan")
    return Fit(
        model=best if judged else last,
        last_model=last,
        loss=best_loss if judged else last_loss,
        history=history,
        num_skipped=int(state.num_skipped),
        stopped=stopped,
        failure=_reason(stopped, history, loss, last, data),
    )


def _reason(stopped: str, history: History, loss: Any, model: Any, data: Any) -> str:
    if history.num_failed[-1:].any():
        return _failure(loss, model, data)
    return _what_is_not_finite(history) if stopped == "not finite" else ""


def _failure(loss: Any, model: Any, data: Any) -> str:
    try:
        return loss.first_failure(model, data) if isinstance(loss, AbstractLoss) else ""
    except (Exception, KeyboardInterrupt) as error:  # what was trained is not lost for a reason
        return f"a solve, not found for a {type(error).__name__}"


def _what_is_not_finite(history: History) -> str:
    loss, norm = history.solved_loss[-1], history.gradient_norm[-1]
    if not np.isfinite(loss):
        return f"the loss is {loss}, though no solve fails"
    if not np.isfinite(norm):
        return f"the gradient is not finite where the loss is {loss:.3e}: a root or a norm of zero?"
    return f"the optimizer makes no finite step of a gradient of norm {norm:.3e}"


def warn_if_unscaled(model: Any, data: Trajectories) -> None:
    """Warns if a network that is not scaled feeds states whose ranges differ by more than 1e3."""
    ys = np.asarray(data.ys)[np.asarray(data.mask)]
    ranges = np.ptp(ys, axis=0)
    if isinstance(model, PartiallyKnown):
        ranges = ranges[list(model.outputs)]
    ranges = ranges[ranges > 0]
    if not ranges.size or ranges.max() <= _LARGEST_RATIO * ranges.min():
        return
    parts = jax.tree.leaves(model, is_leaf=lambda x: _is_network(x) or isinstance(x, ScaledField))
    if not any(map(_is_network, parts)):
        return
    warnings.warn(
        f"The ranges of the states differ by a factor of {ranges.max() / ranges.min():.0e}, which "
        "keeps a network with outputs of one size from learning. Wrap it: `scaling = "
        "stiffrax.Scaling.from_data(data)`, `stiffrax.ScaledField(net, scaling.y_scale, "
        "scaling.t_scale)`.",
        stacklevel=4,  # where `fit` is called
    )


def _is_network(part: Any) -> bool:
    """Whether outputs of one size are to be expected, as they are not of a mechanism's rates."""
    return isinstance(part, PiNet) or type(part).__module__.startswith("equinox.nn")
