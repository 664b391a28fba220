"""The Merkle tree over a recording's audio: one leaf per second of what the WAV's data chunk holds.

Contract: leaves are the octets of a second of all channels, as they stand in the file; the last one may be
shorter. ``AudioLeaves`` grows with the audio, ``audio_leaves`` and ``audio_root`` read it back: both give the
same for the same octets, however they came. No I/O of their own, no clock.
Source: RFC 9162 section 2.1.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from typing import Final

from recorderd.evidence.merkle import HASH_BYTES, MerkleBuilder, leaf_hasher

Read = Callable[[int, int], bytes]  # so many octets of the audio from an offset on

_BLOCK_BYTES: Final = 1 << 20


class AudioLeaves:
    """The leaves of audio that is being written; 32 octets of memory per second.

    Thread: one.
    """

    __slots__ = ("_builder", "_hasher", "_hashes", "_open_bytes", "leaf_bytes")

    def __init__(self, leaf_bytes: int) -> None:
        self.leaf_bytes = leaf_bytes
        self._builder = MerkleBuilder()
        self._hashes = bytearray()
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
        return self._builder.size_leaves

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

    def keep(self, leaves: int) -> None:
        """Forget what lies behind the first ``leaves``; it is to be added again."""
        kept = bytes(self._hashes[: leaves * HASH_BYTES])
        self._builder, self._hashes = MerkleBuilder(), bytearray()
        for at in range(0, len(kept), HASH_BYTES):
            self._close_leaf(kept[at : at + HASH_BYTES])
        self._hasher, self._open_bytes = leaf_hasher(), 0

    def hashes(self, first: int = 0) -> bytes:
        """Give the hashes of the whole leaves from the ``first`` on, one behind the other."""
        return bytes(self._hashes[first * HASH_BYTES :])

    def root(self) -> str:
        """Give the root over the leaves that are whole."""
        return self._builder.root().hex()

    def root_of_all(self) -> tuple[str, int]:
        """Give the root over all leaves, also one that is not whole, and how many they are."""
        if not self._open_bytes:
            return self.root(), self.whole
        return self._builder.root_with(self._hasher.digest()).hex(), self.whole + 1

    def _close_leaf(self, digest: bytes) -> None:
        self._builder.add_hashed(digest)
        self._hashes += digest
        self._hasher, self._open_bytes = leaf_hasher(), 0


class KeyedLeaves:
    """Leaves that tell nothing of the audio to whoever has no key: HMAC-SHA256 over number and leaf.

    A leaf in clear would say of a guessed second of speech, or of silence, whether it was there.
    Thread: one.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._builder = MerkleBuilder()
        self._hashes = bytearray()

    def follow(self, hashes: bytes, *, first: int) -> None:
        """Take the hashes of leaves, those in clear, from the ``first`` on, in place of what was there."""
        if first < self._builder.size_leaves:
            del self._hashes[first * HASH_BYTES :]
            self._builder = MerkleBuilder()
            for at in range(0, len(self._hashes), HASH_BYTES):
                self._builder.add_hashed(bytes(self._hashes[at : at + HASH_BYTES]))
        for at in range(0, len(hashes), HASH_BYTES):
            number = self._builder.size_leaves.to_bytes(8)
            keyed = hmac.digest(self._key, number + hashes[at : at + HASH_BYTES], "sha256")
            self._hashes += keyed
            self._builder.add_hashed(keyed)

    def hashes(self, first: int = 0) -> bytes:
        """Give them from the ``first`` on, one behind the other."""
        return bytes(self._hashes[first * HASH_BYTES :])

    def root(self) -> str:
        """Give the root over them."""
        return self._builder.root().hex()


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
