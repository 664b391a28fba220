"""The manifest: what was written is read back; anything else is refused, with the field's name."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from recorderd.core.errors import ManifestFormatError
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import (
    GENESIS_SHA256,
    TOMBSTONES,
    CallEntry,
    ClockStatement,
    FileEntry,
    Gap,
    Manifest,
    ProofEntry,
    StreamEntry,
    encode_manifest,
    parse_manifest,
)
from recorderd.wire.manifest_rows import ClockEntry, ControlEntry, JoinEntry, RuleEntry, SilentSpan

ID = "20261123T062236-aaaaaaaaaaaa"
SPAN = {
    "start_samples": 10, "length_samples": 5, "cause": "paused", "begun_by": "1000",
    "begun_via": "feature_code", "ended_by": "", "ended_via": "",
}  # fmt: skip
CONTROL = {
    "at": "2026-11-23T06:22:36.001Z", "sample": 10, "action": "pause", "by": "1000", "via": "feature_code",
    "state": "paused", "accepted": True, "reason": "",
}  # fmt: skip
PLAIN = {"encryption": "", "content_sha256": "", "content_bytes": 0}
CLOCK = {
    "source": "chrony", "synchronised": True, "offset_ns": -1200, "stratum": 3, "max_error_ns": 900_000,
    "checked_at": "2026-11-23T06:22:30.000Z", "stepped_ns": 0,
}  # fmt: skip
REPORTED = {"reports": 720, "reported_skew_ppb": -100_000, "wall_offset_us": -3_600_000_000}


PROOF = {"leaf_samples": 8000, "leaves": 1, "root_sha256": "cd" * 32, "checked_samples": 0}
NO_PROOF = {"leaf_samples": 0, "leaves": 0, "root_sha256": "", "checked_samples": 0}


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
        clock=ClockEntry(skew_ppb=-12, **REPORTED),
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
        clock=ClockStatement(**CLOCK),
        proof=ProofEntry(**PROOF),
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
        ({"call_ids": ["\ud800"]}, "call_ids"),
        ({"manifest_version": 6}, "manifest_version"),
        ({"clock": {**CLOCK, "source": "sundial"}}, "source"),
        ({"clock": {**CLOCK, "stratum": 16}}, "stratum"),
        ({"clock": {**CLOCK, "checked_at": ""}}, "synchronised"),
        (
            {"proof": {"leaf_samples": 8000, "leaves": 0, "root_sha256": "", "checked_samples": 0}},
            "leaf_samples",
        ),
        (
            {"proof": {"leaf_samples": 8000, "leaves": 1, "root_sha256": "", "checked_samples": 0}},
            "root_sha256",
        ),
        (
            {"proof": {"leaf_samples": 0, "leaves": 0, "root_sha256": "ab" * 32, "checked_samples": 0}},
            "root_sha256",
        ),
        ({"proof": {**NO_PROOF, "checked_samples": 1}}, "checked_samples"),
        ({"proof": {**PROOF, "checked_samples": 16}}, "proof"),
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


def _fourth_version() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(encode_manifest(_manifest()))
    for key in ("recipients", "metadata_encrypted", "blinding"):
        del table[key]
    del table["streams"][0]["clock"]["known"]
    return {**table, "manifest_version": 4}


def test_a_manifest_of_the_fourth_version_is_still_read_and_written_back_as_it_was() -> None:
    table = _fourth_version()
    manifest = parse_manifest(canonical_json(table))
    assert encode_manifest(manifest) == canonical_json(table)
    assert (manifest.recipients, manifest.metadata_encrypted, manifest.streams[0].clock.known) == (
        *((), False),
        True,
    )
    with pytest.raises(ManifestFormatError, match="recipients: unknown field"):
        parse_manifest(canonical_json({**table, "recipients": []}))


def _third_version() -> dict[str, Any]:
    table = _fourth_version()
    for key in ("clock", "proof"):
        del table[key]
    for key in ("encryption", "content_sha256", "content_bytes"):
        del table["files"][0][key]
    for key in REPORTED:
        del table["streams"][0]["clock"][key]
    return {**table, "manifest_version": 3}


def test_a_manifest_of_the_third_version_is_still_read_and_written_back_as_it_was() -> None:
    table = _third_version()
    manifest = parse_manifest(canonical_json(table))
    assert encode_manifest(manifest) == canonical_json(table)
    assert (manifest.clock, manifest.proof) == (ClockStatement(), ProofEntry())
    assert manifest.streams[0].clock == ClockEntry(skew_ppb=-12)
    assert (manifest.clock.source, manifest.clock.synchronised) == ("none", False)
    with pytest.raises(ManifestFormatError, match="proof: unknown field"):
        parse_manifest(canonical_json({**table, "proof": {}}))
    table["files"][0]["name"] = f"20261123062236-1-2--{ID}.wav"
    with pytest.raises(ManifestFormatError, match="files"):
        parse_manifest(canonical_json(table))


def _second_version() -> dict[str, Any]:
    table = _third_version()
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


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"reports": 0}, "none, although they tell something"),
        ({"known": False}, "known: false, although something is told"),
        ({"reports": -1}, "reports: not an integer"),
        ({"reported_skew_ppb": 10**9 + 1}, "reported_skew_ppb: not an integer"),
        ({"wall_offset_us": -(2**62) - 1}, "wall_offset_us: not an integer"),
        ({"wall_offset_us": 0.5}, "wall_offset_us: not of type int"),
    ],
)
def test_what_a_sender_reported_is_bounded_and_told_by_reports(change: dict[str, Any], problem: str) -> None:
    table = json.loads(encode_manifest(_manifest()))
    table["streams"][0]["clock"].update(change)
    with pytest.raises(ManifestFormatError, match=problem):
        parse_manifest(canonical_json(table))


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
        row.update({"role": "offer", "size_bytes": 1, "sha256": "ab" * 32, **PLAIN})
    with pytest.raises(ManifestFormatError, match="nothing was kept"):
        parse_manifest(canonical_json({**_tombstone("objected"), **change}))


@pytest.mark.parametrize("ssrc", [True, -1, 2**32, 1.0, "1"])
def test_an_ssrc_is_a_number_of_32_bits(ssrc: Any) -> None:
    table = json.loads(encode_manifest(_manifest()))
    table["streams"][0]["ssrcs"] = [ssrc]
    with pytest.raises(ManifestFormatError, match="ssrcs"):
        parse_manifest(canonical_json(table))


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


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        f"{ID}.wav/x",
        "..",
        f"../{ID}.wav",
        f"other.{ID}.wav",
        f"other{ID}.wav",
        f"{ID}-other.wav",
        f"{ID}.mp3",
        f"{ID}.wav.p7s",
        f".{ID}.wav",
        f"caf\u00e9-{ID}.wav",
        f"{'x' * 100}-{ID}.wav",
    ],
)
def test_a_file_name_that_leads_elsewhere_is_refused(name: str) -> None:
    table = json.loads(encode_manifest(_manifest()))
    table["files"][0]["name"] = name
    with pytest.raises(ManifestFormatError, match="files"):
        parse_manifest(canonical_json(table))


@pytest.mark.parametrize("ending", ["manifest.json", "manifest.json.p7s", "signer.pem", "wav.p7s"])
def test_what_is_written_after_the_manifest_cannot_be_listed_in_it(ending: str) -> None:
    table = json.loads(encode_manifest(_manifest()))
    table["files"].append({**table["files"][0], "name": f"{ID}.{ending}", "role": "offer"})
    with pytest.raises(ManifestFormatError, match="files"):
        parse_manifest(canonical_json(table))


@pytest.mark.parametrize("name", [f"20261123062236-442920123123-2-inbound-{ID}.wav", f"{ID}.wav.p7m"])
def test_the_audio_has_the_name_that_the_manifest_gives_it(name: str) -> None:
    manifest = _manifest()
    manifest = replace(manifest, files=(replace(manifest.files[0], name=name),))
    audio = parse_manifest(encode_manifest(manifest)).audio
    assert audio is not None and audio.name == name


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"encryption": "rot13", "content_sha256": "ab" * 32}, "encryption"),
        ({"encryption": "cms", "content_sha256": ""}, "content_sha256"),
        ({"content_sha256": "ab" * 32}, "content_sha256"),
        ({"content_bytes": 1}, "content_sha256"),
    ],
)
def test_a_file_is_encrypted_with_the_digest_of_its_plain_text_or_plain_without(
    change: dict[str, Any], field: str
) -> None:
    table = json.loads(encode_manifest(_manifest()))
    table["files"][0].update({"encryption": "cms", "content_sha256": "ab" * 32, "content_bytes": 44})
    assert parse_manifest(canonical_json(table)).files[0].content_bytes == 44
    table["files"][0].update(PLAIN)
    table["files"][0].update(change)
    with pytest.raises(ManifestFormatError, match=field):
        parse_manifest(canonical_json(table))


def _with_audio(*rows: dict[str, Any]) -> bytes:
    table = json.loads(encode_manifest(_manifest()))
    known = table["files"][0]
    others = [row for row in table["files"] if row["role"] != "audio"]
    table["files"] = [*({**known, **row} for row in rows), *others]
    return canonical_json(table)


SEALED = {"encryption": "cms", "content_sha256": "ab" * 32, "content_bytes": 44}
PARTS = [{**SEALED, "name": f"{ID}.wav.00{number}.p7m"} for number in (1, 2, 3)]
DRAFT = {"name": f"{ID}.wav.draft", "encryption": "draft"}
KEY = {"name": f"{ID}.wav.key.p7m", "role": "key"}


def test_audio_in_encrypted_parts_and_a_draft_with_its_key_are_told() -> None:
    assert [entry.name[-7:] for entry in parse_manifest(_with_audio(*PARTS)).files[:3]] == [
        *("001.p7m", "002.p7m", "003.p7m")
    ]
    audio = parse_manifest(_with_audio(DRAFT, KEY)).audio
    assert audio is not None and audio.encryption == "draft"


@pytest.mark.parametrize(
    "rows",
    [
        [PARTS[0], PARTS[2]],
        [PARTS[1], PARTS[0]],
        PARTS[1:],
        [PARTS[0], {**PARTS[1], "content_sha256": "cd" * 32}],
        [PARTS[0], {**PARTS[1], "encryption": "pgp"}],
        [{"name": f"{ID}.wav"}, {"name": f"x-{ID}.wav"}],
        [{**DRAFT, "content_sha256": "ab" * 32}],
        [{"name": f"{ID}.wav"}, KEY],
        [{**SEALED, "name": f"{ID}.wav.p7m"}, KEY],
        [DRAFT, {**KEY, "name": f"other-{ID}x.wav.key.p7m"}],
    ],
    ids=[
        *("a part is missing", "out of order", "without the first", "of different content", "of two kinds"),
        *("two in clear", "a draft that tells its content", "a key to nothing", "a key to an envelope"),
        "another recording's key",
    ],
)
def test_parts_that_do_not_belong_together_and_keys_to_nothing_are_refused(
    rows: list[dict[str, Any]],
) -> None:
    with pytest.raises(ManifestFormatError, match=r"files|content_sha256"):
        parse_manifest(_with_audio(*rows))
