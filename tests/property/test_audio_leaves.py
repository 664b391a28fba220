"""Leaves that are noted are forgotten, and the tree over the audio is what it would be without that."""

from __future__ import annotations

import hmac
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from recorderd.evidence.audio_proof import AudioLeaves, KeyedLeaves, audio_root
from recorderd.evidence.merkle import HASH_BYTES, leaf_hasher, merkle_root

LEAF_BYTES = 4
KEY = b"k" * 32
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.binary(max_size=40)),
        st.tuples(st.just("forget"), st.integers(0, 30)),
        st.tuples(st.just("keep"), st.integers(0, 30)),
        st.tuples(st.just("tell"), st.just(0)),
    ),
    max_size=30,
)


def _hash(leaf: bytes) -> bytes:
    hasher = leaf_hasher()
    hasher.update(leaf)
    return hasher.digest()


def _whole(audio: bytearray) -> list[bytes]:
    return [bytes(audio[at : at + LEAF_BYTES]) for at in range(0, len(audio) // LEAF_BYTES * LEAF_BYTES, 4)]


@given(STEPS)
def test_what_was_forgotten_changes_no_root(steps: list[tuple[str, bytes | int]]) -> None:
    leaves, keyed, audio = AudioLeaves(LEAF_BYTES), KeyedLeaves(KEY), bytearray()
    forgotten = told = 0
    for kind, value in steps:
        if isinstance(value, bytes):
            leaves.add(memoryview(value))
            audio += value
        elif kind == "forget":
            noted = min(value, told)  # nothing is forgotten before somebody was told of it
            leaves.forget(noted)
            keyed.forget(noted)
            forgotten = max(forgotten, noted)
        elif kind == "keep" and value <= leaves.whole:
            left = leaves.keep(value)
            assert left == (value if value >= forgotten else 0)
            forgotten = min(forgotten, left)
            told = min(told, left)
            leaves.add(memoryview(bytes(audio[left * LEAF_BYTES :])))
        elif kind == "tell":
            keyed.follow(leaves.hashes(told), first=told)
            told = leaves.whole
            rows = [
                hmac.digest(KEY, number.to_bytes(8) + _hash(leaf), "sha256")
                for number, leaf in enumerate(_whole(audio))
            ]
            assert keyed.hashes(forgotten) == b"".join(rows[forgotten:])
    assert leaves.root_of_all() == audio_root(
        lambda at, size: bytes(audio[at : at + size]), size_bytes=len(audio), leaf_bytes=LEAF_BYTES
    )
    assert leaves.root() == merkle_root(_whole(audio)).hex()
    assert leaves.hashes(forgotten) == b"".join(map(_hash, _whole(audio)[forgotten:]))


def test_an_hour_of_leaves_that_are_noted_takes_no_more_than_a_minute() -> None:
    tracemalloc.start()
    try:
        leaves = AudioLeaves(LEAF_BYTES)
        for second in range(3600):
            leaves.add(memoryview(second.to_bytes(LEAF_BYTES)))
            if second % 10 == 9:
                leaves.forget(second - 64)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(leaves.hashes(3600 - 64)) == 64 * HASH_BYTES
    assert held_bytes < 200 * HASH_BYTES  # an hour of hashes is 115,200
