"""Tombstones and retention terms: what is written is read; any octets are read, or raise the one error."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.core.errors import TermsFormatError, TombstoneFormatError
from recorderd.policy.retention import Erase, RetentionClass
from recorderd.wire.retention_terms import TermsBody, encode_terms, parse_terms
from recorderd.wire.tombstone import (
    Cause,
    KeptAudio,
    KeptFile,
    Kind,
    Tombstone,
    digest_of_files,
    encode_tombstone,
    parse_tombstone,
)

ID = "20261123T062231-000000000001"
SHA256S = st.text("0123456789abcdef", min_size=64, max_size=64)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
COUNTS = st.integers(0, 2**63 - 1)
KEPT = st.builds(KeptFile, name=st.just(f"{ID}.manifest.json"), size_bytes=COUNTS, sha256=SHA256S)
TOMBSTONES = st.builds(
    Tombstone,
    number=st.integers(1, 2**63 - 1),
    previous_tombstone_sha256=SHA256S,
    archive_id=st.just("arc-1"),
    row=st.integers(1, 2**63 - 1),
    recording_id=st.just(ID),
    recorder_id=st.just("rec-1"),
    sequence=st.integers(1, 2**63 - 1),
    previous_manifest_sha256=SHA256S,
    manifest_sha256=SHA256S,
    files_sha256=SHA256S,
    outcome=st.sampled_from(("recorded", "refused_capacity")),
    stands_for=TEXTS,
    started_at=st.just("2026-11-23T06:30:56.125Z"),
    ended_utc_s=COUNTS,
    duration_us=COUNTS,
    sample_rate_hz=st.integers(1, 1_000_000),
    channels=st.integers(0, 64),
    archived_at=st.just("2026-11-23T06:40:00.000Z"),
    retention_class=st.just("default"),
    terms=COUNTS,
    kind=st.just(Kind.ERASED),
    cause=st.sampled_from(Cause),
    by=TEXTS,
    reason=TEXTS,
    at=st.just("2027-11-23T06:40:00.000Z"),
    kept=st.lists(KEPT, max_size=1).map(tuple),
)
CLASSES = st.builds(
    RetentionClass,
    name=st.sampled_from(("default", "mifid")),
    minimum_days=st.integers(0, 36_525),
    maximum_days=st.integers(0, 36_525),
    erase=st.sampled_from(Erase),
    right_to_erasure=st.booleans(),
)
TERMS = st.builds(
    TermsBody,
    number=st.integers(1, 2**63 - 1),
    previous_terms_sha256=SHA256S,
    archive_id=st.just("arc-1"),
    stated_at=st.just("2026-11-23T06:30:56.125Z"),
    by=TEXTS,
    from_row=st.integers(1, 2**63 - 1),
    worm=st.booleans(),
    classes=st.lists(CLASSES, max_size=3).map(tuple),
)


@given(TOMBSTONES, st.binary(max_size=100))
def test_a_tombstone_is_read_as_it_was_written(body: Tombstone, signature: bytes) -> None:
    read = parse_tombstone(encode_tombstone(body, signature))
    assert (read.body, read.signed.signature) == (body, signature)
    assert read.body.sha256 == body.sha256


@given(TERMS, st.binary(max_size=100))
def test_terms_are_read_as_they_were_written(body: TermsBody, signature: bytes) -> None:
    read = parse_terms(encode_terms(body, signature))
    assert (read.body, read.signed.signature) == (body, signature)


@given(TOMBSTONES, st.data())
def test_a_tombstone_with_other_octets_is_refused_or_says_something_else(
    body: Tombstone, data: st.DataObject
) -> None:
    raw = bytearray(encode_tombstone(body, b"signed"))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with suppress(TombstoneFormatError):
        read = parse_tombstone(bytes(raw))
        assert (read.body, read.signed.signature) != (body, b"signed")


@given(
    st.binary(max_size=200) | st.sampled_from((b'{"body":{},"signature":""}', b"[]", b'{"body":"\\ud800"}'))
)
def test_any_octets_parse_or_raise_the_one_error(raw: bytes) -> None:
    with suppress(TombstoneFormatError):
        parse_tombstone(raw)
    with suppress(TermsFormatError):
        parse_terms(raw)


@settings(max_examples=20)
@given(TOMBSTONES)
def test_only_an_anonymised_recording_states_audio_and_its_tombstone_keeps_nothing_else(
    body: Tombstone,
) -> None:
    audio = KeptAudio(
        name=f"{ID}.wav", former_sha256="0" * 64, leaf_samples=8000, leaves=1, root_sha256="1" * 64
    )
    file = KeptFile(name=audio.name, size_bytes=1, sha256="2" * 64)
    good = replace(body, kind=Kind.ANONYMISED, audio=audio, kept=(file,))
    assert parse_tombstone(encode_tombstone(good, b"")).body == good
    for bad in (
        replace(good, audio=None),
        replace(good, kind=Kind.ERASED),
        replace(good, kept=()),
        replace(good, kept=(replace(file, name="../x"),)),
        replace(good, kept=(file, file)),
    ):
        with pytest.raises(TombstoneFormatError):
            parse_tombstone(encode_tombstone(bad, b""))


def test_the_digest_of_files_tells_names_and_digests_whatever_their_order() -> None:
    assert digest_of_files({"a": "1", "b": "2"}) == digest_of_files({"b": "2", "a": "1"})
    assert digest_of_files({"a": "1"}) != digest_of_files({"a": "2"})
