"""Searches that have ended, on disk."""

import json
from os import PathLike
from pathlib import Path
from typing import Any, final

import jax.numpy as jnp
import numpy as np

from ..data import Measurements
from ..models import split_trainable
from ._box_trust_region import Found
from ._checkpoint import check_folder, digest_of, write_whole
from ._lockstep import Evaluation
from ._parameter_vector import ParameterVector

_FORMAT = 4
_COUNTS = ("steps", "num_failed_steps", "stopped", "hops", "hops_gained")


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
        text = json.dumps({"format": _FORMAT, "of": self._digest, "searches": rows})
        write_whole(self._path, lambda file: file.write(text.encode()))

    def _read(self, path: Path) -> None:
        try:
            saved = json.loads(path.read_text())
            known, same = saved.get("format") == _FORMAT, saved["of"] == self._digest
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
