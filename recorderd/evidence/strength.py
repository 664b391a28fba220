"""What we ask of a key and of a certificate, the same when signing and when verifying.

Source: RFC 5280 section 4.2.1.3 (key usage); NIST SP 800-57 part 1 (128 bits of strength).
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CHAIN_MAX: Final = 4  # issuers above a signer; customers' CAs have one or two
RSA_MIN_BITS: Final = 3072
UNREADABLE: Final = (  # what cryptography raises of certificates and keys that it does not understand
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


def key_flaw(key: object) -> str:
    """Say why a public key may not sign evidence; empty when it may."""
    if isinstance(key, rsa.RSAPublicKey):
        fits = key.key_size >= RSA_MIN_BITS
        return "" if fits else f"RSA of {key.key_size} bits, {RSA_MIN_BITS} are needed"
    if isinstance(key, ec.EllipticCurvePublicKey):
        fits = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
        return "" if fits else f"curve {key.curve.name} is neither P-256 nor P-384"
    return "is neither ECDSA nor RSA"


def usage_flaw(leaf: x509.Certificate) -> str:
    """Say why a certificate may not sign evidence; empty when it may.

    Errors: ValueError when its extensions are malformed.
    """
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    fits = usage.digital_signature or usage.content_commitment
    return "" if fits else "its key usage permits neither digitalSignature nor nonRepudiation"


def may_issue(issuer: x509.Certificate, *, issuers_below: int) -> bool:
    """Tell whether a certificate is an authority's with room for that many authorities below it.

    Errors: ValueError when its extensions are malformed.
    """
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    try:
        signs = issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        signs = True
    deep_enough = constraints.path_length is None or issuers_below <= constraints.path_length
    return constraints.ca and signs and deep_enough


def hash_is_sound(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate was issued over a hash that holds (EdDSA brings its own)."""
    used = certificate.signature_hash_algorithm
    return used is None or isinstance(used, _HASHES)
