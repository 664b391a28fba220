"""Every octet of every file of a recording: flipped it is detected, or named here as what nobody needs."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256

import pytest

from recorderd.archive import judgement
from recorderd.archive.heads import judge_head
from recorderd.archive.judgement import judge
from recorderd.archive.lineage import Break
from recorderd.archive.verdicts import Bundle, Check, Verdict
from recorderd.archive.verification import read_bundle
from recorderd.evidence.verify import TrustStore, verify_detached
from tests.support.golden import FIRST, GOLDEN, SECOND, THIRD

TRUST = TrustStore.from_files([GOLDEN / "ca.pem"])


@pytest.fixture(autouse=True)
def _each_signature_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verification is a function of its arguments: of what a flip leaves as it was, the answer is known."""
    known = functools.lru_cache(maxsize=16)(verify_detached)
    monkeypatch.setattr(judgement, "verify_detached", known)
    read = functools.lru_cache(maxsize=16)(judgement.parse_manifest)
    monkeypatch.setattr(judgement, "parse_manifest", read)


def _with(bundle: Bundle, name: str, octets: bytes) -> Bundle:
    """Give the bundle that reading the folder would give if a file held these octets."""
    changed = replace(
        bundle,
        sha256s={**bundle.sha256s, name: sha256(octets).hexdigest()},
        sizes_bytes={**bundle.sizes_bytes, name: len(octets)},
    )
    if name.endswith(".wav"):
        return replace(changed, audio_head=octets)
    return replace(changed, contents={**bundle.contents, name: octets})


def _flips(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Flip one bit of each octet."""
    for position in range(len(octets)):
        flipped = octets[position] ^ 1 << position % 8
        yield position, octets[:position] + bytes([flipped]) + octets[position + 1 :]


def _unnoticed(bundle: Bundle, name: str, octets: bytes) -> set[int]:
    return {at for at, flipped in _flips(octets) if judge(_with(bundle, name, flipped), TRUST).good}


def _files(recording_id: str) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in (GOLDEN / recording_id).iterdir()}


@pytest.mark.parametrize("recording_id", [FIRST, SECOND])
def test_every_octet_of_every_file_of_a_recording_is_watched(recording_id: str) -> None:
    bundle, files = read_bundle(GOLDEN / recording_id), _files(recording_id)
    assert judge(bundle, TRUST).good
    assert set(files) == set(bundle.sha256s)
    unnoticed = {name: _unnoticed(bundle, name, octets) for name, octets in files.items()}
    nobody_needs = unnoticed.pop(f"{recording_id}.signer.pem")
    assert unnoticed == {name: set() for name in unnoticed}
    # Of the certificate beside the recording, which is a copy of the one inside the signatures, only what
    # makes no other certificate of it may change: where its lines end.
    pem = files[f"{recording_id}.signer.pem"]
    assert {pem[at : at + 1] for at in nobody_needs} <= {b"\n"}


def test_every_octet_of_a_head_is_watched() -> None:
    for path in sorted((GOLDEN / "heads").iterdir()):
        octets = path.read_bytes()
        assert not isinstance(judge_head(octets, TRUST, name=path.name), Break)
        held = {at for at, new in _flips(octets) if not isinstance(judge_head(new, TRUST, name="x"), Break)}
        assert held == set()


@pytest.mark.parametrize("ending", ["wav", "wav.p7s", "manifest.json", "manifest.json.p7s", "offer-1.sip"])
def test_no_file_can_be_cut_or_made_longer(ending: str) -> None:
    bundle, name = read_bundle(GOLDEN / FIRST), f"{FIRST}.{ending}"
    octets = _files(FIRST)[name]
    lengths = {0, 1, len(octets) // 2, len(octets) - 4, len(octets) - 1}
    for length in lengths:
        assert not judge(_with(bundle, name, octets[:length]), TRUST).good, length
    assert not judge(_with(bundle, name, octets + b"\0"), TRUST).good


@pytest.mark.parametrize("ending", ["wav", "wav.p7s", "manifest.json", "manifest.json.p7s", "offer-1.sip"])
def test_no_file_can_be_exchanged_for_another_recordings(ending: str) -> None:
    bundle = read_bundle(GOLDEN / FIRST)
    verdict = judge(_with(bundle, f"{FIRST}.{ending}", _files(THIRD)[f"{THIRD}.{ending}"]), TRUST)
    same = ending == "offer-1.sip"  # both keep the very same offer
    assert verdict.good is same


@pytest.mark.parametrize("ending", ["wav", "manifest.json", "manifest.json.p7s", "offer-1.sip"])
def test_what_cannot_be_read_cannot_be_told(ending: str) -> None:
    bundle, name = read_bundle(GOLDEN / FIRST), f"{FIRST}.{ending}"
    without = replace(
        bundle,
        sha256s={known: digest for known, digest in bundle.sha256s.items() if known != name},
        contents={known: octets for known, octets in bundle.contents.items() if known != name},
        unreadable={name: "Input/output error"},
    )
    verdict = judge(without, TRUST)
    assert verdict.verdict is Verdict.UNKNOWN
    assert [str(row.reason) for row in verdict.findings] == [f"{name} cannot be read: Input/output error"]


def test_each_check_is_told_with_its_verdict() -> None:
    checks = judge(read_bundle(GOLDEN / FIRST), TRUST).by_check()
    sealed = {Check.INDEX, Check.ENCRYPTED}  # of recordings whose manifest is encrypted
    assert set(checks) == set(Check) - {Check.RENDERING, Check.TIMESTAMP, Check.CHAIN} - sealed
    assert set(checks.values()) == {Verdict.GOOD}
    nobody = judge(read_bundle(GOLDEN / FIRST), TrustStore([]))
    assert nobody.verdict is Verdict.UNKNOWN
    assert {check for check, verdict in nobody.by_check().items() if verdict is not Verdict.GOOD} == {
        Check.SIGNER
    }
