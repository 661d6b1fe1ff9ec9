"""The runs of one training step: all of them or a few, on one device or on many."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from ..data import Measurements, Trajectories, cut_windows, pick_runs
from ..losses import AbstractLoss


def items_of(
    loss: Callable[..., Any], data: Trajectories | Measurements
) -> Trajectories | Measurements:
    """What a minibatch is drawn from: whole runs, or the windows that the loss asks for."""
    window = loss.window if isinstance(loss, AbstractLoss) else None
    if window is None or isinstance(data, Measurements):
        return data
    windows = cut_windows(data, window)
    return pick_runs(windows, np.flatnonzero(np.asarray(windows.mask)[:, 1]))


@final
class Batches(eqx.Module):
    """Draws `size` of the runs for each step, every run once before any comes again.

    The draw depends on the key and the number of the step alone, so that training that is resumed
    sees what it would have seen.
    """

    data: Trajectories | Measurements
    size: int | None = eqx.field(static=True)
    num_runs: int = eqx.field(static=True)
    sharding: NamedSharding | None = eqx.field(static=True)

    def draw(self, key: Array, step: Array) -> Trajectories | Measurements:
        """The runs of one step."""
        if self.size is None:
            return self.data
        rounds = self.num_runs // self.size
        order = jax.random.permutation(jax.random.fold_in(key, step // rounds), self.num_runs)
        index = jax.lax.dynamic_slice_in_dim(order, (step % rounds) * self.size, self.size)
        data: Any = self.data  # trajectories: `make_batches` has refused others
        batch = pick_runs(data, index)
        if self.sharding is None:
            return batch
        return jax.lax.with_sharding_constraint(batch, self.sharding)


def make_batches(
    loss: Callable[..., Any],
    data: Trajectories | Measurements,
    size: int | None,
    mesh: Mesh | None,
) -> Batches:
    """Checks the size, and brings the data to the device or devices."""
    if isinstance(data, Measurements) and (size is not None or mesh is not None):
        raise ValueError(
            "`batch_size` or `mesh` was given with `Measurements`, whose likelihood needs all runs "
            "in every step: leave both out."
        )
    items: Any = items_of(loss, data)
    num_runs = len(items)
    what = "runs" if items is data else "windows of samples"
    if size is not None and (
        not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= num_runs
    ):
        raise ValueError(
            f"`batch_size={size!r}` was given; it needs an integer from 1 to {num_runs}, the "
            f"number of {what}. Leave it out to use all of them in every step."
        )
    size = None if size == num_runs else size
    if mesh is None:
        return Batches(jax.tree.map(jnp.asarray, items), size, num_runs, None)
    if size is not None and size % mesh.size:
        raise ValueError(
            f"`batch_size={size}` was given with a mesh of {mesh.size} devices; each needs its "
            f"share. Write a multiple of {mesh.size}."
        )
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    return Batches(put(padded(items, mesh.size), sharding), size, num_runs, sharding)


def whole(
    loss: Callable[..., Any], data: Trajectories | Measurements, mesh: Mesh | None
) -> Trajectories | Measurements:
    """All runs at once, on the device or devices."""
    return make_batches(loss, data, None, mesh).data


def padded(items: Trajectories, multiple: int) -> Trajectories:
    """Repeats the first run, all of it missing, until the number of runs is a multiple."""
    extra = -len(items) % multiple
    if extra == 0:
        return items
    repeated = pick_runs(items, np.append(np.arange(len(items)), np.zeros(extra, int)))
    mask = np.asarray(repeated.mask).copy()
    mask[len(items) :] = False
    return eqx.tree_at(lambda data: data.mask, repeated, mask)


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
