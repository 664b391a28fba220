"""Retention of recordings whose manifest is encrypted: kept by class and day, erased like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from recorderd.archive.catalogue import Entry
from recorderd.archive.retention_tables import RECORDING_TERMS
from recorderd.archive.verdicts import Verdict
from recorderd.policy.retention import Erase, RetentionClass
from tests.support.golden_sealed import FIRST, GOLDEN_SEALED, SECOND
from tests.support.retention import AT_ONCE, Archive

SMALL = ("index.json", "index.json.p7s", "manifest.json.p7m", "manifest.json.p7s", "signer.pem")


def _archive(folder: Path, kept_by: RetentionClass) -> Archive:
    archive = Archive(folder, kept_by, take=False)
    for recording_id in (FIRST, SECOND):
        assert isinstance(archive.take(GOLDEN_SEALED / recording_id), Entry)
    assert archive.enrol() == 2
    return archive


def test_it_is_kept_by_its_class_from_the_end_of_the_next_day_on(tmp_path: Path) -> None:
    archive = _archive(tmp_path, AT_ONCE)
    assert archive.audit().troubles == []
    with archive.database.read() as connection:
        rows = connection.execute(select(RECORDING_TERMS).order_by(RECORDING_TERMS.c.row_id)).all()
    assert [(row.retention_class, row.has_audio, row.parties) for row in rows] == [
        ("default", True, ""),
        ("default", False, ""),
    ]
    assert {row.ended_utc_s for row in rows} == {1_795_564_800}  # 2026-11-25, it began on the 23rd


def test_what_is_erased_leaves_its_tombstone_and_its_place_in_the_chain(tmp_path: Path) -> None:
    archive = _archive(tmp_path, AT_ONCE)
    assert [row.refusal for row in archive.erase(FIRST, SECOND)] == ["", ""]
    assert archive.names(FIRST) == {f"{FIRST}.tombstone.json"}
    assert archive.audit().troubles == []


def test_where_only_audio_goes_the_signed_index_and_the_manifests_envelope_stay(tmp_path: Path) -> None:
    archive = _archive(tmp_path, replace(AT_ONCE, erase=Erase.AUDIO))
    assert [row.refusal for row in archive.erase(FIRST)] == [""]
    assert archive.names(FIRST) == {f"{FIRST}.{name}" for name in (*SMALL, "tombstone.json")}
    assert archive.audit().troubles == []


@pytest.mark.parametrize("erase", [Erase.ALL, Erase.AUDIO])
def test_another_index_than_was_archived_is_not_erased_by(tmp_path: Path, erase: Erase) -> None:
    archive = _archive(tmp_path, replace(AT_ONCE, erase=erase))
    path = archive.folder(FIRST) / f"{FIRST}.index.json"
    path.chmod(0o640)
    path.write_bytes(path.read_bytes().replace(b'"mandatory":false', b'"mandatory":true'))
    (outcome,) = archive.erase(FIRST)
    assert outcome.refusal == "has another manifest than was archived"
    assert archive.audit().verdict is Verdict.BAD


@pytest.mark.parametrize("change", ["retention_class = 'short'", "ended_utc_s = 0", "parties = '1001'"])
def test_who_keeps_it_otherwise_in_the_database_erases_nothing_and_is_found(
    tmp_path: Path, change: str
) -> None:
    archive = _archive(tmp_path, AT_ONCE)
    archive.execute(f"UPDATE recording_terms SET {change} WHERE row_id = 1")
    assert "other terms than were signed" in archive.erase(FIRST)[0].refusal
    assert archive.told() == {(FIRST, "terms")}


def test_one_of_the_last_day_of_all_stops_the_retention_of_no_other(tmp_path: Path) -> None:
    archive = Archive(tmp_path, AT_ONCE, take=False)
    for recording_id in (FIRST, SECOND):
        archive.take(GOLDEN_SEALED / recording_id)
    path = archive.folder(FIRST) / f"{FIRST}.index.json"
    path.chmod(0o640)
    path.write_bytes(path.read_bytes().replace(b'"started_on":"2026-11-23"', b'"started_on":"9999-12-31"'))
    assert archive.enrol() == 2
    assert "is of no class" in archive.erase(FIRST)[0].refusal
    assert archive.erase(SECOND)[0].refusal == ""


@pytest.mark.parametrize(
    ("from_time", "to_time", "is_held"),
    [
        ("2026-11-23T06:30:00Z", "2026-11-23T07:00:00Z", True),  # within the day of which alone is known
        ("2026-11-23T23:59:59Z", "", True),
        ("2026-11-24", "", False),
        ("2026-11-24T00:00:00Z", "", False),
        ("", "2026-11-22", False),
    ],
)
def test_a_hold_from_a_time_on_holds_what_may_have_begun_later_that_day(
    tmp_path: Path, from_time: str, to_time: str, is_held: bool
) -> None:
    archive = _archive(tmp_path, AT_ONCE)
    number = archive.hold(from_time=from_time, to_time=to_time)
    refusal = f"is on legal hold {number}" if is_held else ""
    assert [row.refusal for row in archive.erase(FIRST)] == [refusal]
