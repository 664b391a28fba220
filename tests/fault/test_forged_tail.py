"""Rows of the tail that are whole and none of ours: the recorder starts, and other calls get theirs back."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from isal.isal_zlib import crc32

from recorderd.record.tail_block import ROW, LeftBlock, block_bytes, rows_again
from recorderd.record.tail_files import TAIL_DIR, TAIL_NAMES, read_tail
from recorderd.spool.layout import Place
from tests.support.bundles import make_signer
from tests.support.power_cut_scene import begin, recovered
from tests.support.recipients import make_recipient

FORGERIES = 40
FIELDS = [name for name in ROW.names or () if name not in ("recording", "crc", "laws")]
NUMBERS = (0, 1, -1, 2, 7, 255, 2**16, 2**31, 2**32 - 1, 2**62, -(2**62))
NOTES = (
    None,
    [],
    {},
    "x",
    -1,
    10**30,
    [[]],
    [[{"start_samples": -5, "length_samples": 10**12, "cause": "?"}]],
)


def _alter(table: Any, body: bytearray, luck: random.Random) -> None:
    """Alter one thing of the first call's row."""
    for number in np.flatnonzero(table["recording"] == b"c0").tolist():
        row = table[number]
        at, size, notes_bytes = int(row["at"]), int(row["size"]), int(row["notes_bytes"])
        what = luck.choice([*FIELDS, "laws", "content", "notes"])
        if what == "laws":
            row["laws"] = [luck.randrange(256) for _ in range(8)]
        elif what == "content":
            body[at + luck.randrange(min(size, len(body) - at))] = luck.randrange(256)
        elif what != "notes":
            limits = np.iinfo(ROW[what])
            row[what] = min(max(luck.choice(NUMBERS), limits.min), limits.max)
        elif notes_bytes:
            told = json.loads(bytes(body[at + size - notes_bytes : at + size]))
            told[luck.choice(sorted(told))] = luck.choice(NOTES)
            written = json.dumps(told).encode()[:notes_bytes]
            body[at + size - notes_bytes : at + size] = written.ljust(notes_bytes)


def _forged(blocks: list[tuple[LeftBlock, memoryview]], alter: Callable[[Any, bytearray], None]) -> bytes:
    """Write the blocks again, altered, every check as it must be."""
    out = b""
    for block, octets in blocks:
        table, body = block.table.copy(), bytearray(octets)
        alter(table, body)
        for row in table:
            content = body[int(row["at"]) : int(row["at"]) + int(row["size"])]
            row["crc"] = crc32(bytes(content))
        head = rows_again(block, table)
        body[: len(head)] = head
        out += bytes(body).ljust(block_bytes(len(body)), b"\0")
    return out


@pytest.mark.parametrize("ms", [900, 3000])  # before the audio is opened, and later
@pytest.mark.parametrize("kind", ["clear", "mixed", "encrypted"])
def test_a_forged_row_keeps_no_recorder_from_starting(tmp_path: Path, kind: str, ms: int) -> None:
    signer, customer = make_signer(tmp_path, "recorder"), make_recipient(tmp_path, "customer")
    scene = begin(tmp_path / "lived", signer, kind, customer)
    scene.studio.run(ms)
    blocks, _ = read_tail(tmp_path / "lived" / "spool")
    wanted = set(recovered(scene, shutil.copytree(tmp_path / "lived", tmp_path / "left")).ids(Place.READY))
    luck = random.Random(ms)
    for number in range(FORGERIES):
        left = shutil.copytree(tmp_path / "lived", tmp_path / f"left-{number}")
        first, second = (left / "spool" / TAIL_DIR / name for name in TAIL_NAMES)
        first.write_bytes(_forged(blocks, lambda table, body: _alter(table, body, luck)))
        second.write_bytes(b"")
        spool = recovered(scene, left)
        assert not spool.ids(Place.DRAFTS)
        assert wanted - {"c0"} <= set(spool.ids(Place.READY))
        shutil.rmtree(left)
