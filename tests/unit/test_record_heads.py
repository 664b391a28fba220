"""The signed heads: each follows the one before, none is lost by a cut, all of them are counted."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.archive.heads import judge_head
from recorderd.archive.lineage import Break, judge_chains
from recorderd.core.clock import SystemClock
from recorderd.core.errors import EvidenceError, HeadFormatError
from recorderd.core.events import EventLog
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.record.chain import Chain, Link
from recorderd.record.heads import HEADS_NAME, Heads
from recorderd.spool.head_box import HeadBox
from recorderd.wire.canonical import canonical_json
from recorderd.wire.chain_head import HeadBody, fingerprint, parse_head
from recorderd.wire.manifest import GENESIS_SHA256
from tests.support.bundles import make_signer
from tests.support.small_disk import FILLER, fill, small_disk


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return make_signer(tmp_path, "recorder")


def _heads(folder: Path, signer: Signer) -> tuple[Heads, Chain, EventLog]:
    log = EventLog(logger=logging.getLogger("heads"), clock=SystemClock())
    chain = Chain(folder / "state")
    heads = Heads(
        folder / "state",
        recorder_id="rec-1",
        chain=chain,
        box=HeadBox(folder / "spool"),
        signer=lambda: signer,
        clock=SystemClock(),
        log=log,
    )
    heads.begin()
    return heads, chain, log


def _append(chain: Chain, count: int) -> None:
    for _ in range(count):
        sequence = chain.head.sequence + 1
        chain.append(Link(sequence=sequence, manifest_sha256=f"{sequence:064x}", recording_id=f"r{sequence}"))


def _waiting(folder: Path, signer: Signer) -> list[HeadBody]:
    box, trust = HeadBox(folder / "spool"), TrustStore.from_pem(signer.certificate_pem)
    judged = [judge_head(box.read(name), trust, name=name) for name in box.waiting()]
    assert not [row for row in judged if isinstance(row, Break)]
    return [row.body for row in judged if not isinstance(row, Break)]


def test_heads_are_signed_follow_each_other_and_wait_for_the_archive(tmp_path: Path, signer: Signer) -> None:
    heads, chain, _ = _heads(tmp_path, signer)
    heads.state("start")
    _append(chain, 3)
    heads.count("sip_403")
    heads.count("sip_403")
    heads.count("no_rule")
    heads.state("hour")
    heads.state("stop")
    first, second, third = _waiting(tmp_path, signer)
    assert (first.number, first.sequence, first.manifest_sha256) == (1, 0, GENESIS_SHA256)
    assert (second.sequence, second.count, second.cause) == (3, 3, "hour")
    assert second.manifest_sha256 == f"{3:064x}"
    assert [(row.reason, row.calls) for row in second.counted] == [("no_rule", 1), ("sip_403", 2)]
    assert (third.count, third.counted, third.cause) == (0, (), "stop")
    assert judge_chains([], [first, second, third])[1:] == ()  # the three entries themselves are not here


def test_the_heads_go_on_after_a_restart_and_a_cut_before_the_spool_loses_none(
    tmp_path: Path, signer: Signer
) -> None:
    heads, chain, _ = _heads(tmp_path, signer)
    _append(chain, 2)
    heads.state("hour")
    for path in (tmp_path / "spool" / "heads").iterdir():
        path.unlink()  # as if the power had gone between the two writes
    again, _, _ = _heads(tmp_path, signer)
    again.state("start")
    first, second = _waiting(tmp_path, signer)
    assert (first.number, second.number) == (1, 2)
    assert second.previous_head_sha256 == first.sha256


def test_a_head_that_a_power_cut_tore_never_was(tmp_path: Path, signer: Signer) -> None:
    heads, chain, _ = _heads(tmp_path, signer)
    _append(chain, 1)
    heads.state("hour")
    with (tmp_path / "state" / HEADS_NAME).open("ab") as stream:
        stream.write(b'{"body":{"cause":"ho')
    again, _, _ = _heads(tmp_path, signer)
    again.state("start")
    assert [body.number for body in _waiting(tmp_path, signer)] == [1, 2]


def test_a_chain_that_was_cut_behind_its_head_stops_the_start(tmp_path: Path, signer: Signer) -> None:
    heads, chain, _ = _heads(tmp_path, signer)
    _append(chain, 5)
    heads.state("hour")
    path = tmp_path / "state" / "chain.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(EvidenceError, match="states 5 entries, the chain has 3"):
        _heads(tmp_path, signer)


def test_a_disk_that_refuses_is_reported_and_the_counts_are_kept(tmp_path: Path, signer: Signer) -> None:
    heads, _, log = _heads(tmp_path, signer)
    heads.count("sip_403")
    path = tmp_path / "state" / HEADS_NAME
    path.mkdir()
    heads.state("hour")
    assert log.counters()["head_failed"] == 1
    path.rmdir()
    heads.state("hour")
    (body,) = _waiting(tmp_path, signer)
    assert [(row.reason, row.calls) for row in body.counted] == [("sip_403", 1)]


@pytest.mark.parametrize("left_bytes", [0, 1 << 12], ids=["no room at all", "room for the line only"])
def test_on_a_full_disk_no_head_is_torn_left_out_or_counted_twice(
    tmp_path: Path, signer: Signer, left_bytes: int
) -> None:
    with small_disk(tmp_path / "small", size_bytes=1 << 20) as disk:
        heads, _, log = _heads(disk, signer)
        heads.state("start")
        for _ in range(3):
            heads.count("no_rule")
            fill(disk, leave_bytes=left_bytes)
            heads.state("hour")
        assert log.counters()["head_failed"] >= 2
        (disk / FILLER).unlink()
        heads.state("stop")
        bodies = _waiting(disk, signer)
        assert [body.number for body in bodies] == list(range(1, len(bodies) + 1))
        assert judge_chains([], bodies)[1:] == ()
        assert sum(row.calls for body in bodies for row in body.counted) == 3
        again, _, _ = _heads(disk, signer)
        assert again.newest == bodies[-1]


def test_a_start_on_a_full_disk_lays_the_newest_head_down_later(tmp_path: Path, signer: Signer) -> None:
    with small_disk(tmp_path / "small", size_bytes=1 << 20) as disk:
        heads, _, _ = _heads(disk, signer)
        heads.state("hour")
        for path in (disk / "spool" / "heads").iterdir():
            path.unlink()
        fill(disk)
        again, _, log = _heads(disk, signer)
        assert log.counters()["head_failed"] == 1
        (disk / FILLER).unlink()
        again.state("hour")
        assert [body.number for body in _waiting(disk, signer)] == [1, 2]


def test_the_status_tells_the_fingerprint_in_groups(tmp_path: Path, signer: Signer) -> None:
    heads, chain, _ = _heads(tmp_path, signer)
    _append(chain, 1)
    heads.state("hour")
    told = heads.describe()
    assert told["fingerprint"] == "0000 0000 0000 0000 0000 0000 0000 0000"
    assert told["head"]["number"] == told["head"]["waiting"] == 1
    assert fingerprint("0123456789abcdef" * 4) == "0123 4567 89ab cdef 0123 4567 89ab cdef"


def test_no_octet_of_a_head_can_be_altered(tmp_path: Path, signer: Signer) -> None:
    heads, chain, _ = _heads(tmp_path, signer)
    _append(chain, 1)
    heads.count("sip_403")
    heads.state("hour")
    box, trust = HeadBox(tmp_path / "spool"), TrustStore.from_pem(signer.certificate_pem)
    good = box.read(box.waiting()[0])
    assert not isinstance(judge_head(good, trust, name="head"), Break)
    for position in range(len(good)):
        flipped = bytearray(good)
        flipped[position] ^= 0x01
        assert isinstance(judge_head(bytes(flipped), trust, name="head"), Break), position


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"cause":"hour"', b'"cause":"noon"'),
        (b'"head_version":1', b'"head_version":2'),
        (b"rec-1", b"../.."),
    ],
)
def test_a_head_with_a_field_that_means_nothing_is_malformed(
    tmp_path: Path, signer: Signer, old: bytes, new: bytes
) -> None:
    heads, _, _ = _heads(tmp_path, signer)
    heads.state("hour")
    box = HeadBox(tmp_path / "spool")
    good = box.read(box.waiting()[0])
    with pytest.raises(HeadFormatError):
        parse_head(good.replace(old, new))


@given(st.binary(max_size=400))
def test_any_octets_are_a_head_or_a_head_format_error(raw: bytes) -> None:
    with suppress(HeadFormatError):
        parse_head(raw)


@given(st.text(max_size=20), st.text(max_size=70), st.integers())
def test_any_values_in_a_head_are_read_or_a_head_format_error(cause: str, digest: str, number: int) -> None:
    body = {"cause": cause, "count": number, "counted": [], "head_version": 1, "manifest_sha256": digest,
            "number": number, "previous_head_sha256": digest, "recorder_id": cause, "sequence": number,
            "stated_at": cause}  # fmt: skip
    with suppress(HeadFormatError):
        parse_head(canonical_json({"body": body, "signature": digest}))
