"""A training on disk: written so that it is whole at any moment, read back bit for bit."""

import dataclasses
import hashlib
import json
import os
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import numpy as np

from ..data import Measurements, Trajectories
from ._history import History
from ._training_loop import TrainingState

_FORMAT = 4


def fingerprint(
    state: TrainingState,
    data: Trajectories | Measurements,
    held_out: Trajectories | Measurements | None = None,
    static: Any = None,
    **settings: Any,
) -> dict[str, Any]:
    """What must be the same for a training to be continued."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    digest, judge, known = (hashlib.sha256() for _ in range(3))
    add_data(digest, data)
    add_leaves(known, eqx.filter(static, eqx.is_array))
    if held_out is not None:
        add_data(judge, held_out)
    shapes = {jax.tree_util.keystr(k): [str(x.dtype), *x.shape] for k, x in leaves}
    return {
        "format": _FORMAT,
        "data": digest.hexdigest(),
        "held_out": judge.hexdigest(),
        "numbers that are not trained": known.hexdigest(),
        "model and optimizer": shapes,
        **settings,
    }


def add_data(digest: Any, data: Trajectories | Measurements) -> None:
    """All of the data: samples, names, and the conditions under which they were measured."""
    everything = {x.name: getattr(data, x.name) for x in dataclasses.fields(data)}
    add_leaves(digest, everything)


def add_leaves(digest: Any, tree: Any) -> None:
    """The numbers and texts of a tree, each with its place."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(f"{jax.tree_util.keystr(path)} {np.shape(leaf)} ".encode())
        numbers = isinstance(leaf, np.ndarray | jax.Array)
        digest.update(np.ascontiguousarray(leaf).tobytes() if numbers else repr(leaf).encode())


@final
class Store(NamedTuple):
    """Where a training is kept, what it must agree with, and how often it is written."""

    path: str | PathLike[str]
    settings: dict[str, Any]
    seconds: float

    def save(self, state: TrainingState, history: History) -> None:
        """Writes the training, from one process of many."""
        if jax.process_index() == 0:
            save_checkpoint(self.path, self.settings, state, history)

    def load(self, state: TrainingState) -> tuple[TrainingState, History] | None:
        """The training in the file, or `None` if there is no file."""
        return load_checkpoint(self.path, self.settings, state)


def save_checkpoint(
    path: str | PathLike[str], settings: dict[str, Any], state: TrainingState, history: History
) -> None:
    """Writes beside the file and renames: the file is the old one or the new one, never a part."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    sizes = {"steps": history.loss.size, "judged": history.held_out_loss.size}
    with open(partial, "wb") as file:
        file.write(json.dumps({"settings": settings, "history": sizes}).encode() + b"\n")
        eqx.tree_serialise_leaves(file, (jax.tree.map(np.asarray, state), history))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    # The new name itself must reach the disk too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_checkpoint(
    path: str | PathLike[str], settings: dict[str, Any], state: TrainingState
) -> tuple[TrainingState, History] | None:
    """The training in the file, or `None` if there is no file."""
    if not Path(path).exists():
        return None
    with open(path, "rb") as file:
        header = _header(path, file.readline())
        saved = header["settings"]
        for name, value in settings.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"{path} holds a training with another {name}{_difference(saved, name, value)}. "
                    "Give the arguments of that training, or another path, or delete the file."
                )
        steps, judged = header["history"]["steps"], header["history"]["judged"]
        history = History(
            solved_loss=np.zeros(steps),
            gradient_norm=np.zeros(steps),
            num_failed=np.zeros(steps, int),
            held_out_steps=np.zeros(judged, int),
            held_out_loss=np.zeros(judged),
        )
        like = jax.tree.map(np.asarray, state), history
        return eqx.tree_deserialise_leaves(file, like)


def _header(path: str | PathLike[str], line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        complete = {"settings", "history"} <= set(header)
    except (ValueError, TypeError):
        complete = False
    if not complete:
        raise ValueError(
            f"{path} is no checkpoint of a training. Give another path, or delete the file."
        )
    return header


def _difference(saved: dict[str, Any], name: str, value: Any) -> str:
    short = isinstance(value, (int, float, type(None))) and name in saved
    return f" ({saved[name]} there, {value} here)" if short else ""
