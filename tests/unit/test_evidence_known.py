"""A signer whose signature held before: what is read the short way is judged as it is the long way."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from recorderd.core.errors import EvidenceError, SignatureInvalid, SignerUnknown
from recorderd.evidence import verify
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore, verify_detached
from tests.support.bundles import make_signer

NOW_UTC_S = int(time.time()) + 24 * 3600  # within the certificates, however late after this they are made
FIRST, SECOND = sha256_bytes(b"first"), sha256_bytes(b"second")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return make_signer(tmp_path, "recorder")


@pytest.fixture
def trust(tmp_path: Path, signer: Signer) -> TrustStore:
    """Give a trust that has seen one good signature of the signer's."""
    store = TrustStore.from_files([tmp_path / "recorder.cert.pem"])
    judged(signer.sign_digest(FIRST, signing_time_utc_s=NOW_UTC_S), FIRST, store)
    return store


def judged(signature: bytes, sha256_hex: str, trust: TrustStore) -> verify.SignerIdentity:
    return verify_detached(signature, sha256_hex=sha256_hex, trust=trust, subject="x")


def test_the_next_signature_is_read_without_the_long_way(
    signer: Signer, trust: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = signer.sign_digest(SECOND, signing_time_utc_s=NOW_UTC_S + 7)
    long_way = judged(signature, SECOND, TrustStore(trust.certificates))
    monkeypatch.delattr(verify, "_open")
    assert judged(signature, SECOND, trust) == long_way
    assert long_way.signing_time_utc_s == NOW_UTC_S + 7


def test_no_octet_of_it_can_be_changed(signer: Signer, trust: TrustStore) -> None:
    signature = bytearray(signer.sign_digest(SECOND, signing_time_utc_s=NOW_UTC_S))
    for at in range(len(signature)):
        signature[at] ^= 1
        with pytest.raises(EvidenceError):
            judged(bytes(signature), SECOND, trust)
        signature[at] ^= 1
    judged(bytes(signature), SECOND, trust)
    for wrong in (bytes(signature) + b"\0", bytes(signature[:-1]), bytes(signature[1:])):
        with pytest.raises(EvidenceError):
            judged(wrong, SECOND, trust)


def test_it_is_not_over_other_content(signer: Signer, trust: TrustStore) -> None:
    with pytest.raises(SignatureInvalid, match="not what was signed"):
        judged(signer.sign_digest(FIRST, signing_time_utc_s=NOW_UTC_S), SECOND, trust)


def test_a_stranger_is_no_better_known_for_it(tmp_path: Path, trust: TrustStore) -> None:
    stranger = make_signer(tmp_path, "stranger")
    signature = stranger.sign_digest(SECOND, signing_time_utc_s=NOW_UTC_S)
    for _ in range(2):
        with pytest.raises(SignerUnknown):
            judged(signature, SECOND, trust)
