"""The runs of one training step: all of them or a few, on one device or on many."""

from collections.abc import Callable
from typing import Any, cast, final

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
class Batches(eqx.Module):
    """Draws `size` of the runs, or of the windows, for each step, none twice in a round.

    A round is as many steps as whole batches can be drawn without repetition. What remains of it is
    left out, at random: all are drawn equally often on average.

    The draw depends on the key and the number of the step alone, so that training that is resumed
    sees what it would have seen.
    """

    data: Trajectories | Measurements
    window: int | None = eqx.field(static=True)
    size: int | None = eqx.field(static=True)
    num_items: int = eqx.field(static=True)
    sharding: NamedSharding | None = eqx.field(static=True)

    def draw(
        self, key: Array, step: Array, transform: Callable[[Any], Any]
    ) -> Trajectories | Measurements:
        """The runs of one step, transformed; windows are cut from transformed runs.

        All windows: which of them hold a segment, and how many there are, the transform decides.
        """
        items: Any = self.data
        if self.window is not None:
            items = cut_windows(transform(items), self.window)
        # These are trajectories: `make_batches` has refused batches of others.
        if self.size is not None:
            items = pick_runs(items, self._chosen(key, step, items))
        if self.size is not None or self.window is not None:
            items = self._placed(items)
        return transform(items) if self.window is None else items

    def _chosen(self, key: Array, step: Array, items: Any) -> Int[Array, " size"]:
        size, hidden = cast(int, self.size), None
        count, rounds = self.num_items, self.num_items // size
        if self.window is not None:
            count = len(items)
            _check_size(size, count, "windows of samples")
            hidden = ~jnp.asarray(items.mask)[:, 1]
            rounds = jnp.maximum(jnp.sum(~hidden) // size, 1)
        order = jax.random.permutation(jax.random.fold_in(key, step // rounds), count)
        if hidden is not None:
            order = order[jnp.argsort(hidden[order], stable=True)]
        return jax.lax.dynamic_slice_in_dim(order, (step % rounds) * size, size)

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
    *,
    transformed: bool = False,
) -> Batches:
    """Checks the size, and brings the data to the device or devices.

    Without transforms windows are cut once, and otherwise in each step.
    """
    if isinstance(data, Measurements) and (size is not None or mesh is not None):
        raise ValueError(
            "`batch_size` or `mesh` was given with `Measurements`, whose likelihood needs all runs "
            "in every step: leave both out."
        )
    window = _window_of(loss, data, size is not None)
    items: Any = data if window is None else _cut(data, window)
    if size is not None:
        size = _check_size(size, len(items), "runs" if window is None else "windows of samples")
    if transformed and window is not None:
        items = data
    else:
        size = None if size == len(items) else size
        window = None
    if mesh is None:
        return Batches(jax.tree.map(jnp.asarray, items), window, size, len(items), None)
    if size is not None and size % mesh.size:
        raise ValueError(
            f"`batch_size={size}` was given with a mesh of {mesh.size} devices; each needs its "
            f"share. Write a multiple of {mesh.size}."
        )
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    if window is not None:
        return Batches(replicate(items, mesh), window, size, len(items), sharding)
    return Batches(put(padded(items, mesh.size), sharding), None, size, len(items), sharding)


def _check_size(size: Any, most: int, what: str) -> int:
    found = as_integer(size)
    if found is None or not 1 <= found <= most:
        raise ValueError(
            f"`batch_size={size!r}` was given; it needs an integer from 1 to {most}, the number of "
            f"{what}. Leave it out to use all of them in every step."
        )
    return found


def _window_of(
    loss: Callable[..., Any], data: Trajectories | Measurements, drawn: bool
) -> int | None:
    """The length of what a minibatch is drawn from: windows that the loss asks for, or whole runs."""
    window = loss.window if isinstance(loss, AbstractLoss) else None
    if isinstance(data, Measurements):
        return None
    if not drawn and isinstance(loss, WeightedSum) and loss.has_plain_functions:
        return None
    return window


def _cut(data: Any, window: int) -> Trajectories:
    windows = cut_windows(data, window)
    return pick_runs(windows, np.flatnonzero(np.asarray(windows.mask)[:, 1]))


def whole(
    loss: Callable[..., Any], data: Trajectories | Measurements, mesh: Mesh | None
) -> Trajectories | Measurements:
    """All runs at once, on the device or devices."""
    window = _window_of(loss, data, drawn=False)
    items: Any = data if window is None else _cut(data, window)
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
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                place(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        x = np.asarray(x)
        x = x.astype(jax.dtypes.canonicalize_dtype(x.dtype))
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(place, tree)
