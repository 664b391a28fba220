"""The one form of a signature: detached CAdES-B-B in DER, the same parts always giving the same octets.

Why one form: the verifier puts a signature together again from its parts and compares, so that no
single octet of it can be changed unnoticed, not even one that no signature covers.
Source: RFC 5652 section 5, RFC 5035, ETSI EN 319 122-1 section 6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from asn1crypto import algos, cms, core, tsp, x509


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
