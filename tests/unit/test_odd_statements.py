"""A recorder that states odd numbers and times of its recordings stops nobody: they are kept, or refused."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recorderd.archive.catalogue import Entry
from recorderd.archive.intake import BundleRefused
from recorderd.archive.store import Key
from recorderd.archive.subject_access import found_of
from recorderd.core.errors import RecorderError
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.wire.chain_head import HeadBody, SignedHead, encode_head, encode_head_body
from recorderd.wire.manifest import GENESIS_SHA256
from tests.support.bundles import make_signer
from tests.support.odd_recorder import OddRecorder
from tests.support.retention import AT_ONCE, Archive

LARGEST = 2**63 - 1


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return make_signer(tmp_path_factory.mktemp("keys"), "recorder")


@pytest.fixture
def archive(tmp_path: Path, signer: Signer) -> Archive:
    archive = Archive(tmp_path / "house", AT_ONCE, take=False)
    archive.trusts["rec-1"] = TrustStore.from_pem(signer.certificate_pem)
    return archive


@pytest.fixture
def recorder(tmp_path: Path, signer: Signer) -> OddRecorder:
    return OddRecorder(tmp_path, signer)


def take(archive: Archive, *keys: Key) -> list[Entry | BundleRefused | OSError | RecorderError]:
    return archive.custody.take_in_all([(key, archive.custody.verify(key)) for key in keys])


@pytest.mark.parametrize(
    "said",
    [
        {"sequence": LARGEST, "previous_manifest_sha256": "ab" * 32},
        {"sequence": LARGEST - 1, "previous_manifest_sha256": "ab" * 32},
        {"duration_samples": LARGEST, "sample_rate_hz": 1},
        {"ended_at": "then"},
    ],
    ids=str,
)
def test_what_is_odd_is_kept_beside_what_comes_with_it(
    archive: Archive, recorder: OddRecorder, said: dict[str, Any]
) -> None:
    outcomes = take(archive, recorder.upload(archive), recorder.upload(archive, **said))
    assert [type(outcome) for outcome in outcomes] == [Entry, Entry]


@pytest.mark.parametrize(
    "started_at",
    [
        "20261123T063056.125Z",
        "2026-W48-1T06:30:56.125Z",
        "2026-11-23T06:30:56.125",
        "2026-11-23T06:30:56.125+01:00",
        "2026-11-23\x0006:30:56.125Z",
        "2026-02-30T06:30:56.125Z",
        "0001-01-01T00:00:00.000Z",
        "9999-12-31T23:59:59.999Z",
        "../../../../etc/x",
    ],
)
def test_a_beginning_that_is_no_time_in_utc_is_refused_alone(
    archive: Archive, recorder: OddRecorder, started_at: str
) -> None:
    odd, good = recorder.upload(archive, started_at=started_at), recorder.upload(archive)
    refused, taken = take(archive, odd, good)
    assert isinstance(refused, BundleRefused)
    assert (refused.code, refused.retryable) == ("manifest", False)
    assert isinstance(taken, Entry)


def test_what_ends_at_no_time_is_not_erased_and_stops_no_erasure(
    archive: Archive, recorder: OddRecorder
) -> None:
    odd, good = recorder.upload(archive, ended_at="then"), recorder.upload(archive)
    take(archive, odd, good)
    archive.enrol()
    outcomes = archive.erase(odd.recording_id, good.recording_id)
    assert {row.recording_id: row.refusal for row in outcomes} == {
        odd.recording_id: "is of no class: its manifest could not be read yet",
        good.recording_id: "",
    }


def test_what_ends_where_no_calendar_goes_on_is_never_due_and_stops_no_answer_to_a_subject(
    archive: Archive, recorder: OddRecorder
) -> None:
    keys = [recorder.upload(archive, ended_at="9999-12-31T23:59:59.999Z"), recorder.upload(archive)]
    take(archive, *keys)
    archive.state(replace(AT_ONCE, maximum_days=1))
    archive.enrol()
    with archive.database.read() as connection:
        row_ids = [archive.entry(key.recording_id).row_id for key in keys]
        kept = list(archive.book.kept(connection, row_ids))
    found = found_of(
        [(row, archive.entry(row.facts.recording_id)) for row in kept],
        database=archive.database,
        book=archive.book,
        holds=archive.holds,
        now_utc="2026-11-29T00:00:00.000Z",
    )
    assert [bool(row.due) for row in found] == [False, True]


def test_the_head_with_the_largest_number_is_kept(archive: Archive, signer: Signer) -> None:
    body = HeadBody(
        recorder_id="rec-1",
        number=LARGEST,
        previous_head_sha256=GENESIS_SHA256,
        sequence=LARGEST,
        manifest_sha256=sha256_bytes(b""),
        count=1,
        cause="hour",
        stated_at="2026-11-23T06:30:56.125Z",
    )
    signature = signer.sign_bytes(encode_head_body(body), signing_time_utc_s=int(time.time()))
    document = encode_head(SignedHead(body=body, signature=signature))
    assert archive.custody.keep_head("rec-1", document) == ""
