"""Opening an envelope of ours with a recipient's private key; for who holds it, never on a recorder.

Contract: only the form that ``envelope`` writes is read; what else comes raises EnvelopeUnopened. The octets
that ``open_envelope`` gives count only when it ends without an error: the proof stands at the end. With
AES-256-CBC there is none: compare the digest that the manifest tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from asn1crypto import algos
from cryptography import x509
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher as Primitive
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from recorderd.core.errors import EnvelopeUnopened, KeyUnusable
from recorderd.evidence import envelope as form
from recorderd.evidence.der import (
    BIT_STRING,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    read_element,
    read_heading,
    tlv,
)

_HEAD_LIMIT_BYTES: Final = 1 << 20
_STEP_BYTES: Final = 1 << 18
_GCM: Final = algos.EncryptionAlgorithmId("aes256_gcm").dump()
_CBC: Final = algos.EncryptionAlgorithmId("aes256_cbc").dump()
_CBC_BLOCK_BYTES: Final = 16

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """A recipient's private key with its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @classmethod
    def from_files(cls, *, key_file: Path, certificate_file: Path, passphrase: bytes | None = None) -> Opener:
        """Read key and certificate.

        Errors: KeyUnusable.
        """
        try:
            key: object = serialization.load_pem_private_key(key_file.read_bytes(), password=passphrase)
        except OSError as problem:
            raise KeyUnusable(path=key_file, reason=problem.strerror) from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyUnusable(
                path=key_file, reason="is no private key in PEM, or needs a passphrase"
            ) from None
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            public: Any = certificate.public_key()
        except OSError as problem:
            raise KeyUnusable(path=certificate_file, reason=problem.strerror) from None
        except (ValueError, UnsupportedAlgorithm):
            raise KeyUnusable(path=certificate_file, reason="is no certificate in PEM") from None
        if not isinstance(key, PrivateKey) or key.public_key() != public:
            raise KeyUnusable(path=key_file, reason=f"does not belong to {certificate_file.name}")
        return cls(key=key, certificate=certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    recipients: tuple[bytes, ...]
    is_gcm: bool
    nonce: bytes
    cipher_bytes: int
    size_bytes: int


def open_envelope(stream: BinaryIO, opener: Opener, *, subject: str) -> Iterator[bytes]:
    """Decrypt an envelope block by block.

    Errors: EnvelopeUnopened: not of our form, not for this key, altered, cut off, or with something behind.
    """
    start = stream.read(_HEAD_LIMIT_BYTES)
    try:
        head = _read_head(start)
        key = _content_key(head, opener)
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise EnvelopeUnopened(subject=subject, reason=problem) from None
    stream.seek(head.size_bytes)
    mode: Any = modes.GCM(head.nonce) if head.is_gcm else modes.CBC(head.nonce)
    decryptor: Any = Primitive(algorithms.AES256(key), mode).decryptor()
    unpadder = padding.PKCS7(_CBC_BLOCK_BYTES * 8).unpadder()
    left_bytes = head.cipher_bytes
    while left_bytes:
        block = stream.read(min(_STEP_BYTES, left_bytes))
        if not block:
            raise EnvelopeUnopened(subject=subject, reason=f"{left_bytes} octets are missing")
        left_bytes -= len(block)
        plain = decryptor.update(block)
        yield plain if head.is_gcm else unpadder.update(plain)
    rest = stream.read(len(tlv(OCTET_STRING, bytes(form.TAG_BYTES))) + 1)
    try:
        if head.is_gcm:
            if rest[:2] != tlv(OCTET_STRING, bytes(form.TAG_BYTES))[:2] or len(rest) != form.TAG_BYTES + 2:
                raise ValueError("no tag at its end")
            decryptor.finalize_with_tag(rest[2:])
        else:
            if rest:
                raise ValueError("something stands behind its end")
            yield unpadder.update(decryptor.finalize()) + unpadder.finalize()
    except InvalidTag:
        raise EnvelopeUnopened(subject=subject, reason="it was altered") from None
    except ValueError as problem:
        raise EnvelopeUnopened(subject=subject, reason=problem) from None


def _read_head(start: bytes) -> _Head:
    """Read what stands before the cipher text. Errors: ValueError."""
    outer = read_heading(start, 0, tag=SEQUENCE)
    kind = read_element(start, outer.start)
    is_gcm = start[outer.start : kind.end] == form.AUTH_ENVELOPED
    if not is_gcm and start[outer.start : kind.end] != form.ENVELOPED:
        raise ValueError("is no CMS envelope")
    explicit = read_heading(start, kind.end, tag=0xA0)
    inner = read_heading(start, explicit.start, tag=SEQUENCE)
    version = read_element(start, inner.start, tag=INTEGER)
    infos = read_element(start, version.end, tag=SET)
    rows, at = [], infos.start
    while at < infos.end:
        row = read_element(start, at)
        rows.append(start[at : row.end])
        at = row.end
    info = read_heading(start, infos.end, tag=SEQUENCE)
    data = read_element(start, info.start)
    algorithm = read_element(start, data.end, tag=SEQUENCE)
    content = read_heading(start, algorithm.end, tag=0x80)
    name = read_element(start, algorithm.start)
    nonce_at = read_heading(start, name.end, tag=SEQUENCE).start if is_gcm else name.end
    nonce = read_element(start, nonce_at, tag=OCTET_STRING)
    if nonce.end - nonce.start != (form.GCM_NONCE_BYTES if is_gcm else _CBC_BLOCK_BYTES):
        raise ValueError("has a nonce of another length")
    if start[algorithm.start : name.end] != (_GCM if is_gcm else _CBC):
        raise ValueError("is encrypted with another algorithm than AES-256")
    head = _Head(
        recipients=tuple(rows),
        is_gcm=is_gcm,
        nonce=start[nonce.start : nonce.end],
        cipher_bytes=content.end - content.start,
        size_bytes=content.start,
    )
    content_bytes = head.cipher_bytes if is_gcm else head.cipher_bytes - 1
    again = form.write_head(head.recipients, is_gcm=is_gcm, nonce=head.nonce, content_bytes=content_bytes)
    if again != start[: content.start]:
        raise ValueError("is not in the form that a recorder writes")
    return head


def _content_key(head: _Head, opener: Opener) -> bytes:
    """Unwrap the content key. Errors: ValueError when no recipient is the opener."""
    identifier = form.issuer_and_serial(opener.certificate)
    ours = [row for row in head.recipients if identifier in row]
    if not ours:
        raise ValueError("the certificate is no recipient's")
    try:
        if isinstance(opener.key, rsa.RSAPrivateKey):
            key = _transported(ours[0], identifier, opener.key)
        else:
            key = _agreed(ours[0], identifier, opener.key)
    except InvalidUnwrap:
        raise ValueError("the wrapped key does not fit the private key, or was altered") from None
    if len(key) != form.KEY_BYTES:
        raise ValueError("the content key is none of AES-256")
    return key


def _transported(row: bytes, identifier: bytes, key: rsa.RSAPrivateKey) -> bytes:
    wrapped = row[-((key.key_size + 7) // 8) :]
    if form.transport_row(identifier, wrapped) != row:
        raise ValueError("a recipient is not in the form that a recorder writes")
    try:
        return key.decrypt(wrapped, form.OAEP)
    except ValueError:
        raise ValueError("the wrapped key does not fit the private key, or was altered") from None


def _agreed(row: bytes, identifier: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    body = read_element(row, 0, tag=0xA1)
    version = read_element(row, body.start, tag=INTEGER)
    originator = read_element(row, version.end, tag=0xA0)
    public = read_element(row, originator.start, tag=0xA1)
    algorithm = read_element(row, public.start, tag=SEQUENCE)
    bits = read_element(row, algorithm.end, tag=BIT_STRING)
    point = row[bits.start + 1 : bits.end]
    wrapped = row[-(form.KEY_BYTES + 8) :]
    if form.agreement_row(identifier, point, wrapped) != row:
        raise ValueError("a recipient is not in the form that a recorder writes")
    ephemeral = ec.EllipticCurvePublicKey.from_encoded_point(key.curve, point)
    return aes_key_unwrap(form.agreed_key(key.exchange(ec.ECDH(), ephemeral)), wrapped)
