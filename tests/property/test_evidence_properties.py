"""No input gives a verdict it should not, and none gives anything but a verdict."""

from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.core.errors import EvidenceError
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore, verify_detached
from tests.support.signing_material import NOW_UTC_S, make_certificate, p256, pem_of

CONTENT = b"evidence"
KEY, ROOT_KEY, MIDDLE_KEY = p256(), p256(), p256()
ALONE = make_certificate("alone", KEY)
ROOT = make_certificate("root", ROOT_KEY, ca=True)
MIDDLE = make_certificate("middle", MIDDLE_KEY, issuer=(ROOT, ROOT_KEY), ca=True)
while MIDDLE.signature[-1] & 1:  # an even one stays the same when its last bit is declared unused
    MIDDLE = make_certificate("middle", MIDDLE_KEY, issuer=(ROOT, ROOT_KEY), ca=True)
LEAF = make_certificate("leaf", KEY, issuer=(MIDDLE, MIDDLE_KEY))


def _sign(*chain: x509.Certificate) -> bytes:
    return Signer(key=KEY, certificate_pem=pem_of(*chain)).sign_bytes(CONTENT, signing_time_utc_s=NOW_UTC_S)


GOOD = _sign(ALONE)
GOOD_CHAIN = _sign(LEAF, MIDDLE)


def _holds(signature: bytes, trusted: x509.Certificate, content: bytes = CONTENT) -> bool:
    try:
        verify_detached(signature, sha256_hex=sha256_bytes(content), trust=TrustStore([trusted]), subject="x")
    except EvidenceError:
        return False
    return True


@given(st.binary(max_size=2000))
def test_any_octets_as_signature_are_refused_by_an_evidence_error(signature: bytes) -> None:
    with pytest.raises(EvidenceError):
        verify_detached(signature, sha256_hex="00" * 32, trust=TrustStore([ALONE]), subject="x")


@given(st.binary(max_size=3000))
def test_any_octets_as_trusted_certificates_give_a_store_or_an_evidence_error(pem: bytes) -> None:
    with suppress(EvidenceError):
        TrustStore.from_pem(pem)


@given(st.binary(max_size=300))
def test_any_octets_inside_pem_armour_give_a_store_or_an_evidence_error(inner: bytes) -> None:
    with suppress(EvidenceError):
        TrustStore.from_pem(b"-----BEGIN CERTIFICATE-----\n" + inner + b"\n-----END CERTIFICATE-----\n")


@given(st.text(max_size=70))
def test_any_text_as_digest_is_refused_by_an_evidence_error(digest: str) -> None:
    with pytest.raises(EvidenceError):
        verify_detached(GOOD, sha256_hex=digest, trust=TrustStore([ALONE]), subject="x")


@given(st.binary(max_size=200).filter(lambda content: content != CONTENT))
def test_a_signature_holds_for_no_other_content(content: bytes) -> None:
    assert _holds(GOOD, ALONE)
    assert not _holds(GOOD, ALONE, content)


@settings(max_examples=300)
@given(st.data())
def test_a_signature_cut_spliced_or_overwritten_does_not_hold(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([GOOD, GOOD_CHAIN]))
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, len(good)))
    mutated = good[:start] + data.draw(st.binary(max_size=40)) + good[end:]
    if mutated != good:
        assert not _holds(mutated, ALONE if good is GOOD else ROOT)


def _flips_that_hold(good: bytes, trusted: x509.Certificate, *, masks: bytes) -> list[int]:
    held = []
    for position in range(len(good)):
        for mask in masks:
            flipped = bytearray(good)
            flipped[position] ^= mask
            if _holds(bytes(flipped), trusted):
                held.append(position)
    return held


def test_no_octet_of_a_p256_signature_can_be_altered() -> None:
    assert _flips_that_hold(GOOD, ALONE, masks=b"\x01\x20\x80\xff") == []


def test_no_octet_of_a_signature_with_its_chain_can_be_altered_when_the_root_is_what_is_trusted() -> None:
    assert _flips_that_hold(GOOD_CHAIN, ROOT, masks=b"\x01") == []


def test_when_the_signer_himself_is_trusted_only_the_issuer_beside_him_can_be_altered() -> None:
    """No signature covers an issuer that nobody asks; who signed what and when stays the same."""
    der = MIDDLE.public_bytes(Encoding.DER)
    start = GOOD_CHAIN.index(der)
    held = _flips_that_hold(GOOD_CHAIN, LEAF, masks=b"\x01")
    assert all(start <= position < start + len(der) for position in held)
