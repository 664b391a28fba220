"""The one form of a signature: detached CAdES-B-B in DER, the same parts always giving the same octets.

Two ways lead to it: ``assemble`` by asn1crypto, which the verifier takes, and ``CadesForm``, which
writes what changes from signature to signature into octets that do not: a tenth of the time.
Why one form: the verifier puts a signature together again from its parts and compares, so that no
single octet of it can be changed unnoticed, not even one that no signature covers.
Source: RFC 5652 section 5, RFC 5035, ETSI EN 319 122-1 section 6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from asn1crypto import algos, cms, core, tsp, x509

from recorderd.evidence.der import SET, read_element, tlv

_UTC_TIME: Final = 0x17


def signed_attributes(*, sha256_hex: str, signing_time_utc_s: int, leaf_der: bytes) -> cms.CMSAttributes:
    """Make the attributes that are signed: what, when, with which certificate.

    Errors: ValueError when the digest is none.
    """
    if len(digest := bytes.fromhex(sha256_hex)) != hashlib.sha256().digest_size:
        raise ValueError("not a SHA-256 digest")
    moment = datetime.fromtimestamp(signing_time_utc_s, tz=UTC)
    # RFC 5652 section 11.3: UTCTime through 2049, GeneralizedTime after.
    time = {"generalized_time": core.GeneralizedTime(moment)}
    if moment.year < 2050:
        time = {"utc_time": core.UTCTime(moment)}
    certificate = tsp.SigningCertificateV2({"certs": [{"cert_hash": hashlib.sha256(leaf_der).digest()}]})
    values = {
        "content_type": cms.ContentType("data"),
        "message_digest": core.OctetString(digest),
        "signing_time": cms.Time(time),
        "signing_certificate_v2": certificate,
    }
    return cms.CMSAttributes(
        [cms.CMSAttribute({"type": kind, "values": [value]}) for kind, value in values.items()]
    )


def assemble(
    *, chain_der: Sequence[bytes], attributes: cms.CMSAttributes, algorithm: str, signature: bytes
) -> bytes:
    """Put a signature together; the first certificate of the chain is the signer's."""
    chain = [x509.Certificate.load(der) for der in chain_der]
    signer = {"issuer": chain[0].issuer, "serial_number": chain[0].serial_number}
    sha256 = {"algorithm": "sha256"}
    info = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier({"issuer_and_serial_number": cms.IssuerAndSerialNumber(signer)}),
            "digest_algorithm": algos.DigestAlgorithm(sha256),
            "signed_attrs": attributes,
            "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": algorithm}),
            "signature": signature,
        }
    )
    signed = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [algos.DigestAlgorithm(sha256)],
            "encap_content_info": {"content_type": "data"},
            "certificates": [cms.CertificateChoices({"certificate": entry}) for entry in chain],
            "signer_infos": [info],
        }
    )
    return bytes(cms.ContentInfo({"content_type": "signed_data", "content": signed}).dump())


class CadesForm:
    """What all signatures of one certificate have in common."""

    def __init__(self, *, chain_der: Sequence[bytes], algorithm: str) -> None:
        leaf = x509.Certificate.load(chain_der[0])
        known = signed_attributes(sha256_hex="0" * 64, signing_time_utc_s=0, leaf_der=chain_der[0])
        kinds = {entry["type"].native: entry for entry in known}
        self._fixed = [kinds[kind].dump() for kind in ("content_type", "signing_certificate_v2")]
        self._digest_type, self._time_type = (
            kinds[kind]["type"].dump() for kind in ("message_digest", "signing_time")
        )
        issuer = cms.IssuerAndSerialNumber({"issuer": leaf.issuer, "serial_number": leaf.serial_number})
        sha256 = algos.DigestAlgorithm({"algorithm": "sha256"}).dump()
        one, content = core.Integer(1).dump(), cms.ContentType("data").dump()
        self.signer_head = one + issuer.dump() + sha256
        self.signer_algorithm = algos.SignedDigestAlgorithm({"algorithm": algorithm}).dump()
        certificates = tlv(0xA0, *sorted(chain_der))
        self.head = one + tlv(0x31, sha256) + tlv(0x30, content) + certificates
        self._kind = cms.ContentType("signed_data").dump()

    def attributes(self, *, sha256_hex: str, signing_time_utc_s: int) -> bytes:
        """Write what is signed, without its outer tag.

        Errors: ValueError when the digest is none.
        """
        if len(digest := bytes.fromhex(sha256_hex)) != hashlib.sha256().digest_size:
            raise ValueError("not a SHA-256 digest")
        moment = datetime.fromtimestamp(signing_time_utc_s, tz=UTC)
        tag, text = (_UTC_TIME, "%y%m%d%H%M%SZ") if moment.year < 2050 else (0x18, "%Y%m%d%H%M%SZ")
        time = tlv(tag, moment.strftime(text).encode())
        return b"".join(
            sorted(
                [
                    *self._fixed,
                    tlv(0x30, self._digest_type, tlv(0x31, tlv(0x04, digest))),
                    tlv(0x30, self._time_type, tlv(0x31, time)),
                ]
            )
        )

    def signing_time(self, attributes: bytes) -> datetime:
        """Read the time that attributes tell.

        Errors: ValueError when there is none.
        """
        found = read_element(attributes, attributes.index(self._time_type) + len(self._time_type), tag=SET)
        found = read_element(attributes, found.start)
        how = "%y%m%d%H%M%SZ" if found.tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
        text = attributes[found.start : found.end].decode("ascii")
        return datetime.strptime(text, how).replace(tzinfo=UTC)

    @staticmethod
    def signed_octets(attributes: bytes) -> bytes:
        """Give the octets that the signature is made over. Source: RFC 5652 section 5.4."""
        return tlv(0x31, attributes)

    def write(self, *, attributes: bytes, signature: bytes) -> bytes:
        """Put a signature together."""
        signer = tlv(
            0x30, self.signer_head, tlv(0xA0, attributes), self.signer_algorithm, tlv(0x04, signature)
        )
        signed = tlv(0x30, self.head, tlv(0x31, signer))
        return tlv(0x30, self._kind, tlv(0xA0, signed))
