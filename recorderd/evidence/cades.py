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

from asn1crypto import algos, cms, core, tsp, x509

from recorderd.evidence.der import OCTET_STRING, read_heading, tlv


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
        self._signer_head = one + issuer.dump() + sha256
        self._signer_algorithm = algos.SignedDigestAlgorithm({"algorithm": algorithm}).dump()
        certificates = tlv(0xA0, *sorted(chain_der))
        self._signed_head = one + tlv(0x31, sha256) + tlv(0x30, content) + certificates
        self._kind = cms.ContentType("signed_data").dump()

    def attributes(self, *, sha256_hex: str, signing_time_utc_s: int) -> bytes:
        """Write what is signed, without its outer tag.

        Errors: ValueError when the digest is none.
        """
        if len(digest := bytes.fromhex(sha256_hex)) != hashlib.sha256().digest_size:
            raise ValueError("not a SHA-256 digest")
        moment = datetime.fromtimestamp(signing_time_utc_s, tz=UTC)
        tag, text = (0x17, "%y%m%d%H%M%SZ") if moment.year < 2050 else (0x18, "%Y%m%d%H%M%SZ")
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

    @staticmethod
    def signed_octets(attributes: bytes) -> bytes:
        """Give the octets that the signature is made over. Source: RFC 5652 section 5.4."""
        return tlv(0x31, attributes)

    def write(self, *, attributes: bytes, signature: bytes) -> bytes:
        """Put a signature together."""
        signer = tlv(
            0x30, self._signer_head, tlv(0xA0, attributes), self._signer_algorithm, tlv(0x04, signature)
        )
        signed = tlv(0x30, self._signed_head, tlv(0x31, signer))
        return tlv(0x30, self._kind, tlv(0xA0, signed))

    def parts(self, der: bytes) -> tuple[int, bytes] | None:
        """Find the time and the signature in what looks like one of ours; ``write`` tells whether it is.

        A time behind 2049 is left to whoever reads the long way.
        """
        time_head = self._time_type + b"\x31\x0f\x17\x0d"  # a set of one UTCTime of 13 octets
        at, behind = der.find(time_head), der.rfind(self._signer_algorithm)
        if at < 0 or behind < 0:
            return None
        text = der[at + len(time_head) :][:13]
        try:
            moment = datetime.strptime(text.decode("ascii"), "%y%m%d%H%M%SZ").replace(tzinfo=UTC)
            signature = read_heading(der, behind + len(self._signer_algorithm), tag=OCTET_STRING)
        except ValueError:
            return None
        return int(moment.timestamp()), der[signature.start : signature.end]
