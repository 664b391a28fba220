"""The manifest: what was written is read back; anything else is refused, with the field's name."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from recorderd.core.errors import ManifestFormatError
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import (
    GENESIS_SHA256,
    TOMBSTONES,
    CallEntry,
    FileEntry,
    Gap,
    Manifest,
    StreamEntry,
    encode_manifest,
    parse_manifest,
)
from recorderd.wire.manifest_rows import ControlEntry, JoinEntry, RuleEntry, SilentSpan

ID = "20261123T062236-aaaaaaaaaaaa"
SPAN = {
    "start_samples": 10, "length_samples": 5, "cause": "paused", "begun_by": "1000",
    "begun_via": "feature_code", "ended_by": "", "ended_via": "",
}  # fmt: skip
CONTROL = {
    "at": "2026-11-23T06:22:36.001Z", "sample": 10, "action": "pause", "by": "1000", "via": "feature_code",
    "state": "paused", "accepted": True, "reason": "",
}  # fmt: skip


def _manifest() -> Manifest:
    call = CallEntry(
        call_id="c", origin="siprec", caller="Zoë", callee="2", direction="", extension="", trunk="",
        queue="", conference="",
    )  # fmt: skip
    stream = StreamEntry(
        stream=f"{ID}/1", label="1", channel=0, participant_ids=("p",), encoding="PCMA", clock_rate_hz=8000,
        ssrcs=(1, 2**32 - 1), first_sample=-1, packets_received=0, packets_lost=0, packets_duplicate=0,
        packets_late=0, packets_foreign=0, packets_malformed=0, packets_kernel_dropped=0, peak_dbfs=-96,
        rms_dbfs=-96, end_cause="bye",
        gaps=(
            Gap(start_samples=0, length_samples=10, cause="before_first"),
            Gap(start_samples=10, length_samples=5, cause="paused"),
        ),
    )  # fmt: skip
    return Manifest(
        recording_id=ID, recorder_id="r", software="recorderd 0.1.0", sequence=1,
        previous_manifest_sha256=GENESIS_SHA256, call=call, participants=(),
        started_at="2026-11-23T06:22:36.000Z", ended_at="2026-11-23T06:22:37.000Z",
        duration_samples=15, sample_rate_hz=8000, channels=1,
        end_cause="bye", recovered=False, streams=(stream,),
        files=(FileEntry(name=f"{ID}.wav", role="audio", size_bytes=74, sha256="ab" * 32),),
        rule=RuleEntry(name="support", mode="always-pausable", layout="sides", priority=-1, mandatory=True),
        controls=(ControlEntry(**CONTROL),), spans=(SilentSpan(**SPAN),), call_ids=("c", "d"),
        joins=(JoinEntry(at_samples=3, call_id="d", session="s2"),), joined_into="s3",
    )  # fmt: skip


def test_a_manifest_reads_back_as_it_was_written() -> None:
    manifest = _manifest()
    assert parse_manifest(encode_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sequence": 0}, "sequence"),
        ({"recording_id": "../x"}, "recording_id"),
        ({"extra": 1}, "extra"),
        ({"software": "\ud800"}, "software"),
        ({"manifest_version": 4}, "manifest_version"),
        ({"outcome": "lost"}, "outcome"),
        ({"outcome": "objected"}, "files"),
        ({"channels": 0}, "channels"),
        ({"joined_into": "../x"}, "joined_into"),
        ({"spans": [{**SPAN, "start_samples": 11}]}, "spans"),
        ({"spans": [{**SPAN, "cause": "shy"}]}, "cause"),
        ({"controls": [{**CONTROL, "sample": 16}]}, "controls"),
        ({"files": []}, "files"),
        ({"duration_samples": 14}, "streams"),
        ({"previous_manifest_sha256": "00"}, "previous_manifest_sha256"),
        ({"recovered": 1}, "recovered"),
    ],
)
def test_a_field_that_is_not_right_is_named(change: dict[str, Any], field: str) -> None:
    table = {**json.loads(encode_manifest(_manifest())), **change}
    with pytest.raises(ManifestFormatError, match=field):
        parse_manifest(json.dumps(table, sort_keys=True, separators=(",", ":")).encode())


def _second_version() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(encode_manifest(_manifest()))
    for key in ("audio_format", "talk_over_ms"):
        del table[key]
    for key in ("sources", "clock", "quality", "keys"):
        del table["streams"][0][key]
    return {**table, "manifest_version": 2}


def test_a_manifest_of_the_second_version_is_still_read_and_written_back_as_it_was() -> None:
    table = _second_version()
    manifest = parse_manifest(canonical_json(table))
    assert encode_manifest(manifest) == canonical_json(table)
    assert (manifest.audio_format, manifest.streams[0].keys) == ("pcm16", ())
    with pytest.raises(ManifestFormatError, match="talk_over_ms: unknown field"):
        parse_manifest(canonical_json({**table, "talk_over_ms": 0}))


def test_a_manifest_of_the_first_version_is_still_read_and_written_back_as_it_was() -> None:
    table = _second_version()
    for key in ("outcome", "rule", "controls", "spans", "call_ids", "joins", "joined_into"):
        del table[key]
    for key in ("party", "moved_from", "doubled"):
        del table["streams"][0][key]
    table["manifest_version"] = 1
    manifest = parse_manifest(canonical_json(table))
    assert encode_manifest(manifest) == canonical_json(table)
    assert (manifest.outcome, manifest.rule, manifest.spans) == ("recorded", RuleEntry(), ())
    with pytest.raises(ManifestFormatError, match="outcome: unknown field"):
        parse_manifest(canonical_json({**table, "outcome": "recorded"}))


def _tombstone(outcome: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(encode_manifest(_manifest()))
    table["streams"][0]["gaps"] = []
    table["controls"][0]["sample"] = -1
    table["joins"] = []
    return {**table, "outcome": outcome, "duration_samples": 0, "channels": 0, "spans": [], "files": []}


@pytest.mark.parametrize("outcome", TOMBSTONES)
def test_a_tombstone_reads_back_and_has_no_audio(outcome: str) -> None:
    manifest = parse_manifest(canonical_json(_tombstone(outcome)))
    assert (manifest.audio, manifest.outcome) == (None, outcome)
    assert encode_manifest(manifest) == canonical_json(_tombstone(outcome))


@pytest.mark.parametrize(
    "change", [{"duration_samples": 1}, {"channels": 1}, {"files": [{"name": f"{ID}.offer-1.sip"}]}]
)
def test_a_tombstone_that_keeps_something_is_refused(change: dict[str, Any]) -> None:
    for row in change.get("files", []):
        row.update({"role": "offer", "size_bytes": 1, "sha256": "ab" * 32})
    with pytest.raises(ManifestFormatError, match="nothing was kept"):
        parse_manifest(canonical_json({**_tombstone("objected"), **change}))


def test_a_manifest_is_written_as_its_tables_would_be() -> None:
    manifest = _manifest()
    assert encode_manifest(manifest) == canonical_json(asdict(manifest))
    with pytest.raises(TypeError):
        canonical_json({"what": object()})


def test_another_spelling_of_the_same_manifest_is_refused() -> None:
    table = json.loads(encode_manifest(_manifest()))
    with pytest.raises(ManifestFormatError, match="canonical"):
        parse_manifest(json.dumps(table).encode())
    with pytest.raises(ManifestFormatError, match="canonical"):
        parse_manifest(canonical_json(table) + b"\n")


@pytest.mark.parametrize("name", ["/etc/passwd", f"{ID}.wav/x", "..", f"other.{ID}.wav"])
def test_a_file_name_that_leads_elsewhere_is_refused(name: str) -> None:
    table = json.loads(encode_manifest(_manifest()))
    table["files"][0]["name"] = name
    with pytest.raises(ManifestFormatError, match=r"name|files"):
        parse_manifest(canonical_json(table))
