"""The flush's word about the archive: it arrives whole, and what is stale or torn counts as gone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.core.clock import NS_PER_S
from recorderd.core.conditions import ArchiveLink, ArchiveState, Power, PowerState
from recorderd.spool.link_state import LINK_NAME, read_link_state, write_link_state

AT = 1_800_000_000 * NS_PER_S
LINK = ArchiveLink(
    state=ArchiveState.SLOW,
    reason="it takes less than comes",
    bytes_per_s=12_345.5,
    at_utc_ns=AT,
    power=Power(state=PowerState.ON_BATTERY, reason="ups-2 is on battery", runtime_s=600, contact=True),
)


@pytest.mark.parametrize("link", [LINK, replace(LINK, power=None, state=ArchiveState.REFUSING)])
def test_what_the_flush_tells_is_what_the_recorder_reads(tmp_path: Path, link: ArchiveLink) -> None:
    write_link_state(tmp_path, replace(LINK, reason="older"))
    write_link_state(tmp_path, link)
    assert read_link_state(tmp_path, now_utc_ns=AT + 59 * NS_PER_S) == link
    assert [path.name for path in tmp_path.iterdir()] == [LINK_NAME]


@pytest.mark.parametrize("seconds", [61, 86_400, -61])
def test_a_word_that_is_older_than_a_minute_means_that_the_flush_does_not_run(
    tmp_path: Path, seconds: int
) -> None:
    write_link_state(tmp_path, LINK)
    link = read_link_state(tmp_path, now_utc_ns=AT + seconds * NS_PER_S)
    assert (link.state, link.reason, link.bytes_per_s) == (ArchiveState.GONE, "the flush does not run", 0.0)
    assert link.power is None


def test_without_a_word_the_archive_is_gone(tmp_path: Path) -> None:
    link = read_link_state(tmp_path, now_utc_ns=AT)
    assert (link.state, link.reason) == (ArchiveState.GONE, "the flush does not run")


@pytest.mark.parametrize(
    "octets",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"state": "up"}', json.dumps({"state": "fine"}).encode()],
)
def test_a_word_that_is_none_counts_as_gone_and_says_so(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / LINK_NAME).write_bytes(octets)
    link = read_link_state(tmp_path, now_utc_ns=AT)
    assert link.state is ArchiveState.GONE
    assert "cannot be read" in link.reason


def test_every_cut_of_the_file_reads_as_gone(tmp_path: Path) -> None:
    write_link_state(tmp_path, LINK)
    octets = (tmp_path / LINK_NAME).read_bytes()
    for size in range(len(octets)):
        (tmp_path / LINK_NAME).write_bytes(octets[:size])
        assert read_link_state(tmp_path, now_utc_ns=AT).state is ArchiveState.GONE
