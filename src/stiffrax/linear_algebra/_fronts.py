"""The symbolic part of a sparse factorization: which entries meet in which small dense matrix."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

import numpy as np

from ._dissection import Tree

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Above this many pivots a front is inverted by blocks of as many as the second; see `pivot_inverse`.
_UNBLOCKED, BLOCK = 48, 32


@final
@dataclass(frozen=True, eq=False)
class Level:
    """The fronts of one level of the elimination tree, padded to one size.

    Of a system of `size` unknowns. A front is a dense matrix of the `pivots` that it eliminates and
    of the unknowns around them, which fronts above it eliminate. `entries`, `places`: of the values
    that start in these fronts, and where. `from_children`: for each row of a front the row of each
    child that is added to it. `in_parent`: for each unknown around the pivots its row in the parent.
    One more than the last row stands for none.
    """

    size: int
    num_fronts: int
    num_pivots: int
    num_around: int
    num_children: int
    pivots: np.ndarray
    entries: np.ndarray
    places: np.ndarray
    from_children: np.ndarray
    in_parent: np.ndarray

    @property
    def unused(self) -> np.ndarray:
        """Which pivots only fill a front up."""
        return self.pivots == self.size

    @property
    def cost(self) -> float:
        """Operations of a factorization, in multiplications."""
        s, b = self.num_pivots, self.num_around
        return self.num_fronts * float(s**3 + s * b * (s + b))


@final
class _Numbering:
    def __init__(self, tree: Tree, n: int):
        self.level, self.node, self.index, self.rank = (np.zeros(n, int) for _ in range(4))
        count = 0
        for level in reversed(range(len(tree))):
            for node, unknowns in enumerate(tree[level]):
                self.level[unknowns], self.node[unknowns] = level, node
                self.index[unknowns] = np.arange(len(unknowns))
                self.rank[unknowns] = count + np.arange(len(unknowns))
                count += len(unknowns)


def plan_fronts(rows: np.ndarray, columns: np.ndarray, n: int, tree: Tree) -> list[Level]:
    """The levels from the leaves to the root."""
    from scipy.sparse import csr_matrix

    graph = csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    graph = (graph + graph.T).tocsr()
    number = _Numbering(tree, n)
    first = np.where(number.level[rows] >= number.level[columns], rows, columns)
    levels: list[Level] = []
    below: list[np.ndarray] = []
    for level in reversed(range(len(tree))):
        nodes = tree[level]
        k = len(below) // len(nodes)
        around = [
            _around(graph, number, level, node, below[k * i : k * i + k])
            for i, node in enumerate(nodes)
        ]
        s, b = _padded(max(map(len, nodes))), max(map(len, around))
        ends = np.cumsum([len(x) for x in around])
        keys = np.concatenate([i * n + number.rank[x] for i, x in enumerate(around)])

        def row(front: np.ndarray, unknown: np.ndarray, level=level, s=s, ends=ends, keys=keys):
            later = np.searchsorted(keys, front * n + number.rank[unknown])
            later = later - np.where(front > 0, ends[front - 1], 0)
            return np.where(number.level[unknown] == level, number.index[unknown], s + later)

        entries = np.flatnonzero(number.level[first] == level)
        front = number.node[first[entries]]
        places = (front * (s + b) + row(front, rows[entries])) * (s + b)
        places = places + row(front, columns[entries])
        pivots = np.full((len(nodes), s), n)
        for i, node in enumerate(nodes):
            pivots[i, : len(node)] = node
        none = np.zeros(0)
        new = Level(n, len(nodes), s, b, k, *map(_index, (pivots, entries, places, none, none)))
        if levels:
            from_children = np.full((len(nodes), k, s + b), levels[-1].num_around)
            in_parent = np.full((len(below), levels[-1].num_around), s + b)
            for j, unknowns in enumerate(below):
                places = row(np.full(len(unknowns), j // k), unknowns)
                from_children[j // k, j % k, places] = np.arange(len(unknowns))
                in_parent[j, : len(unknowns)] = places
            levels[-1] = replace(levels[-1], in_parent=_index(in_parent))
            new = replace(new, from_children=_index(from_children))
        levels.append(new)
        below = around
    return levels


def _index(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int32)


def _padded(pivots: int) -> int:
    return max(1, pivots) if pivots <= _UNBLOCKED else -(-pivots // BLOCK) * BLOCK


def _around(
    graph: "csr_matrix", number: _Numbering, level: int, node: np.ndarray, below: list[np.ndarray]
) -> np.ndarray:
    """What the pivots of a node, and those below it, are coupled to above; first eliminated first."""
    neighbors = [graph.indices[graph.indptr[i] : graph.indptr[i + 1]] for i in node]
    found = np.unique(np.concatenate([np.zeros(0, int), *neighbors, *below]).astype(int))
    found = found[number.level[found] < level]
    return found[np.argsort(number.rank[found])]


def order_of(levels: list[Level]) -> np.ndarray:
    """Where the pivots of all levels hold each unknown."""
    pivots = np.concatenate([level.pivots.reshape(-1) for level in levels])
    order = np.zeros(levels[0].size + 1, np.int32)
    order[pivots] = np.arange(len(pivots))
    return order[:-1]
