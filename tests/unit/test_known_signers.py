"""A certificate that was seen before: the same verdicts, for less of the time."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recorderd.core.errors import CertificateUnfit, EvidenceError, SignatureInvalid, SignerUnknown
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import SignerIdentity, TrustStore, verify_detached
from tests.support.bundles import make_signer


def test_a_certificate_that_was_seen_before_is_judged_anew_and_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = make_signer(tmp_path, "known")
    trust = TrustStore.from_pem(signer.certificate_pem)
    digest = hashlib.sha256(b"x").hexdigest()

    def verify(der: bytes, who: TrustStore = trust, sha256_hex: str = digest) -> SignerIdentity:
        return verify_detached(der, sha256_hex=sha256_hex, trust=who, subject="x")

    now_utc_s = int(time.time())
    der = signer.sign_digest(digest, signing_time_utc_s=now_utc_s)
    first = verify(der)
    later = verify(signer.sign_digest(digest, signing_time_utc_s=now_utc_s + 5))
    assert later == replace(first, signing_time_utc_s=now_utc_s + 5)
    with pytest.raises(SignerUnknown) as caught:
        verify(der, TrustStore([]))
    assert caught.value.fields["signer"] == first
    monkeypatch.setattr(Signer, "check_valid", lambda *_, **__: None)  # a recorder would not sign then
    with pytest.raises(CertificateUnfit, match="not valid when it signed"):
        verify(signer.sign_digest(digest, signing_time_utc_s=now_utc_s - 86_400 * 400))
    with pytest.raises(SignatureInvalid, match="not what was signed"):
        verify(der, sha256_hex="ab" * 32)
    for at in range(len(der)):
        with pytest.raises(EvidenceError):
            verify(der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :])
    began_ns = time.process_time_ns()
    for _ in range(100):
        assert verify(der) == first
    assert (time.process_time_ns() - began_ns) / 100 < 5_000_000  # of a core; without it 30 ms on slow ones
