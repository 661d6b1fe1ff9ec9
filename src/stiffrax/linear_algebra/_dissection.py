"""Orders of elimination: graphs cut in two again and again by small separators."""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Unknowns for each node of a level, the root first; the nodes of the next level follow in the order
# of their parents.
Tree: TypeAlias = list[list[np.ndarray]]

# Unknowns of a part that is not cut again, and of separators that become one node. (Timed on two
# cores, 400 to 20,000 unknowns: smaller parts make more levels, larger ones more arithmetic.)
_LEAF, _MERGED = 8, 24
# Where parts are cut, as a fraction of their size; one place where they are this small.
_CUTS, _LEAST_TO_CHOOSE = (0.5, 0.46, 0.48, 0.52, 0.54), 64


def dissect_band(n: int, width: int) -> Tree:
    """The order for a band: `width` unknowns in the middle separate those before from those after."""
    depth = max(0, int(np.log2((n + width) / (_LEAF + width))))
    levels: Tree = [[] for _ in range(depth + 1)]

    def cut(first: int, last: int, level: int) -> None:
        if level == depth:
            levels[level].append(np.arange(first, last))
            return
        start = max(first, (first + last - width) // 2)
        end = min(last, start + width)
        levels[level].append(np.arange(start, end))
        cut(first, start, level + 1)
        cut(end, last, level + 1)

    cut(0, n, 0)
    return _merged(levels, max(16, 3 * width))


def dissect(graph: "csr_matrix") -> Tree:
    """The order for any symmetric graph: each part is cut across its Cuthill-McKee order.

    The separator is the smallest set of unknowns that touches every edge across the cut.
    """
    n = len(graph.indptr) - 1
    depth = max(0, int(np.ceil(np.log2(max(n, 1) / _LEAF)))) if n > _MERGED else 0
    levels: Tree = [[] for _ in range(depth + 1)]

    def cut(part: np.ndarray, level: int) -> None:
        if level == depth:
            levels[level].append(part)
            return
        left, separator, right = _cut_in_two(graph, part)
        levels[level].append(separator)
        cut(left, level + 1)
        cut(right, level + 1)

    cut(np.arange(n), 0)
    return _merged(levels, _MERGED)


def _cut_in_two(graph: "csr_matrix", part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    if len(part) < 2:
        return part, part[:0], part[:0]
    rows = csr_matrix(graph[part])
    within = csr_matrix(rows[:, part])
    order = reverse_cuthill_mckee(within, symmetric_mode=True)
    place = np.empty(len(part), int)
    place[order] = np.arange(len(part))
    edges = within.tocoo()
    rows, columns = place[edges.row], place[edges.col]

    def separator(middle: int) -> np.ndarray:
        across = (rows < middle) & (columns >= middle)
        return _least_cover(rows[across], columns[across], len(part))

    cuts = _CUTS if len(part) > _LEAST_TO_CHOOSE else _CUTS[:1]
    found = [(middle, separator(middle)) for middle in (int(len(part) * c) for c in cuts)]
    middle, chosen = min(found, key=lambda cut: len(cut[1]))
    stays = np.ones(len(part), bool)
    stays[chosen] = False
    ordered = part[order]
    before = np.arange(len(part)) < middle
    return ordered[stays & before], ordered[chosen], ordered[stays & ~before]


def _least_cover(rows: np.ndarray, columns: np.ndarray, n: int) -> np.ndarray:
    """The fewest unknowns that touch every edge between two sets, by a matching (Koenig)."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    edges = csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    partner = maximum_bipartite_matching(edges, perm_type="column")
    matched = np.full(n, -1)
    matched[partner[partner >= 0]] = np.flatnonzero(partner >= 0)
    has_edge = np.diff(edges.indptr) > 0
    reached, seen = has_edge & (partner < 0), np.zeros(n, bool)
    stack = np.flatnonzero(reached).tolist()
    while stack:
        row = stack.pop()
        for column in edges.indices[edges.indptr[row] : edges.indptr[row + 1]].tolist():
            if not seen[column]:
                seen[column] = True
                other = int(matched[column])
                if other >= 0 and not reached[other]:
                    reached[other] = True
                    stack.append(other)
    return np.flatnonzero((has_edge & ~reached) | seen)


def _merged(levels: Tree, most: int) -> Tree:
    """Levels of small separators joined, with more than two children a node: fewer, larger steps."""
    leaves, merged = levels[-1], []
    for above in reversed(levels[:-1]):
        below = merged[-1] if merged else []
        k = len(below) // len(above)
        joined = [np.concatenate([*below[k * i : k * i + k], node]) for i, node in enumerate(above)]
        if below and max(map(len, joined)) <= most:
            merged[-1] = joined
        else:
            merged.append(above)
    return [*reversed(merged), leaves]
