"""Certificates for our keys: requested, self-signed, judged when an authority answers, described for people.

Contract: works on bytes, reads and writes no files. An authority's answer is taken only if it is for a key of
ours, may sign evidence, is valid, and leads to a root through issuers that may issue.
Source: RFC 2986 (requests), RFC 5280 (certificates, paths).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from asn1crypto import algos, core, csr, keys, pem
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from recorderd.core.errors import CertificateRefused
from recorderd.evidence.signing_key import (
    FileKey,
    KeyKind,
    PublicKey,
    SigningKey,
    key_to_pem,
    kind_name,
    make_key,
    signature_algorithm,
    spki,
)
from recorderd.evidence.strength import CHAIN_MAX, UNREADABLE, hash_is_sound, key_flaw, may_issue, usage_flaw

BACKDATED: Final = timedelta(minutes=5)  # a verifier's clock may be behind ours
SECONDS_PER_DAY: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What people ask of a certificate."""

    subject: str
    issuer: str
    kind: str
    sha256: str
    key_sha256: str
    valid_from: datetime
    valid_to: datetime
    self_signed: bool

    def days_left(self, now: datetime) -> int:
        """Whole days until it expires; negative afterwards."""
        return int((self.valid_to - now).total_seconds() // SECONDS_PER_DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An authority's answer, put in order."""

    key_sha256: str  # of the key that it is for
    leaf_pem: bytes
    chain_pem: bytes  # ours first, then the issuers below the root
    root_pem: bytes
    facts: CertificateFacts


def key_fingerprint(key: PublicKey) -> str:
    """Hash a public key: SHA-256 over its SubjectPublicKeyInfo."""
    return hashlib.sha256(spki(key)).hexdigest()


def describe_certificate(certificate_pem: bytes) -> CertificateFacts:
    """Read the first certificate of a file.

    Errors: ValueError when there is none that we can read.
    """
    try:
        return _facts(x509.load_pem_x509_certificates(certificate_pem)[0])
    except UNREADABLE as problem:
        raise ValueError(str(problem)) from None


def subject_of(common_name: str) -> str:
    """Make the simplest name: RFC 4514 text with a common name alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]).rfc4514_string()


def create_self_signed(
    *, common_name: str, valid_days: int = 3650, kind: KeyKind = KeyKind.P256
) -> tuple[bytes, bytes]:
    """Make a key and a certificate that vouches for itself; both PEM."""
    key = make_key(kind)
    certificate = self_signed(FileKey(key), subject=subject_of(common_name), valid_days=valid_days)
    return key_to_pem(key), certificate


def make_request(key: SigningKey, *, subject: str) -> bytes:
    """Ask an authority for a certificate of a key; PEM.

    Errors: CertificateRefused when the subject is no name; what the key raises.
    """
    wanted = _extensions(key.public, authority=False)
    info = csr.CertificationRequestInfo(
        {
            "version": "v1",
            "subject": _name(subject),
            "subject_pk_info": keys.PublicKeyInfo.load(spki(key.public)),
            "attributes": [{"type": "extension_request", "values": [wanted]}],
        }
    )
    request = csr.CertificationRequest(
        {
            "certification_request_info": info,
            "signature_algorithm": _algorithm(key),
            "signature": key.sign(hashlib.sha256(info.dump()).digest()),
        }
    )
    return bytes(pem.armor("CERTIFICATE REQUEST", request.dump()))


def self_signed(key: SigningKey, *, subject: str, valid_days: int) -> bytes:
    """Make a certificate with which a key vouches for itself; PEM.

    Errors: CertificateRefused when the subject is no name; what the key raises.
    """
    now, name = datetime.now(tz=UTC).replace(microsecond=0), _name(subject)
    body = asn1_x509.TbsCertificate(
        {
            "version": "v3",
            "serial_number": secrets.randbits(158) | 1 << 158,  # RFC 5280 section 4.1.2.2: at most 20 octets
            "signature": _algorithm(key),
            "issuer": name,
            "validity": {
                "not_before": _time(now - BACKDATED),
                "not_after": _time(now + timedelta(days=valid_days)),
            },
            "subject": name,
            "subject_public_key_info": keys.PublicKeyInfo.load(spki(key.public)),
            "extensions": _extensions(key.public, authority=True),
        }
    )
    certificate = asn1_x509.Certificate(
        {
            "tbs_certificate": body,
            "signature_algorithm": _algorithm(key),
            "signature_value": key.sign(hashlib.sha256(body.dump()).digest()),
        }
    )
    return bytes(pem.armor("CERTIFICATE", certificate.dump()))


def judge_answer(
    answer_pem: bytes, *, keys_sha256: Sequence[str], roots_pem: bytes | None, now: datetime, name: object
) -> Answer:
    """Judge what an authority sent for one of our keys; the order of its certificates does not matter.

    ``roots_pem`` are the only roots that count when given; else a root within the answer does.
    Errors: CertificateRefused says why it is not taken.
    """
    given = _read(answer_pem, name)
    leaf = next((entry for entry in given if _key_of(entry) in keys_sha256), None)
    if leaf is None:
        raise CertificateRefused(path=name, reason=f"is for another key than {' or '.join(keys_sha256)}")
    _judge_leaf(leaf, now, name)
    roots = _read(roots_pem, "--ca") if roots_pem is not None else [e for e in given if _issues(e, e, now, 0)]
    chain, root = [leaf], None
    while root is None:
        below = len(chain) - 1
        root = next((e for e in roots if e == chain[-1] or _issues(e, chain[-1], now, below)), None)
        if root is None:
            rest = [entry for entry in given if entry not in chain]
            issuer = next((e for e in rest if _issues(e, chain[-1], now, below)), None)
            if issuer is None:
                raise CertificateRefused(path=name, reason=_what_is_missing(chain[-1], roots_pem is not None))
            chain.append(issuer)
        if len(chain) > CHAIN_MAX + 1:
            raise CertificateRefused(path=name, reason=f"more than {CHAIN_MAX} issuers stand above it")
    if len(chain) > 1 and chain[-1] == root:
        chain.pop()
    return Answer(
        key_sha256=_key_of(leaf),
        leaf_pem=_pem(leaf),
        chain_pem=_pem(*chain),
        root_pem=_pem(root),
        facts=_facts(leaf),
    )


def _judge_leaf(leaf: x509.Certificate, now: datetime, name: object) -> None:
    if flaw := key_flaw(leaf.public_key()) or usage_flaw(leaf):
        raise CertificateRefused(path=name, reason=flaw)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        span = f"{leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}"
        raise CertificateRefused(path=name, reason=f"is valid from {span}; today is {now:%Y-%m-%d}")
    if not hash_is_sound(leaf):
        raise CertificateRefused(path=name, reason="was issued over a hash that does not hold")


def _what_is_missing(last: x509.Certificate, roots_given: bool) -> str:
    issuer = _printable(last.issuer.rfc4514_string())
    if roots_given:
        return f"does not lead to a root in --ca: the issuer {issuer} is missing there, or may not issue"
    return f"leads to no root: the issuer {issuer} is missing, or may not issue; name its root with --ca"


def _issues(issuer: x509.Certificate, certificate: x509.Certificate, now: datetime, below: int) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        fits = hash_is_sound(certificate) and (
            issuer == certificate or may_issue(issuer, issuers_below=below)
        )
    except (*UNREADABLE, InvalidSignature):
        return False
    return fits and issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc


def _read(pem_bytes: bytes, name: object) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem_bytes)
        for entry in found:
            entry.public_key()
            usage_flaw(entry)
            hash_is_sound(entry)
            _facts(entry)
            # The count of unused bits before its signature: our verifier takes no other than none.
            if not entry.public_bytes(serialization.Encoding.DER).endswith(b"\0" + entry.signature):
                raise ValueError("unused bits")
    except UNREADABLE:
        raise CertificateRefused(path=name, reason="holds no certificates in PEM that we can read") from None
    return found


def _key_of(certificate: x509.Certificate) -> str:
    return hashlib.sha256(spki(certificate.public_key())).hexdigest()


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(entry.public_bytes(serialization.Encoding.PEM) for entry in certificates)


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    return CertificateFacts(
        subject=_printable(certificate.subject.rfc4514_string()),
        issuer=_printable(certificate.issuer.rfc4514_string()),
        kind=kind_name(certificate.public_key()),
        sha256=hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
        key_sha256=_key_of(certificate),
        valid_from=certificate.not_valid_before_utc,
        valid_to=certificate.not_valid_after_utc,
        self_signed=certificate.issuer == certificate.subject,
    )


def _name(subject: str) -> asn1_x509.Name:
    try:
        name = x509.Name.from_rfc4514_string(subject)
    except ValueError:
        name = x509.Name([])
    if not name.rdns:
        raise CertificateRefused(
            path=repr(subject), reason="is no name as RFC 4514 writes it, like CN=x,O=y,C=de"
        )
    return asn1_x509.Name.load(name.public_bytes())


def _extensions(public: PublicKey, *, authority: bool) -> asn1_x509.Extensions:
    """Say what the certificate is for: signatures of evidence."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(public).digest
    rows = [
        {"extn_id": "key_usage", "critical": True, "extn_value": {"digital_signature", "non_repudiation"}},
        {"extn_id": "key_identifier", "critical": False, "extn_value": core.OctetString(identifier)},
    ]
    if authority:
        rows.insert(1, {"extn_id": "basic_constraints", "critical": True, "extn_value": {"ca": False}})
    return asn1_x509.Extensions([asn1_x509.Extension(row) for row in rows])


def _algorithm(key: SigningKey) -> algos.SignedDigestAlgorithm:
    return algos.SignedDigestAlgorithm({"algorithm": signature_algorithm(key.public)})


def _time(moment: datetime) -> asn1_x509.Time:
    # RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime after.
    if moment.year < 2050:
        return asn1_x509.Time({"utc_time": core.UTCTime(moment)})
    return asn1_x509.Time({"general_time": core.GeneralizedTime(moment)})


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)
