"""The runs of one training step: all of them or a few, on one device or on many."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from .._arguments import as_integer
from ..data import Measurements, Trajectories, cut_windows, pick_runs
from ..losses import AbstractLoss, WeightedSum


@final
class Windows(eqx.Module):
    """Where a minibatch may cut runs: the windows that hold a segment, of all that there are."""

    length: int = eqx.field(static=True)
    kept: Int[Array, " windows"]

    def of(self, data: Any, index: Any = None) -> Trajectories:
        """All of them, or those at `index`, of which no sample may be hidden; traceable."""
        windows = pick_runs(cut_windows(data, self.length), self.kept)
        if index is None:
            return windows
        seen = jnp.asarray(windows.mask)[:, 1]
        first = jnp.argsort(~seen, stable=True)
        return pick_runs(windows, first[index % jnp.maximum(jnp.sum(seen), 1)])


@final
class Batches(eqx.Module):
    """Draws `size` of the runs, or of the windows, for each step, none twice in a round.

    A round is as many steps as whole batches can be drawn without repetition. What remains of it is
    left out, at random: all are drawn equally often on average.

    The draw depends on the key and the number of the step alone, so that training that is resumed
    sees what it would have seen.
    """

    data: Trajectories | Measurements
    windows: Windows | None
    size: int | None = eqx.field(static=True)
    num_items: int = eqx.field(static=True)
    sharding: NamedSharding | None = eqx.field(static=True)

    def draw(
        self, key: Array, step: Array, transform: Callable[[Any], Any]
    ) -> Trajectories | Measurements:
        """The runs of one step, transformed; windows are cut from transformed runs."""
        data: Any = self.data
        index = None
        if self.size is not None:
            rounds = self.num_items // self.size
            order = jax.random.permutation(jax.random.fold_in(key, step // rounds), self.num_items)
            index = jax.lax.dynamic_slice_in_dim(order, (step % rounds) * self.size, self.size)
        if self.windows is not None:
            return self._placed(self.windows.of(transform(data), index))
        if self.size is None:
            return transform(data)
        # Of trajectories: `make_batches` has refused others.
        return transform(self._placed(pick_runs(data, index)))

    def _placed(self, items: Trajectories) -> Trajectories:
        if self.sharding is None:
            return items
        items = padded(items, self.sharding.mesh.size)
        return jax.lax.with_sharding_constraint(items, self.sharding)


def make_batches(
    loss: Callable[..., Any],
    data: Trajectories | Measurements,
    size: Any,
    mesh: Mesh | None,
) -> Batches:
    """Checks the size, and brings the data to the device or devices."""
    if isinstance(data, Measurements) and (size is not None or mesh is not None):
        raise ValueError(
            "`batch_size` or `mesh` was given with `Measurements`, whose likelihood needs all runs "
            "in every step: leave both out."
        )
    windows = windows_of(loss, data, size is not None or mesh is not None)
    num_items = len(data) if windows is None else len(windows.kept)
    what = "runs" if windows is None else "windows of samples"
    given, size = size, None if size is None else as_integer(size)
    if given is not None and (size is None or not 1 <= size <= num_items):
        raise ValueError(
            f"`batch_size={given!r}` was given; it needs an integer from 1 to {num_items}, the "
            f"number of {what}. Leave it out to use all of them in every step."
        )
    size = None if size == num_items else size
    if mesh is None:
        return Batches(jax.tree.map(jnp.asarray, data), windows, size, num_items, None)
    if size is not None and size % mesh.size:
        raise ValueError(
            f"`batch_size={size}` was given with a mesh of {mesh.size} devices; each needs its "
            f"share. Write a multiple of {mesh.size}."
        )
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    if windows is not None:
        data, windows = replicate((data, windows), mesh)
        return Batches(data, windows, size, num_items, sharding)
    runs: Any = data
    return Batches(put(padded(runs, mesh.size), sharding), None, size, num_items, sharding)


def windows_of(
    loss: Callable[..., Any], data: Trajectories | Measurements, shared: bool
) -> Windows | None:
    """What a minibatch is drawn from: the windows that the loss asks for, or `None`, whole runs.

    A plain function in a sum of losses sees whole runs unless a minibatch or a mesh shares them.
    """
    window = loss.window if isinstance(loss, AbstractLoss) else None
    if window is None or isinstance(data, Measurements):
        return None
    if not shared and isinstance(loss, WeightedSum) and loss.has_plain_functions:
        return None
    present = cut_windows(data, window).mask
    return Windows(window, jnp.asarray(np.flatnonzero(np.asarray(present)[:, 1])))


def whole(
    loss: Callable[..., Any], data: Trajectories | Measurements, mesh: Mesh | None
) -> Trajectories | Measurements:
    """All runs at once, on the device or devices."""
    windows = windows_of(loss, data, mesh is not None)
    items: Any = data if windows is None else windows.of(data)
    if mesh is None:
        return jax.tree.map(jnp.asarray, items)
    return put(padded(items, mesh.size), NamedSharding(mesh, PartitionSpec(mesh.axis_names)))


def padded(items: Trajectories, multiple: int) -> Trajectories:
    """Repeats the first run, all of it missing, until the number of runs is a multiple."""
    extra = -len(items) % multiple
    if extra == 0:
        return items
    repeated = pick_runs(items, np.append(np.arange(len(items)), np.zeros(extra, int)))
    own = np.arange(len(items) + extra) < len(items)
    return eqx.tree_at(lambda data: data.mask, repeated, repeated.mask & own[:, None])


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Every array of the tree on every device of the mesh."""
    return put(tree, NamedSharding(mesh, PartitionSpec()))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays of one host on all devices of a mesh, which may belong to other processes."""

    def place(x: Any) -> Any:
        if not isinstance(x, (np.ndarray, jax.Array)):
            return x
        x = np.asarray(x)
        x = x.astype(jax.dtypes.canonicalize_dtype(x.dtype))
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(place, tree)
