"""The Merkle tree over a recording's audio: one leaf per second of what the WAV's data chunk holds.

Contract: leaves are the octets of a second of all channels, as they stand in the file; the last one may be
shorter. ``AudioLeaves`` grows with the audio, ``audio_leaves`` and ``audio_root`` read it back: both give the
same for the same octets, however they came. Hashes that are noted elsewhere may be forgotten: the tree knows
what it needs of them. No I/O of their own, no clock.
Source: RFC 9162 section 2.1.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from typing import Final

from recorderd.evidence.merkle import HASH_BYTES, MerkleBuilder, leaf_hasher

Read = Callable[[int, int], bytes]  # so many octets of the audio from an offset on

_BLOCK_BYTES: Final = 1 << 20


class _LeafHashes:
    """The hashes of leaves, and the tree over them; the first ones may be in the tree only."""

    __slots__ = ("_forgotten", "_held", "tree")

    def __init__(self) -> None:
        self.tree = MerkleBuilder()
        self._forgotten = MerkleBuilder()  # the tree over the leaves whose hashes are not held
        self._held = bytearray()

    def add(self, digest: bytes) -> None:
        self.tree.add_hashed(digest)
        self._held += digest

    def forget(self, leaves: int) -> None:
        """Hold the hashes of the first ``leaves`` no more."""
        last = (min(leaves, self.tree.size_leaves) - self._forgotten.size_leaves) * HASH_BYTES
        for at in range(0, last, HASH_BYTES):
            self._forgotten.add_hashed(bytes(self._held[at : at + HASH_BYTES]))
        del self._held[: max(0, last)]

    def keep(self, leaves: int) -> int:
        """Drop what lies behind the first ``leaves``, or all if some are forgotten; say how many are left."""
        held = leaves - self._forgotten.size_leaves
        if held < 0:
            self._forgotten, held = MerkleBuilder(), 0
        self.tree = self._forgotten.copy()
        kept, self._held = bytes(self._held[: held * HASH_BYTES]), bytearray()
        for at in range(0, len(kept), HASH_BYTES):
            self.add(kept[at : at + HASH_BYTES])
        return self.tree.size_leaves

    def since(self, first: int) -> bytes:
        """Give the hashes from the ``first`` on. Errors: ValueError when they are forgotten."""
        at = first - self._forgotten.size_leaves
        if at < 0:
            raise ValueError(f"the hashes before leaf {self._forgotten.size_leaves} are forgotten")
        return bytes(self._held[at * HASH_BYTES :])


class AudioLeaves:
    """The leaves of audio that is being written; 32 octets of memory per second that is not forgotten.

    Thread: one.
    """

    __slots__ = ("_hasher", "_hashes", "_open_bytes", "leaf_bytes")

    def __init__(self, leaf_bytes: int) -> None:
        self.leaf_bytes = leaf_bytes
        self._hashes = _LeafHashes()
        self._hasher = leaf_hasher()
        self._open_bytes = 0  # of the leaf that is not whole yet

    @classmethod
    def go_on(cls, leaf_bytes: int, hashes: bytes) -> AudioLeaves:
        """Go on behind leaves of which only the hashes are known, one behind the other."""
        leaves = cls(leaf_bytes)
        for at in range(0, len(hashes), HASH_BYTES):
            leaves._close_leaf(hashes[at : at + HASH_BYTES])
        return leaves

    @property
    def whole(self) -> int:
        """How many leaves are whole."""
        return self._hashes.tree.size_leaves

    def add(self, content: memoryview) -> None:
        """Take the next octets of the audio.

        Shapes: content one-dimensional, of octets.
        """
        at, size_bytes = 0, len(content)
        while at < size_bytes:
            end = min(size_bytes, at + self.leaf_bytes - self._open_bytes)
            self._hasher.update(content[at:end])
            self._open_bytes += end - at
            at = end
            if self._open_bytes == self.leaf_bytes:
                self._close_leaf(self._hasher.digest())

    def forget(self, leaves: int) -> None:
        """Hold the hashes of the first ``leaves`` no more: somebody has noted them."""
        self._hashes.forget(leaves)

    def keep(self, leaves: int) -> int:
        """Drop what lies behind the first ``leaves``, or everything if some of those are forgotten.

        Returns how many leaves are left; the audio behind them is to be added again.
        """
        self._hasher, self._open_bytes = leaf_hasher(), 0
        return self._hashes.keep(leaves)

    def hashes(self, first: int = 0) -> bytes:
        """Give the hashes of the whole leaves from the ``first`` on, one behind the other.

        Errors: ValueError when they are forgotten.
        """
        return self._hashes.since(first)

    def root(self) -> str:
        """Give the root over the leaves that are whole."""
        return self._hashes.tree.root().hex()

    def root_of_all(self) -> tuple[str, int]:
        """Give the root over all leaves, also one that is not whole, and how many they are."""
        if not self._open_bytes:
            return self.root(), self.whole
        return self._hashes.tree.root_with(self._hasher.digest()).hex(), self.whole + 1

    def _close_leaf(self, digest: bytes) -> None:
        self._hashes.add(digest)
        self._hasher, self._open_bytes = leaf_hasher(), 0


class KeyedLeaves:
    """Leaves that tell nothing of the audio to whoever has no key: HMAC-SHA256 over number and leaf.

    A leaf in clear would say of a guessed second of speech, or of silence, whether it was there.
    Thread: one.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._hashes = _LeafHashes()

    def follow(self, hashes: bytes, *, first: int) -> None:
        """Take the hashes of leaves, those in clear, from the ``first`` on, in place of what was there.

        Errors: ValueError when what lies before the ``first`` is forgotten in part, or was never given.
        """
        kept = self._hashes.keep(first) if first < self._hashes.tree.size_leaves else first
        if kept != first or kept > self._hashes.tree.size_leaves:
            raise ValueError(f"leaf {first} follows on {self._hashes.tree.size_leaves}")
        for at in range(0, len(hashes), HASH_BYTES):
            number = self._hashes.tree.size_leaves.to_bytes(8)
            self._hashes.add(hmac.digest(self._key, number + hashes[at : at + HASH_BYTES], "sha256"))

    def forget(self, leaves: int) -> None:
        """Hold the hashes of the first ``leaves`` no more: somebody has noted them."""
        self._hashes.forget(leaves)

    def hashes(self, first: int = 0) -> bytes:
        """Give them from the ``first`` on, one behind the other.

        Errors: ValueError when they are forgotten.
        """
        return self._hashes.since(first)

    def root(self) -> str:
        """Give the root over them."""
        return self._hashes.tree.root().hex()


def audio_leaves(read: Read, *, size_bytes: int, leaf_bytes: int) -> AudioLeaves:
    """Make the leaves of audio that stands somewhere.

    Errors: ValueError when there is less of it than was said; whatever ``read`` raises.
    """
    leaves = AudioLeaves(leaf_bytes)
    for at in range(0, size_bytes, _BLOCK_BYTES):
        block = read(at, min(_BLOCK_BYTES, size_bytes - at))
        if len(block) != min(_BLOCK_BYTES, size_bytes - at):
            raise ValueError(f"the audio ends before its {size_bytes} octets")
        leaves.add(memoryview(block))
    return leaves


def audio_root(read: Read, *, size_bytes: int, leaf_bytes: int) -> tuple[str, int]:
    """Give the root over audio that stands somewhere, in hexadecimal, and the number of its leaves.

    ``read(offset, size)`` gives octets of the data chunk, counted from its first; ``leaf_bytes`` is the
    manifest's ``leaf_samples`` times the octets of one sample of all channels.
    Errors: ValueError when there is less of it than was said; whatever ``read`` raises.
    """
    return audio_leaves(read, size_bytes=size_bytes, leaf_bytes=leaf_bytes).root_of_all()


def root_of_hashes(hashes: bytes) -> str:
    """Give the root over leaves of which only the hashes are known, one behind the other."""
    builder = MerkleBuilder()
    for at in range(0, len(hashes), HASH_BYTES):
        builder.add_hashed(hashes[at : at + HASH_BYTES])
    return builder.root().hex()


def differing_leaves(hashes: bytes, others: bytes) -> Iterator[int]:
    """Number the leaves that are not the same in both, as far as both go."""
    for at in range(0, min(len(hashes), len(others)), HASH_BYTES):
        if hashes[at : at + HASH_BYTES] != others[at : at + HASH_BYTES]:
            yield at // HASH_BYTES
