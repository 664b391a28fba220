"""CMS envelopes for X.509 recipients, written as a stream: what `openssl cms -decrypt` opens.

Contract: ``Envelope`` takes content of a length known before and gives DER with definite lengths; nothing but
one block is held. A content key is made for each envelope, wrapped to every recipient (RSA-OAEP with SHA-256;
ephemeral-static ECDH with the SHA-256 KDF and AES-256 key wrap), and never leaves this module.
AES-256-GCM (AuthEnvelopedData) proves on opening that nothing was altered; AES-256-CBC (EnvelopedData) does
not: there the digest of the cipher text, which the manifest tells and signs, does.
Source: RFC 5652 section 6, RFC 5083, RFC 5084, RFC 3560 (OAEP), RFC 5753 section 3.1 (ECDH), RFC 3565 (AES).
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from asn1crypto import algos, cms, core
from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.ciphers import Cipher as Primitive
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from recorderd.core.errors import EncryptionFailed
from recorderd.evidence.der import BIT_STRING, INTEGER, OCTET_STRING, SEQUENCE, SET, heading, tlv
from recorderd.evidence.recipients import CertificateRecipient, RecipientFacts

PART_LIMIT_BYTES: Final = 1 << 30  # OpenSSL fails above 2 GiB; an envelope stays below half of that
RECIPIENTS_MAX: Final = 64
KEY_BYTES: Final = 32
GCM_NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_CBC_BLOCK_BYTES: Final = 16
_ENVELOPE_ROOM_BYTES: Final = 1 << 20  # for all recipients: one of RSA-16384 takes about 2.3 KiB
PART_CONTENT_BYTES: Final = PART_LIMIT_BYTES - _ENVELOPE_ROOM_BYTES
_STEP_BYTES: Final = 1 << 16  # the interpreter is held for so much at a time: less than 0.1 ms


def _oid(dotted: str) -> bytes:
    return bytes(core.ObjectIdentifier(dotted).dump())


DATA: Final = _oid("1.2.840.113549.1.7.1")
ENVELOPED: Final = _oid("1.2.840.113549.1.7.3")
AUTH_ENVELOPED: Final = _oid("1.2.840.113549.1.9.16.1.23")
AES_256_WRAP: Final = tlv(SEQUENCE, _oid("2.16.840.1.101.3.4.1.45"))
EC_PUBLIC_KEY: Final = tlv(SEQUENCE, _oid("1.2.840.10045.2.1"))
# dhSinglePass-stdDH-sha256kdf-scheme (RFC 5753 section 7.1.4)
ECDH_SHA256: Final = tlv(SEQUENCE, _oid("1.3.132.1.11.1"), AES_256_WRAP)
OAEP: Final = rsa_padding.OAEP(
    mgf=rsa_padding.MGF1(algorithm=hashes.SHA256()), algorithm=hashes.SHA256(), label=None
)


class Cipher(StrEnum):
    """How content is encrypted."""

    AES_256_GCM = "aes-256-gcm"
    AES_256_CBC = "aes-256-cbc"


@functools.cache
def oaep_algorithm() -> bytes:
    """Write the algorithm of a key wrapped with RSA. Source: RFC 4055 section 4.1."""
    sha256 = {"algorithm": "sha256"}
    parameters = {
        "hash_algorithm": sha256,
        "mask_gen_algorithm": {"algorithm": "mgf1", "parameters": sha256},
    }
    row = {"algorithm": "rsaes_oaep", "parameters": algos.RSAESOAEPParams(parameters)}
    return bytes(cms.KeyEncryptionAlgorithm(row).dump())


def agreed_key(shared: bytes) -> bytes:
    """Derive the key that wraps, from what both sides of an ECDH know.

    Source: RFC 5753 section 7.2 (ECC-CMS-SharedInfo without ukm), SEC 1 section 3.6.1.
    """
    bits = tlv(0xA2, tlv(OCTET_STRING, struct.pack(">I", KEY_BYTES * 8)))
    info = tlv(SEQUENCE, AES_256_WRAP, bits)
    return X963KDF(algorithm=hashes.SHA256(), length=KEY_BYTES, sharedinfo=info).derive(shared)


class Envelope:
    """One envelope being written: ``head``, ``update`` for every block, ``finish``.

    Thread: one at a time.
    Errors: EncryptionFailed when there is no recipient, or more than RECIPIENTS_MAX.
    """

    def __init__(
        self, *, recipients: Sequence[CertificateRecipient], cipher: Cipher, content_bytes: int
    ) -> None:
        if not 1 <= len(recipients) <= RECIPIENTS_MAX:
            reason = f"{len(recipients)} recipients; 1 to {RECIPIENTS_MAX} are possible"
            raise EncryptionFailed(subject="content", reason=reason)
        self._left_bytes = content_bytes
        key = os.urandom(KEY_BYTES)
        self._is_gcm = cipher is Cipher.AES_256_GCM
        nonce = os.urandom(GCM_NONCE_BYTES if self._is_gcm else _CBC_BLOCK_BYTES)
        mode: Any = modes.GCM(nonce) if self._is_gcm else modes.CBC(nonce)
        self._encryptor: Any = Primitive(algorithms.AES256(key), mode).encryptor()
        self._padder = padding.PKCS7(_CBC_BLOCK_BYTES * 8).padder()
        rows = [_recipient_row(entry, key) for entry in recipients]
        self._head = write_head(rows, is_gcm=self._is_gcm, nonce=nonce, content_bytes=content_bytes)

    def head(self) -> bytes:
        """Give what stands before the cipher text."""
        return self._head

    def update(self, block: bytes | memoryview) -> bytes:
        """Encrypt the next octets.

        Errors: EncryptionFailed when they are more than was said.
        """
        self._left_bytes -= len(block)
        if self._left_bytes < 0:
            raise EncryptionFailed(subject="content", reason="is longer than was said")
        if self._is_gcm:
            return bytes(self._encryptor.update(block))
        return bytes(self._encryptor.update(self._padder.update(block)))

    def finish(self) -> bytes:
        """Give what stands behind: the last block, or the tag.

        Errors: EncryptionFailed when the content was shorter than was said.
        """
        if self._left_bytes:
            raise EncryptionFailed(subject="content", reason=f"is {self._left_bytes} octets short")
        if self._is_gcm:
            self._encryptor.finalize()
            return tlv(OCTET_STRING, self._encryptor.tag)
        return bytes(self._encryptor.update(self._padder.finalize()) + self._encryptor.finalize())


def write_head(rows: Sequence[bytes], *, is_gcm: bool, nonce: bytes, content_bytes: int) -> bytes:
    """Write what stands before the cipher text of so much content, for the recipients in ``rows``."""
    agreement = any(row[0] != SEQUENCE for row in rows)
    version = tlv(INTEGER, bytes([2 if agreement and not is_gcm else 0]))
    if is_gcm:
        name, cipher_bytes = "aes256_gcm", content_bytes
        parameters = tlv(SEQUENCE, tlv(OCTET_STRING, nonce), tlv(INTEGER, bytes([TAG_BYTES])))
        behind_bytes = len(tlv(OCTET_STRING, bytes(TAG_BYTES)))
    else:
        name, cipher_bytes = "aes256_cbc", (content_bytes // _CBC_BLOCK_BYTES + 1) * _CBC_BLOCK_BYTES
        parameters, behind_bytes = tlv(OCTET_STRING, nonce), 0
    algorithm = tlv(SEQUENCE, bytes(algos.EncryptionAlgorithmId(name).dump()), parameters)
    info = DATA + algorithm + heading(0x80, cipher_bytes)
    body = version + tlv(SET, *sorted(rows)) + heading(SEQUENCE, len(info) + cipher_bytes) + info
    follow_bytes = cipher_bytes + behind_bytes
    inner = heading(SEQUENCE, len(body) + follow_bytes) + body
    outer = (AUTH_ENVELOPED if is_gcm else ENVELOPED) + heading(0xA0, len(inner) + follow_bytes) + inner
    return heading(SEQUENCE, len(outer) + follow_bytes) + outer


def issuer_and_serial(certificate: x509.Certificate) -> bytes:
    """Write how a recipient is named. Source: RFC 5652 section 10.2.4."""
    serial = bytes(core.Integer(certificate.serial_number).dump())
    return tlv(SEQUENCE, certificate.issuer.public_bytes(), serial)


def transport_row(identifier: bytes, wrapped: bytes) -> bytes:
    """Write a recipient to whom the key is encrypted. Source: RFC 5652 section 6.2.1."""
    return tlv(SEQUENCE, tlv(INTEGER, b"\0"), identifier, oaep_algorithm(), tlv(OCTET_STRING, wrapped))


def agreement_row(identifier: bytes, point: bytes, wrapped: bytes) -> bytes:
    """Write a recipient with whom a key is agreed. Source: RFC 5652 section 6.2.2, RFC 5753 section 3.1.1."""
    originator = tlv(0xA0, tlv(0xA1, EC_PUBLIC_KEY, tlv(BIT_STRING, b"\0", point)))
    rows = tlv(SEQUENCE, tlv(SEQUENCE, identifier, tlv(OCTET_STRING, wrapped)))
    return tlv(0xA1, tlv(INTEGER, b"\3"), originator, ECDH_SHA256, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecipients:
    """Everybody who is to open what is encrypted, by certificate."""

    recipients: tuple[CertificateRecipient, ...]
    cipher: Cipher = Cipher.AES_256_GCM
    kind: Literal["cms"] = "cms"
    suffix: Literal[".p7m"] = ".p7m"
    left_out: tuple[CertificateRecipient, ...] = ()  # they have ended, and others have not

    def facts(self) -> tuple[RecipientFacts, ...]:
        """Tell of those to whom it is encrypted."""
        return tuple(recipient.facts() for recipient in self.recipients)

    def encrypt(self, blocks: Iterable[bytes | memoryview], *, content_bytes: int) -> Iterator[bytes]:
        """Encrypt a stream of ``content_bytes`` into one envelope.

        Errors: EncryptionFailed when the stream is of another length.
        """
        envelope = Envelope(recipients=self.recipients, cipher=self.cipher, content_bytes=content_bytes)
        yield envelope.head()
        for block in blocks:
            view = memoryview(block)
            for at in range(0, len(view), _STEP_BYTES):
                yield envelope.update(view[at : at + _STEP_BYTES])
        yield envelope.finish()


def part_lengths(content_bytes: int, *, limit_bytes: int = PART_CONTENT_BYTES) -> list[int]:
    """Split content into parts, each for an envelope of its own; in order they make the whole."""
    whole, rest = divmod(content_bytes, limit_bytes)
    return [limit_bytes] * whole + ([rest] if rest or not whole else [])


def part_names(name: str, *, parts: int, suffix: str) -> list[str]:
    """Name the parts of ``name``: ``x.wav.p7m``, or ``x.wav.001.p7m`` and so on when there are several."""
    if parts == 1:
        return [f"{name}{suffix}"]
    return [f"{name}.{number:03d}{suffix}" for number in range(1, parts + 1)]


def _recipient_row(recipient: CertificateRecipient, key: bytes) -> bytes:
    certificate, public = recipient.certificate, recipient.public_key
    identifier = issuer_and_serial(certificate)
    if not isinstance(public, ec.EllipticCurvePublicKey):
        return transport_row(identifier, public.encrypt(key, OAEP))
    ephemeral = ec.generate_private_key(public.curve)
    wrapping = agreed_key(ephemeral.exchange(ec.ECDH(), public))
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return agreement_row(identifier, point, aes_key_wrap(wrapping, key))
