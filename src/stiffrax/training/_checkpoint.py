"""Trainings and searches on disk: written so as to be whole at any moment, read back bit for bit."""

import dataclasses
import functools as ft
import hashlib
import json
import os
import re
import types
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._arguments import check_positive
from ..data import Measurements
from ..models import split_trainable
from ._box_trust_region import Found
from ._history import History
from ._lockstep import Evaluation
from ._parameter_vector import ParameterVector
from ._training_loop import TrainingState

_FORMAT, _FORMAT_OF_SEARCHES = 9, 4
_COUNTS = ("steps", "num_failed_steps", "stopped", "hops", "hops_gained")
# Compared by their names alone.
_NAMED = type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType


def fingerprint(compared: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """What must be the same for a training to be continued: of `compared` the digests."""
    digests = {name: digest_of(tree) for name, tree in compared.items()}
    return {"format": _FORMAT, **digests, **settings}


def digest_of(*trees: Any) -> str:
    """Of the numbers, texts, classes and settings of trees, static fields included.

    Functions are told apart by their names: what they compute, and what they close over, as
    optimizers do over learning rates, cannot be compared.
    """
    digest = hashlib.sha256()
    _add(digest, trees)
    return digest.hexdigest()


def _add(digest: Any, x: Any, above: tuple[Any, ...] = ()) -> None:
    x = jax.random.key_data(x) if is_key(x) else x
    if isinstance(x, np.ndarray | np.generic | jax.Array):
        digest.update(f"{x.dtype} {x.shape} ".encode() + np.ascontiguousarray(x).tobytes())
        return
    parts = [] if any(x is one for one in above) else _parts(x)
    text = _text(x) if parts is None else len(parts)
    digest.update(f"{type(x).__qualname__} {text} ".encode())
    for part in parts or ():
        _add(digest, part, (*above, x))


def _text(x: Any) -> str:
    # Without addresses, which differ from one process to the next.
    return getattr(x, "__qualname__", None) or re.sub(r" at 0x\w+", "", repr(x))


def _parts(x: Any) -> list[Any] | None:
    """What a value consists of besides its class, or `None` if nothing."""
    if isinstance(x, dict):
        return sorted(x.items(), key=lambda item: repr(item[0]))
    if isinstance(x, tuple | list):
        return list(x)
    if isinstance(x, set | frozenset):
        return sorted(x, key=repr)
    if isinstance(x, ft.partial):
        return [x.func, x.args, x.keywords]
    if isinstance(x, _NAMED):
        return None
    if dataclasses.is_dataclass(x):
        return [(field.name, getattr(x, field.name, None)) for field in dataclasses.fields(x)]
    if isinstance(x, types.MethodType):
        return [x.__func__, x.__self__]
    # Attributes too: what is registered without leaves holds all that it has in them.
    own = getattr(x, "__dict__", {})
    if not jax.tree_util.all_leaves([x]):
        return [jax.tree.leaves(x), own]
    return [_text(x), own] if own else None


def is_key(x: Any) -> bool:
    """Whether an array holds typed keys of random numbers."""
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def numbers_of(tree: Any) -> Any:
    """Its arrays as those of NumPy; random keys, which an optimizer may hold, as their data."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def with_keys(numbers: Any, like: Any) -> Any:
    """The numbers with their keys, where `like` has some."""

    def restored(x: Any, like: Any) -> Any:
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like)) if is_key(like) else x

    return jax.tree.map(restored, numbers, like)


def write_whole(path: Path, write: Callable[[Any], Any]) -> None:
    """Writes beside the file and renames: the file is the old one or the new one, never a part."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    if os.name != "posix":
        return  # a folder cannot be opened there
    # The new name itself must reach the disk too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_folder(path: str | PathLike[str]) -> None:
    """Refuses a file that could not be written, before anything is computed."""
    path = Path(path).absolute()
    folder = path.parent
    if path.is_dir():
        raise ValueError(
            f"`checkpoint={str(path)!r}` was given, which is a folder; it needs a file. Write "
            f"`checkpoint={str(path / 'fit.eqx')!r}`."
        )
    if not folder.is_dir():
        raise ValueError(
            f"`checkpoint={str(path)!r}` was given, and the folder {str(folder)!r} does not exist. "
            "Make it, or give another path."
        )


@final
class Store(NamedTuple):
    """Where a training is kept, what it must agree with, and how often it is written."""

    path: str | PathLike[str]
    settings: dict[str, Any]
    seconds: float

    def save(self, state: TrainingState, history: History) -> None:
        """Writes the training, from one process of many."""
        if jax.process_index() != 0:
            return
        sizes = {"steps": history.loss.size, "judged": history.held_out_loss.size}
        header = json.dumps({"settings": self.settings, "history": sizes}).encode() + b"\n"

        def write(file: Any) -> None:
            file.write(header)
            eqx.tree_serialise_leaves(file, (numbers_of(state), history))

        write_whole(Path(self.path), write)

    def load(self, state: TrainingState) -> tuple[TrainingState, History] | None:
        """The training in the file, or `None` if there is no file."""
        if self.seconds not in (0, np.inf):  # at every look, and at the end alone
            check_positive("checkpoint_every", self.seconds, write="checkpoint_every=10.0")
        check_folder(self.path)
        if not Path(self.path).exists():
            return None
        with open(self.path, "rb") as file:
            header = _header(self.path, file.readline())
            saved = header["settings"]
            for name, value in self.settings.items():
                if saved.get(name) != value:
                    difference = _difference(saved, name, value)
                    raise ValueError(
                        f"{self.path} holds a training with another {name}{difference}. "
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
            numbers, history = eqx.tree_deserialise_leaves(file, (numbers_of(state), history))
            return with_keys(numbers, state), history


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


@final
class StartStore:
    """The searches that have ended, by number; kept in a file if a path is given."""

    def __init__(
        self,
        path: str | PathLike[str] | None,
        vector: ParameterVector,
        data: Measurements,
        loss: Any,
        points: np.ndarray,
        drawn_by: Any,
        max_steps: int,
    ):
        self._path = None if path is None else Path(path)
        self._max_steps = max_steps
        self.found: dict[int, Found] = {}
        # The most steps that each search in the file could take.
        self._of_steps: dict[int, int] = {}
        if self._path is None:
            return
        known = split_trainable(vector.given)[1]
        precision = str(jnp.result_type(float))
        self._digest = digest_of(vector.names, known, data, loss, points, drawn_by, precision)
        check_folder(self._path)
        if self._path.exists():
            self._read(self._path)

    def add(self, number: int, found: Found) -> None:
        """One more; a search that was interrupted is known, but done again from the file."""
        self.found[number] = found
        if self._path is None:
            return
        rows = {
            str(i): _row(one) | {"max_steps": self._of_steps.get(i, self._max_steps)}
            for i, one in self.found.items()
            if one.stopped != "interrupted"
        }
        text = json.dumps({"format": _FORMAT_OF_SEARCHES, "of": self._digest, "searches": rows})
        write_whole(self._path, lambda file: file.write(text.encode()))

    def _read(self, path: Path) -> None:
        try:
            saved = json.loads(path.read_text())
            known, same = saved.get("format") == _FORMAT_OF_SEARCHES, saved["of"] == self._digest
        except (ValueError, KeyError, TypeError, AttributeError):
            known, same, saved = False, False, {}
        if not known:
            raise ValueError(
                f"`checkpoint={str(path)!r}` holds no searches of this version of stiffrax. Give "
                "another file, or remove it."
            )
        if not same:
            raise ValueError(
                f"`checkpoint={str(path)!r}` holds searches for another system, loss, data, starts, "
                "hops or precision. Give another file, or remove it."
            )
        for number, row in saved["searches"].items():
            if row["stopped"] == "steps" and row["max_steps"] < self._max_steps:
                continue  # searched again: it may take more steps than it could then
            self._of_steps[int(number)] = row["max_steps"]
            triangle = np.array(row["triangle"], float)
            evaluation = Evaluation(row["cost"], triangle, row["num_failed"])
            rest = {name: row[name] for name in _COUNTS}
            self.found[int(number)] = Found(np.array(row["x"]), evaluation, **rest)


def _row(found: Found) -> dict[str, Any]:
    evaluation = found.evaluation
    return {
        "x": found.x.tolist(),
        "cost": evaluation.cost,
        "triangle": evaluation.triangle.tolist(),
        "num_failed": evaluation.num_failed,
        **{name: getattr(found, name) for name in _COUNTS},
    }
