"""Does a detached signature hold, and who made it? Fails closed: what is not understood is not valid.

Contract: any bytes give a signer's identity or an EvidenceError; nothing is read from disk here but the
trusted certificates. Source: RFC 5652 section 5.6, RFC 5035, ETSI EN 319 122-1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from asn1crypto import cms, tsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509.oid import NameOID

from recorderd.core.errors import (
    CertificateUnfit,
    CertificateUnreadable,
    EvidenceError,
    RecorderError,
    SignatureInvalid,
    SignerUnknown,
)
from recorderd.evidence.cades import assemble
from recorderd.evidence.known_signers import KnownSigners
from recorderd.evidence.strength import CHAIN_MAX, UNREADABLE, hash_is_sound, key_flaw, may_issue, usage_flaw

SIGNATURE_MAX_BYTES: Final = 64 * 1024  # a signature with a chain of four takes about 6 KiB
_KNOWN: Final = KnownSigners()
_WANTED: Final = ("content_type", "message_digest", "signing_time", "signing_certificate_v2")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerIdentity:
    """Who signed, and when by his own clock."""

    common_name: str
    certificate_sha256: str
    signing_time_utc_s: int

    def __str__(self) -> str:
        return f"{self.common_name} ({self.certificate_sha256[:16]})"


class TrustStore:
    """Certificates that we take as vouching: signers themselves, or authorities above them.

    Thread: any.
    """

    def __init__(self, certificates: Iterable[x509.Certificate]) -> None:
        self.certificates = tuple(certificates)

    @classmethod
    def from_pem(cls, pem: bytes) -> TrustStore:
        """Read a PEM bundle.

        Errors: EvidenceError when it holds no certificate.
        """
        try:
            return cls(x509.load_pem_x509_certificates(pem))
        except UNREADABLE:
            raise EvidenceError(subject="trusted certificates", reason="no certificate in PEM") from None

    @classmethod
    def from_files(cls, paths: Iterable[Path]) -> TrustStore:
        """Read PEM bundles from files.

        Errors: CertificateUnreadable when a file cannot be read or holds no certificate.
        """
        found: list[x509.Certificate] = []
        for path in paths:
            try:
                found += cls.from_pem(path.read_bytes()).certificates
            except OSError as problem:
                raise CertificateUnreadable(path=path, reason=problem.strerror) from None
            except EvidenceError as problem:
                raise CertificateUnreadable(path=path, reason=problem.fields["reason"]) from None
        return cls(found)

    def vouches(self, leaf: x509.Certificate, extra: Iterable[x509.Certificate], *, at: datetime) -> bool:
        """Tell whether a certificate is ours, or leads to one of ours through issuers valid at ``at``."""
        if leaf in self.certificates:
            return True
        embedded = [entry for entry in extra if entry != leaf]
        reached = [leaf]  # all that some path of embedded issuers leads to, one step further each turn
        for depth in range(CHAIN_MAX):
            step = partial(_issued, at=at, issuers_below=depth)
            if any(step(trusted, current) for current in reached for trusted in self.certificates):
                return True
            reached = [entry for entry in embedded if any(step(entry, current) for current in reached)]
        return False


def certificate_sha256s(pem: bytes) -> tuple[str, ...]:
    """Give the digests of the certificates in a PEM text; none where it holds none that can be read."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        return ()
    return tuple(hashlib.sha256(_der(entry)).hexdigest() for entry in certificates)


def verify_detached(
    signature_der: bytes, *, sha256_hex: str, trust: TrustStore, subject: str
) -> SignerIdentity:
    """Check a detached CAdES signature over content with the given digest.

    Errors: SignatureInvalid; SignerUnknown when only the trust is missing.
    """
    try:
        return _verify(signature_der, sha256_hex=sha256_hex, trust=trust, subject=subject)
    except RecorderError:
        raise
    except Exception as problem:  # two lazy parsers of hostile bytes: whatever they raise is a "no"
        reason = f"malformed: {type(problem).__name__}"
        raise SignatureInvalid(subject=subject, reason=reason) from None


def _verify(signature_der: bytes, *, sha256_hex: str, trust: TrustStore, subject: str) -> SignerIdentity:
    if len(signature_der) > SIGNATURE_MAX_BYTES:
        raise SignatureInvalid(subject=subject, reason=f"longer than {SIGNATURE_MAX_BYTES} octets")
    known = _KNOWN.recognise(signature_der, sha256_hex=sha256_hex)
    if known is not None:
        signer = known.signer
        return _identify(signer.leaf, signer.certificates, known.moment, trust=trust, subject=subject)
    signed, info, certificates = _open(signature_der, subject)
    if signed["encap_content_info"]["content_type"].native != "data":
        raise SignatureInvalid(subject=subject, reason="is not over plain content")
    attributes = _attributes(info, subject)
    if attributes["content_type"].native != "data":
        raise SignatureInvalid(subject=subject, reason="content type is not data")
    if attributes["message_digest"].native != bytes.fromhex(sha256_hex):
        raise SignatureInvalid(subject=subject, reason="the content is not what was signed")
    leaf = _leaf(info, certificates, attributes["signing_certificate_v2"], subject)
    _check_signature(info, leaf, subject)
    algorithm = info["signature_algorithm"]["algorithm"].native
    again = assemble(
        chain_der=[_der(leaf), *(_der(entry) for entry in certificates if entry != leaf)],
        attributes=cms.CMSAttributes.load(_signed_octets(info)),
        algorithm=algorithm,
        signature=info["signature"].native,
    )
    if again != signature_der:
        raise SignatureInvalid(subject=subject, reason="is not in the form that a recorder writes")
    if flaw := key_flaw(leaf.public_key()) or usage_flaw(leaf):
        raise CertificateUnfit(subject=subject, reason=f"the certificate does not do: {flaw}")
    _KNOWN.learn(leaf, certificates, algorithm)
    signing_time: datetime = attributes["signing_time"].native
    moment = signing_time if signing_time.tzinfo else signing_time.replace(tzinfo=UTC)
    return _identify(leaf, certificates, moment, trust=trust, subject=subject)


def _identify(
    leaf: x509.Certificate,
    certificates: Sequence[x509.Certificate],
    moment: datetime,
    *,
    trust: TrustStore,
    subject: str,
) -> SignerIdentity:
    """Say who signed, once the signature is known to fit; each call asks the trust and the dates anew."""
    if not leaf.not_valid_before_utc <= moment <= leaf.not_valid_after_utc:
        raise CertificateUnfit(subject=subject, reason="the certificate was not valid when it signed")
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    identity = SignerIdentity(
        common_name=_printable(str(names[0].value) if names else leaf.subject.rfc4514_string()),
        certificate_sha256=hashlib.sha256(_der(leaf)).hexdigest(),
        signing_time_utc_s=int(moment.timestamp()),
    )
    if not trust.vouches(leaf, certificates, at=moment):
        raise SignerUnknown(subject=subject, signer=identity)
    return identity


def _open(der: bytes, subject: str) -> tuple[Any, Any, list[x509.Certificate]]:
    content = cms.ContentInfo.load(der, strict=True)
    if content["content_type"].native != "signed_data":
        raise SignatureInvalid(subject=subject, reason="is no CMS SignedData")
    signed = content["content"]
    if signed["encap_content_info"]["content"].native is not None:
        raise SignatureInvalid(subject=subject, reason="is not detached")
    if len(signed["signer_infos"]) != 1:
        raise SignatureInvalid(
            subject=subject, reason=f"{len(signed['signer_infos'])} signers, one is wanted"
        )
    if len(signed["certificates"]) > CHAIN_MAX + 1:
        raise SignatureInvalid(subject=subject, reason=f"more than {CHAIN_MAX + 1} certificates in it")
    certificates = [x509.load_der_x509_certificate(entry.chosen.dump()) for entry in signed["certificates"]]
    # The count of unused bits before a certificate's signature is its one octet that nobody else checks.
    if not all(_der(entry).endswith(b"\0" + entry.signature) for entry in certificates):
        raise SignatureInvalid(subject=subject, reason="a certificate's own signature has unused bits")
    return signed, signed["signer_infos"][0], certificates


def _attributes(info: Any, subject: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for attribute in info["signed_attrs"]:
        kind = attribute["type"].native
        if kind in attributes or len(attribute["values"]) != 1:
            raise SignatureInvalid(subject=subject, reason=f"attribute {kind} stands twice")
        attributes[kind] = attribute["values"][0]
    missing = [kind for kind in _WANTED if kind not in attributes]
    if missing:
        raise SignatureInvalid(subject=subject, reason=f"attribute {missing[0]} is missing")
    return attributes


def _leaf(
    info: Any, certificates: list[x509.Certificate], ess: tsp.SigningCertificateV2, subject: str
) -> x509.Certificate:
    wanted = info["sid"].chosen
    if not isinstance(wanted, cms.IssuerAndSerialNumber):
        raise SignatureInvalid(subject=subject, reason="names its signer by key identifier")
    first = ess["certs"][0]
    if first["hash_algorithm"]["algorithm"].native != "sha256":
        raise SignatureInvalid(subject=subject, reason="names its certificate by another hash than sha256")
    for certificate in certificates:
        if certificate.serial_number != wanted["serial_number"].native:
            continue
        if certificate.issuer.public_bytes() != wanted["issuer"].dump():
            continue
        if hashlib.sha256(_der(certificate)).digest() == first["cert_hash"].native:
            return certificate
    raise SignatureInvalid(subject=subject, reason="the certificate that signed is not in it")


def _check_signature(info: Any, leaf: x509.Certificate, subject: str) -> None:
    if info["digest_algorithm"]["algorithm"].native != "sha256":
        raise SignatureInvalid(subject=subject, reason="digest algorithm is not sha256")
    algorithm = info["signature_algorithm"]["algorithm"].native
    signature = info["signature"].native
    digest, prehashed = hashlib.sha256(_signed_octets(info)).digest(), utils.Prehashed(hashes.SHA256())
    key = leaf.public_key()
    try:
        if algorithm == "sha256_ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(prehashed))
        elif algorithm in ("sha256_rsa", "rsassa_pkcs1v15") and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), prehashed)
        else:
            raise SignatureInvalid(
                subject=subject, reason=f"signature algorithm {algorithm} does not fit the key"
            )
    except InvalidSignature:
        raise SignatureInvalid(subject=subject, reason="the signature does not fit the attributes") from None


def _signed_octets(info: Any) -> bytes:
    """Take the attributes as they stand, with the tag under which they are signed (RFC 5652 section 5.4)."""
    return b"\x31" + bytes(info["signed_attrs"].dump())[1:]


def _issued(
    issuer: x509.Certificate, certificate: x509.Certificate, *, at: datetime, issuers_below: int
) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        fits = hash_is_sound(certificate) and may_issue(issuer, issuers_below=issuers_below)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return fits and issuer.not_valid_before_utc <= at <= issuer.not_valid_after_utc


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
