"""Trusted time: what we ask an authority for, and whether what it gave holds.

Contract: a stamp is a `.tsr` file: a DER TimeStampResp of status granted and nothing else, around the
authority's token as it came. It says that something with a given SHA-256 existed at ``gen_time``. Any bytes
give a Stamp or an EvidenceError; no I/O and no clock here. Two verifiers must agree: ours, which knows what
certificates we take (``strength``), and rfc3161-client's, which is OpenSSL's.
What may change in a stamp without our noticing, and without any meaning: an embedded certificate that is not
needed because its holder is trusted by configuration, and an ECDSA value for its twin (r, n-s).
Source: RFC 3161, RFC 5816 (ESSCertIDv2), RFC 5652 section 5, ETSI EN 319 422.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, NoReturn, TypeVar

import rfc3161_client
from asn1crypto import algos, cms, core, tsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import AuthorityUnknown, EvidenceError, TimestampInvalid
from recorderd.evidence.strength import CHAIN_MAX, RSA_MIN_BITS, usage_flaw
from recorderd.evidence.verify import TrustStore

T = TypeVar("T")

TIMESTAMP_MAX_BYTES: Final = 64 * 1024  # public authorities' stamps take 2 to 8 KiB
NONCE_BITS: Final = 64
RSA_STAMP_MIN_BITS: Final = 2048  # what public authorities still use; below RSA_MIN_BITS it counts as weak
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_ESS: Final = {"signing_certificate_v2": "", "signing_certificate": "sha1"}  # and the second's only hash
_NULL_OR_ABSENT: Final = (core.Null, core.Void, type(None))


class _Response(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
    """A TimeStampResp as the standard has it; the library's knows of no refusals, which hold no token."""

    _fields: ClassVar = [
        ("status", tsp.PKIStatusInfo),
        ("time_stamp_token", cms.ContentInfo, {"optional": True}),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a stamp that holds says."""

    gen_time_utc_ns: int
    accuracy_ms: int | None  # as the authority states it; None = not stated
    authority: str  # common name of the certificate that stamped
    certificate_sha256: str
    certificate_ends_utc_s: int  # from then on the stamp should have been renewed
    serial_number: int
    policy: str
    weaknesses: tuple[str, ...]  # algorithms that hold today and will not for long

    def __str__(self) -> str:
        return f"{self.authority} ({self.certificate_sha256[:16]})"


def make_request(*, sha256_hex: str, nonce: int) -> bytes:
    """Write the query for a stamp over something with the given digest.

    Errors: ValueError when the digest is none or the nonce out of range.
    Source: RFC 3161 section 2.4.1.
    """
    if len(digest := bytes.fromhex(sha256_hex)) != hashlib.sha256().digest_size:
        raise ValueError("not a SHA-256 digest")
    if not 0 < nonce < 1 << NONCE_BITS:
        raise ValueError(f"not a nonce of {NONCE_BITS} bits")
    imprint = {"hash_algorithm": algos.DigestAlgorithm({"algorithm": "sha256"}), "hashed_message": digest}
    request = tsp.TimeStampReq(
        {"version": "v1", "message_imprint": imprint, "nonce": nonce, "cert_req": True}
    )
    return bytes(request.dump())


def accept_response(
    raw: bytes, *, sha256_hex: str, nonce: int, trust: TrustStore, subject: str
) -> tuple[bytes, Stamp]:
    """Turn an authority's answer into the stamp that is kept, once it was verified.

    Errors: TimestampInvalid, also when the authority refused or the bytes are no answer at all;
    AuthorityUnknown.
    """
    tsr = _guarded(_normal_form, raw, subject=subject)
    return tsr, verify_timestamp(tsr, sha256_hex=sha256_hex, nonce=nonce, trust=trust, subject=subject)


def verify_timestamp(
    tsr: bytes, *, sha256_hex: str, trust: TrustStore, subject: str, nonce: int | None = None
) -> Stamp:
    """Check a stamp over something with the given digest; certificates must have been valid when it was made.

    Errors: TimestampInvalid; AuthorityUnknown when only the trust is missing.
    """
    return _guarded(_verify, tsr, sha256_hex=sha256_hex, trust=trust, subject=subject, nonce=nonce)


def inspect_timestamp(tsr: bytes, *, sha256_hex: str, subject: str) -> Stamp:
    """Check all of a stamp but who made it: for whoever carries stamps and need not know the authority.

    Errors: TimestampInvalid.
    """
    stamp, _ = _guarded(_read, tsr, sha256_hex=sha256_hex, subject=subject, nonce=None)
    return stamp


def _guarded(work: Callable[..., T], raw: bytes, **how: Any) -> T:
    try:
        return work(raw, **how)
    except EvidenceError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:  # parsers of hostile bytes, one of which panics past Exception
        raise TimestampInvalid(
            subject=how["subject"], reason=f"malformed: {type(problem).__name__}"
        ) from None


# --- the answer and its form --------------------------------------------------------------------------


def _normal_form(raw: bytes, *, subject: str) -> bytes:
    if len(raw) > TIMESTAMP_MAX_BYTES:
        _invalid(subject, f"longer than {TIMESTAMP_MAX_BYTES} octets")
    response = _Response.load(raw, strict=True)
    status = response["status"]
    if status["status"].native not in ("granted", "granted_with_mods"):
        words = status["status_string"].native or []
        text = "; ".join([*map(str, words), *map(str, status["fail_info"].native or ())])
        _invalid(subject, f"the authority refused ({status['status'].native}): {_printable(text)[:200]}")
    return _around(response["time_stamp_token"].dump())


def _around(token: bytes) -> bytes:
    """Write the one form in which a token is kept. Source: RFC 3161 section 2.4.2."""
    content = b"\x30\x03\x02\x01\x00" + token
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    length = size if len(content) < 0x80 else bytes([0x80 | len(size)]) + size
    return b"\x30" + length + content


def _check_der(content: bytes, *, subject: str) -> None:
    """Refuse what is not written with the shortest lengths: each length has one writing only."""
    rows = [(0, len(content))]
    while rows:
        at, end = rows.pop()
        while at < end:
            tag, first = content[at], content[at + 1]
            at += 2
            size = first
            if first >= 0x80:
                octets = content[at : at + (first & 0x7F)]
                size, at = int.from_bytes(octets), at + len(octets)
                if not octets or size < 0x80 or octets[0] == 0:
                    _invalid(subject, "is not in DER")
            if tag & 0x1F == 0x1F or at + size > end:
                _invalid(subject, "is not in DER")
            if tag & 0x20:
                rows.append((at, at + size))
            at += size


# --- the token ----------------------------------------------------------------------------------------


def _verify(tsr: bytes, *, sha256_hex: str, trust: TrustStore, subject: str, nonce: int | None) -> Stamp:
    stamp, chain = _read(tsr, sha256_hex=sha256_hex, subject=subject, nonce=nonce)
    at = chain.gen_time
    if not trust.vouches(chain.leaf, chain.certificates, at=at):
        raise AuthorityUnknown(subject=subject, authority=stamp)
    verifier = rfc3161_client.VerifierBuilder(roots=list(trust.certificates), nonce=nonce).build()
    try:
        verifier.verify(rfc3161_client.decode_timestamp_response(tsr), bytes.fromhex(sha256_hex))
    except rfc3161_client.VerificationError as problem:
        _invalid(subject, f"OpenSSL does not take it: {_printable(str(problem))}")
    return stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    leaf: x509.Certificate
    certificates: list[x509.Certificate]
    gen_time: datetime


def _read(tsr: bytes, *, sha256_hex: str, subject: str, nonce: int | None) -> tuple[Stamp, _Chain]:
    if len(tsr) > TIMESTAMP_MAX_BYTES:
        _invalid(subject, f"longer than {TIMESTAMP_MAX_BYTES} octets")
    _check_der(tsr, subject=subject)
    token = tsp.TimeStampResp.load(tsr, strict=True)["time_stamp_token"]
    if _around(token.dump()) != tsr:
        _invalid(subject, "is not in the form in which stamps are kept")
    if token["content_type"].native != "signed_data":
        _invalid(subject, "holds no CMS SignedData")
    signed = token["content"]
    info, certificates = _open(signed, subject)
    octets, content = _content(signed, subject)
    gen_time = _check_content(content, sha256_hex=sha256_hex, nonce=nonce, subject=subject)
    leaf, ess = _leaf(info, certificates, subject)
    _check_signature(info, octets, leaf, subject)
    weaknesses = _check_certificate(leaf, at=gen_time, subject=subject)
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    stamp = Stamp(
        gen_time_utc_ns=int(gen_time.timestamp()) * NS_PER_S + gen_time.microsecond * 1000,
        accuracy_ms=_accuracy_ms(content["accuracy"].native),
        authority=_printable(str(names[0].value) if names else leaf.subject.rfc4514_string()),
        certificate_sha256=hashlib.sha256(_der(leaf)).hexdigest(),
        certificate_ends_utc_s=int(leaf.not_valid_after_utc.timestamp()),
        serial_number=content["serial_number"].native,
        policy=content["policy"].dotted,
        weaknesses=(*weaknesses, *([f"names its certificate by {ess}"] if ess else [])),
    )
    return stamp, _Chain(leaf=leaf, certificates=certificates, gen_time=gen_time)


def _open(signed: Any, subject: str) -> tuple[Any, list[x509.Certificate]]:
    if signed["version"].native != "v3":
        _invalid(subject, "is not of CMS version 3")
    if len(signed["signer_infos"]) != 1:
        _invalid(subject, f"{len(signed['signer_infos'])} signers, one is wanted")
    info = signed["signer_infos"][0]
    if info["version"].native != "v1" or not isinstance(info["sid"].chosen, cms.IssuerAndSerialNumber):
        _invalid(subject, "does not name its signer by issuer and serial number")
    if isinstance(signed["crls"], cms.RevocationInfoChoices) or isinstance(
        info["unsigned_attrs"], cms.CMSAttributes
    ):
        _invalid(subject, "holds parts that nobody signed")
    if len(signed["certificates"]) > CHAIN_MAX + 2:  # with the root, which some add
        _invalid(subject, f"more than {CHAIN_MAX + 2} certificates in it")
    algorithms = [*signed["digest_algorithms"], info["digest_algorithm"]]
    if len(algorithms) != 2 or algorithms[0]["algorithm"].native != algorithms[1]["algorithm"].native:
        _invalid(subject, "digest algorithms differ")
    if not all(isinstance(entry["parameters"], _NULL_OR_ABSENT) for entry in algorithms):
        _invalid(subject, "digest algorithm with parameters")
    certificates = [x509.load_der_x509_certificate(entry.chosen.dump()) for entry in signed["certificates"]]
    # The count of unused bits before a certificate's signature is its one octet that nobody else checks.
    if not all(_der(entry).endswith(b"\0" + entry.signature) for entry in certificates):
        _invalid(subject, "a certificate's own signature has unused bits")
    return info, certificates


def _content(signed: Any, subject: str) -> tuple[bytes, Any]:
    """Take what was signed: its octets, and what they say."""
    inner = signed["encap_content_info"]
    if inner["content_type"].native != "tst_info" or not isinstance(
        inner["content"], core.ParsableOctetString
    ):
        _invalid(subject, "holds no TSTInfo")
    octets = bytes(inner["content"])
    if octets != inner["content"].contents:
        _invalid(subject, "is not in DER")
    _check_der(octets, subject=subject)
    return octets, tsp.TSTInfo.load(octets, strict=True)


def _check_content(content: Any, *, sha256_hex: str, nonce: int | None, subject: str) -> datetime:
    if content["version"].native != "v1":
        _invalid(subject, "TSTInfo is not of version 1")
    imprint = content["message_imprint"]
    if imprint["hash_algorithm"]["algorithm"].native != "sha256":
        _invalid(subject, "is over another hash than sha256")
    if imprint["hashed_message"].native != bytes.fromhex(sha256_hex):
        _invalid(subject, "was made over something else")
    if nonce is not None and content["nonce"].native != nonce:
        _invalid(subject, "answers another question: the nonce differs")
    extensions = content["extensions"] if isinstance(content["extensions"], tsp.Extensions) else ()
    if any(entry["critical"].native for entry in extensions):
        _invalid(subject, "has a critical extension")
    moment: datetime = content["gen_time"].native
    return moment


def _leaf(info: Any, certificates: list[x509.Certificate], subject: str) -> tuple[x509.Certificate, str]:
    """Find the certificate that signed, by its signed hash; with the name of that hash when it is weak."""
    attributes: dict[str, Any] = {}
    for attribute in info["signed_attrs"]:
        kind = attribute["type"].native
        if kind in attributes or len(attribute["values"]) != 1:
            _invalid(subject, f"attribute {kind} stands twice")
        attributes[kind] = attribute["values"][0]
    found = [kind for kind in _ESS if kind in attributes]
    if not found:
        _invalid(subject, "does not name its certificate by hash")
    first = attributes[found[0]]["certs"][0]
    hash_name = _ESS[found[0]] or first["hash_algorithm"]["algorithm"].native
    if hash_name not in (*_HASHES, "sha1"):
        _invalid(subject, f"names its certificate by {hash_name}")
    wanted = info["sid"].chosen
    for certificate in certificates:
        if (
            certificate.serial_number == wanted["serial_number"].native
            and certificate.issuer.public_bytes() == wanted["issuer"].dump()
            and hashlib.new(hash_name, _der(certificate)).digest() == first["cert_hash"].native
        ):
            return certificate, hash_name if hash_name == "sha1" else ""
    _invalid(subject, "the certificate that signed is not in it")


def _check_signature(info: Any, octets: bytes, leaf: x509.Certificate, subject: str) -> None:
    attributes = {attribute["type"].native: attribute["values"][0] for attribute in info["signed_attrs"]}
    hash_name = info["digest_algorithm"]["algorithm"].native
    if hash_name not in _HASHES:
        _invalid(subject, f"digest algorithm is {hash_name}")
    if attributes["content_type"].native != "tst_info":
        _invalid(subject, "content type is not TSTInfo")
    if attributes["message_digest"].native != hashlib.new(hash_name, octets).digest():
        _invalid(subject, "the content is not what was signed")
    signed_octets = b"\x31" + bytes(info["signed_attrs"].dump())[1:]  # RFC 5652 section 5.4
    how, signature, key = info["signature_algorithm"], info["signature"].native, leaf.public_key()
    if not isinstance(how["parameters"], _NULL_OR_ABSENT):
        _invalid(subject, "signature algorithm with parameters")
    name = how["algorithm"].native
    try:
        if name == f"{hash_name}_ecdsa" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed_octets, ec.ECDSA(_HASHES[hash_name]))
        elif name in (f"{hash_name}_rsa", "rsassa_pkcs1v15") and isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed_octets, padding.PKCS1v15(), _HASHES[hash_name])
        else:
            _invalid(subject, f"signature algorithm {name} does not fit the key or the digest")
    except InvalidSignature:
        _invalid(subject, "the signature does not fit the attributes")


def _check_certificate(leaf: x509.Certificate, *, at: datetime, subject: str) -> tuple[str, ...]:
    """Refuse a certificate that may not stamp; tell what of it grows weak. Source: RFC 3161 section 2.3."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        _invalid(subject, "the certificate is not for time stamping")
    if not extension.critical or list(extension.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        _invalid(subject, "the certificate is not for time stamping alone, or does not say so critically")
    if flaw := usage_flaw(leaf):
        _invalid(subject, f"the certificate does not do: {flaw}")
    if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
        _invalid(subject, "the certificate was not valid when it stamped")
    key = leaf.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
    ):
        return ()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_STAMP_MIN_BITS:
        return () if key.key_size >= RSA_MIN_BITS else (f"RSA of {key.key_size} bits",)
    _invalid(subject, "the certificate's key is too weak or of an unknown kind")


def _accuracy_ms(accuracy: Any) -> int | None:
    if accuracy is None:
        return None
    micros = (accuracy["seconds"] or 0) * 1_000_000 + (accuracy["millis"] or 0) * 1000
    return int(-(-(micros + (accuracy["micros"] or 0)) // 1000))


def _invalid(subject: str, reason: str) -> NoReturn:
    raise TimestampInvalid(subject=subject, reason=reason)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
