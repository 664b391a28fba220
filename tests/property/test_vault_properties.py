"""The vault: what a plain file would give it gives too, and after any cut no less than was synced."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from recorderd import durable
from recorderd.evidence.draft_cipher import BLOCK_MAX_BYTES, BlockOpener, DraftKey
from recorderd.evidence.draft_container import ContainerReader
from recorderd.record.draft_file import ClearFile, DraftFile
from recorderd.record.keyless import stand
from recorderd.record.vault import VaultFile

HEAD = b"RIFF" + bytes(range(96))
SILENCE = 0xD5
SIZES = st.sampled_from(
    [1, 2, 31, 320, 1600, 4000, BLOCK_MAX_BYTES - 1, BLOCK_MAX_BYTES + 1, 3 * BLOCK_MAX_BYTES]
)
PLACE = st.floats(0, 1, exclude_max=True)
OPERATION = st.one_of(
    st.tuples(st.just("append"), SIZES),
    st.tuples(st.just("append"), SIZES),
    st.tuples(st.just("fill"), PLACE, PLACE),
    st.tuples(st.just("overwrite"), PLACE, PLACE),
    st.tuples(st.just("resize"), PLACE),
    st.tuples(st.just("head"), st.integers(0, len(HEAD) - 4)),
    st.tuples(st.just("sync")),
)


class Clear:
    """The key of a draft, unwrapped: recipients to whom nothing is hidden."""

    def __init__(self) -> None:
        self.key = b""

    def encrypt(self, blocks: Any, *, content_bytes: int) -> Iterator[bytes]:
        self.key = b"".join(blocks)
        assert len(self.key) == content_bytes
        yield b"wrapped"


def _vault(path: Path) -> tuple[VaultFile, BlockOpener]:
    clear = Clear()
    key = DraftKey(clear)
    vault = VaultFile(path, key=key, recording_id="r-1", head=HEAD, frame_bytes=2, silence=SILENCE)
    return vault, BlockOpener(clear.key)


def _container(path: Path, opener: BlockOpener, *, salvage: bool = False) -> ContainerReader:
    octets = path.read_bytes()

    def read(position: int, size_bytes: int) -> bytes:
        return octets[position : position + size_bytes]

    return ContainerReader(read, opener, size_bytes=len(octets), subject=path.name, salvage=salvage)


def _all(file: DraftFile) -> bytes:
    buffer = bytearray(file.size_bytes + 10)
    filled = 0
    while read := file.read_into(memoryview(buffer)[filled : filled + 50_000], offset_bytes=filled):
        filled += read
    assert filled == file.size_bytes
    return bytes(buffer[:filled])


def _span(size_bytes: int, low: float, high: float) -> tuple[int, int]:
    room = size_bytes - len(HEAD)
    start, end = sorted((len(HEAD) + int(low * room), len(HEAD) + int(high * room)))
    return start, end


def _do(file: DraftFile, operation: tuple[Any, ...], noise: random.Random) -> None:
    what, *how = operation
    size_bytes = file.size_bytes
    if what == "append":
        file.write_at(noise.randbytes(how[0]), offset_bytes=size_bytes)
    elif what == "fill":
        start, end = _span(size_bytes, *how)
        file.fill(SILENCE, start=start, end=end)
    elif what == "overwrite":
        start, end = _span(size_bytes, *how)
        file.write_at(noise.randbytes(end - start), offset_bytes=start)
    elif what == "resize":
        file.resize(_span(size_bytes, how[0], 0)[1])
    elif what == "head":
        file.patch_head([(how[0], noise.randbytes(4))])
    else:
        file.sync()


@settings(max_examples=60)
@example([("append", 1600), ("resize", 0.5), ("append", 1600), ("fill", 0.0, 0.3334)], 1)
@given(st.lists(OPERATION, max_size=14), st.integers(0, 1 << 32))
def test_any_sequence_of_changes_gives_what_a_plain_file_gives(
    operations: list[tuple[Any, ...]], seed: int
) -> None:
    with TemporaryDirectory() as name:
        clear = ClearFile(Path(name, "clear"), head=HEAD)
        vault, opener = _vault(Path(name, "vault"))
        used: list[int] = []
        seal = DraftKey.seal

        def noted(key: DraftKey, heading: Any, block: Any, plain: Any) -> Any:
            block, octets = seal(key, heading, block, plain)
            used.append(block.serial)
            return block, octets

        with mock.patch.object(DraftKey, "seal", noted):
            for number, operation in enumerate(operations):
                for file in (clear, vault):
                    _do(file, operation, random.Random(seed + number))
                assert _all(vault) == _all(clear)
        vault.sync()
        reader = _container(vault.path, opener)
        plain, held = _all(clear), vault.path.read_bytes()
        assert b"".join(reader.plain()) == plain
        assert len(used) == len(set(used))  # no nonce was used twice
        pieces = (plain[at : at + 16] for at in range(0, len(plain), 997))
        assert not any(len(set(piece)) > 4 and piece in held for piece in pieces)
        vault.close()
        clear.close()


# --- cut at any moment --------------------------------------------------------------------------------

SYNC = -1


class Medium:
    """What a disk was told, and what it may hold after a power cut: what was synced, any part of the rest."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bytes]] = []  # where and what; SYNC for a sync

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note what is written and synced meanwhile."""
        write, sync = durable.write_at, durable.sync_file

        def noted_write(descriptor: int, content: bytes | memoryview, *, offset_bytes: int) -> None:
            self.told.append((offset_bytes, bytes(content)))
            write(descriptor, content, offset_bytes=offset_bytes)

        def noted_sync(descriptor: int) -> None:
            sync(descriptor)
            self.told.append((SYNC, b""))

        with (
            mock.patch.object(durable, "write_at", noted_write),
            mock.patch.object(durable, "sync_file", noted_sync),
        ):
            yield

    def cut(self, chance: random.Random, moment: int) -> bytes:
        """Give what is left of the first ``moment`` calls."""
        calls = self.told[:moment]
        last_sync = max((number for number, call in enumerate(calls) if call[0] == SYNC), default=0)
        left = bytearray()
        for number, (at, octets) in enumerate(calls):
            fate = 0.0 if number < last_sync else chance.random()
            if at == SYNC or fate > 0.8:
                continue
            if fate < 0.4:
                _lay(left, at, octets)
            else:
                start = chance.choice([0, 0, chance.randrange(len(octets) + 1)])
                end = chance.choice([chance.randrange(start, min(start + 60, len(octets)) + 1), len(octets)])
                _lay(left, at + start, octets[start:end])
        return bytes(left)


def _lay(content: bytearray, at: int, octets: bytes) -> None:
    content.extend(bytes(max(0, at + len(octets) - len(content))))
    content[at : at + len(octets)] = octets


LIFE = st.one_of(
    st.tuples(st.just("append"), st.sampled_from([31, 1600, 8000, BLOCK_MAX_BYTES + 1])),
    st.tuples(st.just("head"), st.integers(0, len(HEAD) - 4)),
    st.tuples(st.just("sync")),
)
LAST = st.one_of(
    st.tuples(st.just("fill"), PLACE, PLACE), st.tuples(st.just("resize"), PLACE), st.tuples(st.just("sync"))
)


@settings(max_examples=120)
@given(
    st.lists(LIFE, min_size=2, max_size=8), LAST, st.lists(LIFE, max_size=2), st.randoms(use_true_random=True)
)
def test_after_a_power_cut_what_was_synced_opens_and_what_was_to_be_silent_can_be_destroyed(
    life: list[tuple[Any, ...]], last: tuple[Any, ...], after: list[tuple[Any, ...]], noise: random.Random
) -> None:
    medium = Medium()
    with TemporaryDirectory() as name, medium.watching():
        vault, opener = _vault(Path(name, "vault"))
        known: list[tuple[int, bytes, list[bytes]]] = []  # after so many calls: synced, and heads since then

        def look(*, synced: bool) -> None:
            held, (_, before, heads) = _all(vault), known[-1] if known else (0, b"", [])
            head = held[: len(HEAD)]
            known.append(
                (len(medium.told), held, [head]) if synced else (len(medium.told), before, [*heads, head])
            )

        vault.sync()
        look(synced=True)
        for operation in (*life, ("sync",)):
            _do(vault, operation, noise)
            look(synced=operation[0] == "sync")
        size_bytes, begun = vault.size_bytes, len(medium.told)
        start, end = size_bytes, size_bytes
        if last[0] == "fill":
            start, end = _span(size_bytes, *last[1:])
        elif last[0] == "resize":
            start, end = _span(size_bytes, last[1], 0)[1], 1 << 62
        _do(vault, last, noise)
        for operation in after if last[0] != "resize" else []:
            _do(vault, operation, noise)
        vault.close()

        moment = noise.randrange(known[0][0], len(medium.told) + 1)
        synced, heads = next((held, heads) for at, held, heads in reversed(known) if at <= moment)
        later = [held for at, held, _ in known if at > moment]  # on their way
        heads = [*heads, *(held[: len(HEAD)] for held in later)]
        path = Path(name, "cut")
        path.write_bytes(medium.cut(noise, moment))
        read = b"".join(_container(path, opener, salvage=True).plain())
        if moment < begun or not any(operation[0] == "head" for operation in after):
            assert read[: len(HEAD)] in heads
        assert read[len(HEAD) : min(start, len(synced))] == synced[len(HEAD) : start]
        assert read[end : len(synced)] == synced[end:]
        wiped = range(start, min(end, len(synced), len(read)))
        assert all(read[at] in (synced[at], SILENCE) for at in wiped)

        standing = stand(path, silent=[(start, end)])
        left = b"".join(_container(path, opener, salvage=True).plain())
        assert len(left) == standing.plain_bytes
        assert set(left[start:end]) <= {SILENCE}
        near = max(len(HEAD), start - BLOCK_MAX_BYTES) if end > start else len(synced)
        assert left[len(HEAD) : min(near, len(synced))] == synced[len(HEAD) : near]
        assert left[end + BLOCK_MAX_BYTES : len(synced)] == synced[end + BLOCK_MAX_BYTES :]
        again = stand(path, silent=[(start, end)])
        assert (again.plain_bytes, again.destroyed) == (standing.plain_bytes, standing.destroyed)
        assert path.stat().st_size == again.size_bytes
