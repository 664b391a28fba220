"""What authorities and operators hand us: any octets and any text are read, or refused with one error."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st

from recorderd.core.errors import CertificateRefused, KeyUnusable
from recorderd.evidence.certificates import judge_answer, key_fingerprint
from recorderd.evidence.token_uri import parse_token_uri
from tests.support.signing_material import make_certificate, p256, pem_of

KEY, ROOT_KEY = p256(), p256()
ROOT = make_certificate("root", ROOT_KEY, ca=True)
LEAF = make_certificate("leaf", KEY, issuer=(ROOT, ROOT_KEY))
OURS = [key_fingerprint(KEY.public_key())]
DER = LEAF.public_bytes(serialization.Encoding.DER)
WORDS = ["pkcs11:", "token=", "object=", "id=", "type=private", "module-path=/", "pin-source=", "pin-value=",
         "file:", "credential:", "%", "%00", "%zz", ";", "?", "&", "a", "=", "ä"]  # fmt: skip


def _judge(answer: bytes) -> None:
    judge_answer(answer, keys_sha256=OURS, roots_pem=pem_of(ROOT), now=datetime.now(tz=UTC), name="x")


def _pem(der: bytes) -> bytes:
    text = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


def test_the_answer_as_it_is_is_taken() -> None:
    _judge(_pem(DER))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
def test_any_octets_are_refused_as_an_answer(answer: bytes) -> None:
    with pytest.raises(CertificateRefused):
        _judge(answer)


@pytest.mark.filterwarnings("ignore")  # of cryptography, about what it will refuse some day
@given(st.integers(0, len(DER) - 1), st.integers(1, 255))
@example(12, 1)  # another version
@example(244, 1)  # an extension that stands twice
def test_a_certificate_with_any_octet_altered_is_refused(at: int, flip: int) -> None:
    altered = bytearray(DER)
    altered[at] ^= flip
    with pytest.raises(CertificateRefused):
        _judge(_pem(bytes(altered)))


@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join) | st.text(max_size=60))
def test_any_text_is_a_key_in_a_token_or_refused_without_being_repeated(text: str) -> None:
    secret = hashlib.sha256(text.encode()).hexdigest()[:12]
    for whole in (text, f"{text}&pin-value={secret}", f"pkcs11:token=a;object=b?{secret}{text}"):
        with suppress(KeyUnusable):
            try:
                parse_token_uri(whole)
            except KeyUnusable as problem:
                assert secret not in str(problem)
                raise
