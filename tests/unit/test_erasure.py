"""Erasing and making anonymous: what is left, what it proves, who is refused."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from recorderd.archive.anonymising import stage_audio
from recorderd.archive.erasure import Wish
from recorderd.archive.removal import staged_audio
from recorderd.archive.verdicts import Verdict
from recorderd.core.errors import EvidenceError, HoldRefused, StoreBroken
from recorderd.policy.retention import Erase, RetentionClass
from recorderd.wire.tombstone import Cause, Kind, parse_tombstone
from tests.support.golden import FIRST, GOLDEN, RATE_HZ, RECORDER, SAMPLES, SECOND, THIRD
from tests.support.retention import AT_ONCE, WHO, Archive

FOREVER = RetentionClass(name="default", minimum_days=30_000, maximum_days=36_000)


def refused(archive: Archive, *names: str, cause: Cause = Cause.REQUEST) -> str:
    """Try to erase; give why nothing was."""
    before = {name: archive.names(name) for name in names}
    reasons = [row.refusal for row in archive.erase(*names, cause=cause)]
    assert all(reasons)
    assert {name: archive.names(name) for name in names} == before
    assert archive.audit().verdict is Verdict.GOOD
    assert {row.outcome for row in archive.audit_log.rows(limit=len(names))} == {"refused"}
    return reasons[0]


def test_what_is_erased_leaves_its_place_in_the_chain_and_nobodys_number(tmp_path: Path) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    manifest_sha256 = archive.entry(FIRST).manifest_sha256
    assert [row.refusal for row in archive.erase(FIRST, SECOND)] == ["", ""]
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    raw = (archive.folder(FIRST) / f"{FIRST}.tombstone.json").read_bytes()
    assert b"1001" not in raw
    assert b"1002" not in raw
    body = parse_tombstone(raw).body
    assert (body.manifest_sha256, body.sequence, body.reason) == (manifest_sha256, 1, "asked for")
    row = archive.entry(FIRST)
    assert (row.caller, row.callee, row.call_id, row.receipt, row.state) == ("", "", "", b"", "erased")
    audit = archive.audit()
    assert (audit.troubles, audit.recordings) == ([], 3)


def test_a_tombstone_is_checked_by_openssl_alone(tmp_path: Path) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    archive.erase(FIRST)
    document = json.loads((archive.folder(FIRST) / f"{FIRST}.tombstone.json").read_text())
    body = json.dumps(document["body"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (tmp_path / "body").write_text(body)
    script = (
        f"printf %s '{document['signature']}' | openssl base64 -d -A > sig && "
        "openssl cms -verify -binary -cades -inform DER -in sig -content body "
        "-CAfile archive.cert.pem -purpose any -out /dev/null"
    )
    assert subprocess.run(["sh", "-c", script], cwd=tmp_path, check=False).returncode == 0
    (tmp_path / "body").write_text(body.replace("asked for", "asked foo"))
    assert subprocess.run(["sh", "-c", script], cwd=tmp_path, check=False).returncode != 0


def test_where_only_audio_goes_the_signed_manifest_stays(tmp_path: Path) -> None:
    archive = Archive(tmp_path, replace(AT_ONCE, erase=Erase.AUDIO))
    outcomes = archive.erase(FIRST, THIRD)
    assert not any(row.refusal for row in outcomes)
    stay = {
        f"{FIRST}.{end}" for end in ("manifest.json", "manifest.json.p7s", "signer.pem", "tombstone.json")
    }
    assert archive.names(FIRST) == stay
    assert archive.entry(FIRST).caller == "1001"
    assert archive.audit().troubles == []


def test_a_recording_on_hold_is_refused_whoever_asks_and_goes_when_it_is_released(tmp_path: Path) -> None:
    archive = Archive(tmp_path, replace(AT_ONCE, right_to_erasure=True))
    by_id, by_number = archive.hold(recording_id=FIRST), archive.hold(number="1002")
    for cause in Cause:
        assert "hold" in refused(archive, FIRST, SECOND, THIRD, cause=cause) or cause is Cause.DUE
    archive.release(by_number)
    assert "hold 1" in refused(archive, FIRST)
    assert archive.erase(SECOND)[0].refusal == ""
    archive.release(by_id)
    assert archive.erase(FIRST)[0].refusal == ""
    assert archive.audit().troubles == []
    with pytest.raises(HoldRefused, match="erased already"):
        archive.hold(recording_id=FIRST)


def test_a_hold_from_a_second_on_holds_what_begins_within_it_and_one_from_no_time_is_refused(
    tmp_path: Path,
) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    second = archive.entry(FIRST).started_at.partition(".")[0]
    with pytest.raises(HoldRefused, match="is no day"):
        archive.hold(from_time="31.12.2025")
    archive.hold(from_time=f"{second}Z")
    assert "hold 1" in refused(archive, FIRST, SECOND, THIRD)


@pytest.mark.parametrize("until", ["2999-12-31 12:00", "2999-12-31T18:00:00-06:00", "29991231", "2999-W01-1"])
def test_a_hold_whose_end_would_not_come_when_it_is_meant_is_refused(tmp_path: Path, until: str) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    with pytest.raises(HoldRefused, match="no day"):
        archive.hold(number="1001", until=until)
    archive.hold(number="1001", until="2999-12-31T18:00:00Z")
    assert "hold 1" in refused(archive, FIRST)


def test_before_its_minimum_and_under_worm_nobody_erases(tmp_path: Path) -> None:
    archive = Archive(tmp_path, replace(FOREVER, right_to_erasure=True))
    assert "at least 30000 days" in refused(archive, FIRST)
    archive.state(replace(FOREVER, right_to_erasure=True), worm=True)
    archive.state(AT_ONCE, worm=False)  # whoever holds the configuration tries to shorten
    for cause in Cause:
        assert refused(archive, FIRST, SECOND, THIRD, cause=cause)
    assert "WORM" in refused(archive, FIRST, cause=Cause.RIGHT)


def test_the_right_to_erasure_goes_before_the_minimum_where_the_class_knows_it(tmp_path: Path) -> None:
    archive = Archive(tmp_path, FOREVER)
    assert "does not let the right" in refused(archive, FIRST, cause=Cause.RIGHT)
    archive.state(replace(FOREVER, right_to_erasure=True))
    assert archive.erase(FIRST, cause=Cause.RIGHT)[0].refusal == ""
    assert archive.audit().troubles == []


def test_what_is_not_due_or_of_an_unknown_class_is_not_swept(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert refused(archive, FIRST, cause=Cause.DUE) == "is not due: keep"


def test_who_gives_a_recording_another_class_or_end_in_the_database_erases_nothing_and_is_found(
    tmp_path: Path,
) -> None:
    archive = Archive(tmp_path, FOREVER, replace(AT_ONCE, name="short"))
    for change in ("retention_class = 'short'", "retention_class = 'default', ended_utc_s = 0"):
        archive.execute(f"UPDATE recording_terms SET {change} WHERE row_id = 1")
        for cause in Cause:
            assert "other terms than were signed" in archive.erase(FIRST, cause=cause)[0].refusal
        assert archive.told() == {(FIRST, "terms")}
    assert f"{FIRST}.wav" in archive.names(FIRST)


@pytest.mark.parametrize(
    ("change", "held", "found"),
    [
        ("recording_terms SET parties = '4711'", "number", "terms"),
        ("recordings SET started_at = '2020-11-23T06:22:31.000Z'", "from_time", "row"),
    ],
)
def test_who_takes_a_recording_out_of_a_hold_in_the_database_erases_nothing_and_is_found(
    tmp_path: Path, change: str, held: str, found: str
) -> None:
    archive = Archive(tmp_path, replace(AT_ONCE, right_to_erasure=True))
    archive.hold(**{held: {"number": "1001", "from_time": "2026-11-23"}[held]})
    archive.execute(f"UPDATE {change} WHERE row_id = 1")
    for cause in Cause:
        assert archive.erase(FIRST, cause=cause)[0].refusal
    assert archive.told() == {(FIRST, found)}
    assert f"{FIRST}.wav" in archive.names(FIRST)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("DELETE FROM holds", "was added and is not there"),
        ("UPDATE holds SET released_at = '2026-11-24T00:00:00.000Z'", "in the other not"),
    ],
)
def test_a_hold_that_was_taken_away_by_hand_is_found(tmp_path: Path, damage: str, reason: str) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    archive.hold(recording_id=FIRST)
    archive.execute(damage)
    assert archive.told() == {("hold 1", "hold")}
    assert reason in archive.audit().troubles[0].reason


def test_an_anonymous_recording_has_every_sample_and_no_number(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    before, _ = soundfile.read(archive.folder(FIRST) / f"{FIRST}.wav", dtype="int16", always_2d=True)
    assert archive.anonymise(FIRST).refusal == ""
    assert archive.names(FIRST) == {f"{FIRST}.wav", f"{FIRST}.tombstone.json"}
    after, rate_hz = soundfile.read(archive.folder(FIRST) / f"{FIRST}.wav", dtype="int16", always_2d=True)
    assert (before == after).all()
    assert (len(after), rate_hz) == (SAMPLES, RATE_HZ)
    told = (archive.folder(FIRST) / f"{FIRST}.tombstone.json").read_bytes()
    assert b"1001" not in told + (archive.folder(FIRST) / f"{FIRST}.wav").read_bytes()[:4096]
    assert (archive.entry(FIRST).caller, archive.entry(FIRST).state) == ("", "anonymised")
    assert archive.audit().troubles == []
    assert archive.erase(FIRST)[0].refusal == ""
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert archive.audit().troubles == []


def test_an_anonymous_recording_with_other_samples_is_found(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.anonymise(FIRST)
    path = archive.folder(FIRST) / f"{FIRST}.wav"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    assert archive.told() == {(FIRST, "tombstone")}


@pytest.mark.parametrize(
    ("damage", "subject", "code"),
    [
        ("DELETE FROM tombstones WHERE number = 1", "tombstone 2", "tombstone"),
        ("UPDATE recordings SET caller = '1009' WHERE row_id = 1", FIRST, "tombstone"),
        ("UPDATE recordings SET state = 'archived' WHERE row_id = 1", FIRST, "tombstone"),
        ("UPDATE tombstones SET document = replace(document, 'asked', 'askes')", "tombstone 1", "tombstone"),
        ("UPDATE retention_terms SET document = replace(document, ':0', ':1')", "retention terms 1", "terms"),
        ("DELETE FROM retention_terms", FIRST, "terms"),
    ],
)
def test_what_was_tampered_with_is_named(tmp_path: Path, damage: str, subject: str, code: str) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    archive.erase(FIRST, SECOND)
    damage = damage.replace("replace(document, ", "CAST(replace(CAST(document AS TEXT), ")
    archive.execute(damage.replace("')", "') AS BLOB)") if "CAST" in damage else damage)
    assert (subject, code) in archive.told()
    assert archive.audit().verdict is Verdict.BAD


def test_a_tombstone_that_is_missing_in_the_store_is_named(tmp_path: Path) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    archive.erase(FIRST)
    (archive.folder(FIRST) / f"{FIRST}.tombstone.json").unlink()
    assert archive.told() == {(FIRST, "tombstone")}


def test_nothing_is_erased_by_terms_that_were_not_signed_by_us(tmp_path: Path) -> None:
    archive = Archive(tmp_path, FOREVER)
    statement = (
        "CAST(replace(CAST(document AS TEXT), '\"minimum_days\":30000', '\"minimum_days\":0') AS BLOB)"
    )
    archive.execute(f"UPDATE retention_terms SET document = {statement}")
    with pytest.raises(EvidenceError):
        archive.erase(FIRST)
    assert f"{FIRST}.wav" in archive.names(FIRST)


def test_who_still_has_an_erased_recording_gets_a_receipt_for_it_and_for_nothing_else(
    tmp_path: Path,
) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    archive.erase(FIRST)
    sha256s = _digests(GOLDEN / FIRST)
    receipt = archive.custody.receipt_of(archive.entry(FIRST), sha256s)
    assert json.loads(receipt)["body"]["files"] == [
        {"name": name, "sha256": digest} for name, digest in sorted(sha256s.items())
    ]
    assert archive.custody.receipt_of(archive.entry(FIRST), sha256s | {"x": "0" * 64}) == b""


def _digests(folder: Path) -> dict[str, str]:
    from recorderd.evidence.digest import sha256_file

    return {path.name: sha256_file(path)[0] for path in folder.iterdir()}


def test_a_cut_before_the_files_are_gone_is_made_good_by_the_next_start(tmp_path: Path) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    archive.cut_erasure(FIRST)
    assert f"{FIRST}.wav" in archive.names(FIRST)
    assert archive.audit().troubles == []  # what is under way is no fault
    assert archive.eraser.finish() == 1
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert archive.audit().troubles == []
    assert archive.eraser.finish() == 0


def test_audio_that_is_to_stay_and_is_missing_stops_the_removal(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    entry = archive.entry(FIRST)
    staged = stage_audio(archive.store, entry)
    staged_audio(archive.root, RECORDER, FIRST).unlink()
    wish = Wish(kind=Kind.ANONYMISED, cause=Cause.RIGHT, who=WHO, reason="opposed")
    with pytest.raises(StoreBroken):
        archive.eraser.dispose([entry.row_id], wish, audio={entry.row_id: staged})
    assert archive.names(FIRST) == {path.name for path in (GOLDEN / FIRST).iterdir()}


def test_what_could_not_be_read_again_is_not_signed_and_the_others_are_done(tmp_path: Path) -> None:
    archive = Archive(tmp_path, AT_ONCE)
    rows = [archive.entry(name).row_id for name in (FIRST, SECOND)]
    wish = Wish(kind=Kind.ERASED, cause=Cause.REQUEST, who=WHO, reason="x" * 501)
    assert all("cannot be told of" in row.refusal for row in archive.eraser.dispose(rows, wish))
    archive.execute("UPDATE recordings SET archived_at = '' WHERE row_id = 1")
    wish = replace(wish, reason="asked for")
    told = [bool(row.refusal) for row in archive.eraser.dispose(rows, wish)]
    assert told == [True, False]
    assert archive.names(SECOND) == {f"{SECOND}.tombstone.json"}
    assert f"{FIRST}.wav" in archive.names(FIRST)


def test_what_root_has_written_is_the_archives_own(tmp_path: Path) -> None:
    """Commands run as root, the daemon under a user of its own."""
    owner = 65_534 if os.geteuid() == 0 else os.geteuid()  # who is not root can only be himself
    archive = Archive(tmp_path, AT_ONCE)
    for path in (archive.root, *archive.root.rglob("*")):
        os.chown(path, owner, -1)
    archive.anonymise(FIRST)
    archive.erase(SECOND)
    made = [path for name in (FIRST, SECOND) for path in archive.folder(name).iterdir()]
    assert {path.stat().st_uid for path in [*made, archive.root / "anonymous"]} == {owner}
