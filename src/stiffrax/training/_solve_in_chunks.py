"""Many solves in chunks: bounded memory, lanes of like cost together, and a run that goes on."""

import functools
import json
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, final

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, ArrayLike, PyTree, Shaped

from .._arguments import check_count
from ._checkpoint import digest_of, is_key, numbers_of, with_keys, write_whole
from ._progress import progress_bar


def solve_in_chunks(
    solve: Callable[[PyTree[Array]], PyTree[Array]],
    lanes: PyTree[ArrayLike],
    *,
    chunk: int,
    cost: Callable[[PyTree[Array]], Array] | Shaped[ArrayLike, " lanes"] | None = None,
    mesh: Mesh | None = None,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool | None = None,
) -> PyTree[np.ndarray]:
    """Solves for many lanes, a chunk of them at a time.

    A batch computes until its slowest lane is done. Lanes of like cost are therefore put together,
    and what a device holds is one chunk and its results.

    **Arguments:**

    - `solve`: a function of one lane that returns arrays (of a key `jax.random.key_data`), such as the
      end of a solve with `throw=False`, its result and its number of steps. It is compiled once a
      call; decorated by `jax.jit` once for all calls with chunks of one size, with what it closes
      over as it was then.
    - `lanes`: arrays with the lanes along their first axis; keys of random numbers too.
    - `chunk`: lanes in a batch; with a mesh rounded up to a multiple of its devices.
    - `cost`: by which lanes are sorted: a number for each, or a function of one lane, such as the
      number of steps of a solve at a loose tolerance, which is run for all lanes before.
    - `mesh`: devices among which the lanes of a chunk are divided; each waits for its own lanes only.
      Solves then need an adjoint of stiffrax, such as `adjoint=stiffrax.DiscreteAdjoint()`.
    - `checkpoint`: a folder, in which every chunk that is done is written. A run that was ended goes
      on from it, with the same numbers. Of `solve` the shapes and types that it returns are
      compared, not what it computes: give another model another folder.
    - `progress`: a bar of the chunks; by default on a terminal.

    **Returns:** what `solve` returns as NumPy arrays, with the lanes along the first axis in their
    order.

    **Raises:** `ValueError` for lanes of different numbers or none at all, for a `cost` of another
    shape, and for a folder of other lanes or results.

    Cost: the last chunk is filled up with copies of its last lane.

    ```python
    >>> import diffrax, jax.numpy as jnp, numpy as np, stiffrax as srx
    >>> def end(rate):
    ...     term = diffrax.ODETerm(lambda t, y, args: -rate * y)
    ...     return diffrax.diffeqsolve(term, srx.RadauIIA3(), 0.0, 1.0, 0.1, jnp.ones(1)).ys[-1]
    >>> rates = np.linspace(0.0, 2.0, 5)
    >>> print(srx.solve_in_chunks(end, rates, chunk=2, cost=rates)[:, 0].round(3))
    [1.    0.607 0.368 0.223 0.135]

    ```
    """
    count = _number_of(lanes)
    if callable(cost):
        cost = solve_in_chunks(cost, lanes, chunk=chunk, mesh=mesh, progress=progress)
    solve, lanes = _with_plain_keys(solve, lanes)
    size = min(check_count("chunk", chunk, write="chunk=1024"), count)
    if mesh is not None:
        size = -(-size // mesh.size) * mesh.size
    order = _order_by(cost, count)
    # Under `jax.jit` what a function closes over is taken to stay; of others it may have changed.
    run = (_kept if isinstance(solve, jax.stages.Wrapped) else _batched)(solve, mesh)
    one = jax.tree.map(lambda x: x[0], lanes)
    results = jax.eval_shape(solve, one)
    shapes, structure = jax.tree.flatten(results)
    store = None
    if checkpoint is not None:
        store = _Store(checkpoint, digest_of(lanes, order, size, results))
    out = [np.zeros((count, *x.shape), x.dtype) for x in shapes]
    firsts = range(0, count, size)
    bar = progress_bar(progress, len(firsts), "chunks")
    for k, first in enumerate(firsts):
        rows = order[first : first + size]
        found = None if store is None else store.read(k)
        if found is None:
            filled = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
            solved = run(jax.tree.map(lambda x, filled=filled: x[filled], lanes))
            found = [np.asarray(x)[: len(rows)] for x in jax.tree.leaves(solved)]
            if store is not None:
                store.write(k, found)
        for whole, part in zip(out, found, strict=True):
            whole[rows] = part
        bar.update()
    bar.close()
    return jax.tree.unflatten(structure, out)


def _with_plain_keys(solve: Callable, lanes: PyTree) -> tuple[Callable, PyTree]:
    """Lanes as arrays of NumPy, which hold no typed keys of random numbers, and the solve for them."""
    if any(map(is_key, jax.tree.leaves(lanes))):
        return lambda lane: solve(with_keys(lane, lanes)), numbers_of(lanes)
    return solve, numbers_of(lanes)


def _order_by(cost: Any, count: int) -> np.ndarray:
    if cost is None:
        return np.arange(count)
    cost = np.asarray(cost)
    if cost.shape != (count,):
        raise ValueError(
            f"`cost` of shape {cost.shape} was given for {count} lanes; it needs one number for "
            "each, or a function of one lane that returns a number."
        )
    return np.argsort(cost, kind="stable")


def _number_of(lanes: PyTree) -> int:
    shapes = {np.shape(x)[:1] for x in jax.tree.leaves(lanes)}
    if len(shapes) != 1 or not all(shape and shape[0] for shape in shapes):
        raise ValueError(
            f"Lanes with first axes {sorted(shapes)} were given; every array needs the same number "
            "of lanes along its first axis, at least one. Write for example "
            "`solve_in_chunks(solve, (y0s, rates), chunk=1024)`."
        )
    return next(iter(shapes))[0]


def _batched(solve: Callable, mesh: Mesh | None) -> Callable:
    run = jax.vmap(solve)
    if mesh is not None:
        # Not by sharded arguments alone: all devices would go through every loop as often as one.
        spec = PartitionSpec(tuple(mesh.axis_names))
        run = jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    return jax.jit(run)


_kept = functools.lru_cache(maxsize=16)(_batched)


@final
class _Store:
    def __init__(self, path: str | PathLike[str], digest: str):
        settings = {"of": digest}
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        about = self.path / "settings.json"
        if not about.exists():
            write_whole(about, lambda file: file.write(json.dumps(settings).encode()))
        if json.loads(about.read_text()) != settings:
            raise ValueError(
                f"{self.path} holds chunks of other lanes, of another order or size, or of other "
                "results. Give the arguments of that run, or another path, or delete the folder."
            )

    def read(self, k: int) -> list[np.ndarray] | None:
        """The results of a chunk; `None` if it is not done."""
        path = self.path / f"{k}.npz"
        if not path.exists():
            return None
        with np.load(path) as arrays:
            return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]

    def write(self, k: int, results: list[np.ndarray]) -> None:
        """Keeps the results of a chunk: all of them, or none."""
        write_whole(self.path / f"{k}.npz", lambda file: np.savez(file, *results))
