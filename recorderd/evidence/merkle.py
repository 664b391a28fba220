"""Merkle trees: one hash for many leaves, and a short proof that a leaf is among them.

Contract: leaves are octets, in order; what comes out are SHA-256 values. A leaf and an inner node are
hashed with different first octets, so that neither passes for the other. No I/O, no clock.
Source: RFC 9162 section 2.1 (the same trees as RFC 6962 section 2.1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

HASH_BYTES: Final = hashlib.sha256().digest_size
PATH_LIMIT: Final = 64  # a tree of 2^64 leaves; nobody's proof is longer
_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


class MerkleBuilder:
    """Takes leaves one after the other; holds one hash per set bit of their number.

    Thread: one.
    """

    __slots__ = ("_peaks", "size_leaves")

    def __init__(self) -> None:
        self.size_leaves = 0
        self._peaks: list[bytes] = []  # roots of whole subtrees, the largest first

    def copy(self) -> MerkleBuilder:
        """Begin another tree with the leaves so far."""
        other = MerkleBuilder()
        other.size_leaves, other._peaks = self.size_leaves, self._peaks.copy()
        return other

    def add(self, leaf: bytes | memoryview) -> None:
        """Append a leaf."""
        self.add_hashed(_leaf_hash(leaf))

    def add_hashed(self, node: bytes) -> None:
        """Append a leaf of which somebody has the hash (see ``leaf_hasher``)."""
        whole = self.size_leaves
        while whole & 1:
            node, whole = _node_hash(self._peaks.pop(), node), whole >> 1
        self._peaks.append(node)
        self.size_leaves += 1

    def root(self) -> bytes:
        """Give the root over the leaves so far; more may follow. The empty tree's is the hash of nothing."""
        if not self._peaks:
            return hashlib.sha256().digest()
        *larger, root = self._peaks
        for peak in reversed(larger):
            root = _node_hash(peak, root)
        return root

    def root_with(self, node: bytes) -> bytes:
        """Give the root over the leaves so far and one more, by its hash, which is not appended."""
        root = node
        for peak in reversed(self._peaks):
            root = _node_hash(peak, root)
        return root


def leaf_hasher() -> hashlib._Hash:
    """Begin the hash of a leaf that comes piece by piece."""
    return hashlib.sha256(_LEAF)


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Give the root over leaves."""
    builder = MerkleBuilder()
    for leaf in leaves:
        builder.add(leaf)
    return builder.root()


def inclusion_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Give the proof that leaf ``index`` is among ``leaves``: its neighbours from the leaf to the root.

    Errors: ValueError when there is no such leaf.
    Source: RFC 9162 section 2.1.3.1.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"no leaf {index} among {len(leaves)}")
    return tuple(
        row[beside]
        for row, at in zip(_rows(leaves), _places(index), strict=False)
        if (beside := at ^ 1) < len(row)
    )


def inclusion_paths(leaves: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Give the proof of every leaf, hashing the tree once."""
    rows = _rows(leaves)
    return [
        tuple(
            row[beside]
            for row, at in zip(rows, _places(index), strict=False)
            if (beside := at ^ 1) < len(row)
        )
        for index in range(len(leaves))
    ]


def _rows(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Hash a tree row by row, the leaves first, without the root."""
    rows, row = [], [_leaf_hash(leaf) for leaf in leaves]
    while len(row) > 1:
        rows.append(row)
        pairs = [_node_hash(*row[at : at + 2]) for at in range(0, len(row) - 1, 2)]
        row = [*pairs, *row[len(pairs) * 2 :]]  # a node without a neighbour rises as it is
    return rows


def _places(index: int) -> Iterator[int]:
    while True:
        yield index
        index >>= 1


def verify_inclusion(
    leaf: bytes, *, index: int, size_leaves: int, path: Sequence[bytes], root: bytes
) -> bool:
    """Tell whether ``path`` proves that ``leaf`` is number ``index`` of the ``size_leaves`` under ``root``.

    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size_leaves or len(path) > PATH_LIMIT:
        return False
    node, last = _leaf_hash(leaf), size_leaves - 1
    for beside in path:
        if last == 0 or len(beside) != HASH_BYTES:
            return False
        if index & 1 or index == last:
            node = _node_hash(beside, node)
            while not index & 1 and index:  # we rose without a neighbour
                index, last = index >> 1, last >> 1
        else:
            node = _node_hash(node, beside)
        index, last = index >> 1, last >> 1
    return last == 0 and node == root


def _leaf_hash(leaf: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(_LEAF)
    digest.update(leaf)
    return digest.digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
