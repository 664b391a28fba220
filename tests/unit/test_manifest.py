"""The manifest: what was written is read back; anything else is refused, with the field's name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recorderd.core.errors import ManifestFormatError
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import (
    GENESIS_SHA256,
    CallEntry,
    FileEntry,
    Gap,
    Manifest,
    StreamEntry,
    encode_manifest,
    parse_manifest,
)

ID = "20261123T062236-aaaaaaaaaaaa"


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
            Gap(start_samples=10, length_samples=5, cause="not_received"),
        ),
    )  # fmt: skip
    return Manifest(
        recording_id=ID, recorder_id="r", software="recorderd 0.1.0", sequence=1,
        previous_manifest_sha256=GENESIS_SHA256, call=call, participants=(),
        started_at="2026-11-23T06:22:36.000Z", ended_at="2026-11-23T06:22:37.000Z",
        duration_samples=15, sample_rate_hz=8000, channels=1,
        end_cause="bye", recovered=False, streams=(stream,),
        files=(FileEntry(name=f"{ID}.wav", role="audio", size_bytes=74, sha256="ab" * 32),),
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
        ({"manifest_version": 2}, "manifest_version"),
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
