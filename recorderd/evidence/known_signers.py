"""Signatures of certificates that were looked at before: the same verdict, for a tenth of the time.

Contract: a certificate becomes known when the verifier found a signature of it to fit, and it fit to sign.
``recognise`` then writes the whole signature again from what is known and the three parts that change
(digest, time, signature) and compares every octet; whatever does not come out the same is for the verifier
to judge from the beginning. So nothing is taken here that it would refuse, and nothing refused.
Source: ``cades`` (the one form of a signature).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from recorderd.evidence.cades import CadesForm
from recorderd.evidence.der import OCTET_STRING, read_element

KNOWN_LIMIT: Final = (
    64  # certificates; an archive of a hundred recorders reads one recorder's after the other
)
_ATTRIBUTES: Final = 0xA0  # [0] IMPLICIT, RFC 5652 section 5.3


@dataclass(frozen=True, slots=True)
class KnownSigner:
    """A certificate that may sign, with the issuers that lie beside it, and the form of its signatures."""

    leaf: x509.Certificate
    certificates: tuple[x509.Certificate, ...]
    form: CadesForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """A signature that fits: whose it is, and when it was made by his clock."""

    signer: KnownSigner
    moment: datetime


class KnownSigners:
    """Remembers certificates.

    Thread: any.
    """

    def __init__(self, limit: int = KNOWN_LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._signers: OrderedDict[bytes, KnownSigner] = OrderedDict()  # by the head of their signatures

    def learn(self, leaf: x509.Certificate, certificates: list[x509.Certificate], algorithm: str) -> None:
        """Remember the certificate of a signature that was taken; the oldest is forgotten."""
        others = [entry for entry in certificates if entry != leaf]
        chain = [entry.public_bytes(serialization.Encoding.DER) for entry in (leaf, *others)]
        form = CadesForm(chain_der=chain, algorithm=algorithm)
        with self._lock:
            self._signers[form.head] = KnownSigner(leaf, tuple(certificates), form)
            self._signers.move_to_end(form.head)
            while len(self._signers) > self._limit:
                self._signers.popitem(last=False)

    def recognise(self, der: bytes, *, sha256_hex: str) -> Recognised | None:
        """Give the signer of a signature over this digest that fits to the last octet; else nothing."""
        with self._lock:
            signers = [signer for head, signer in self._signers.items() if head in der]
        for signer in signers:
            try:
                if (moment := _fits(der, signer, sha256_hex)) is not None:
                    return Recognised(signer=signer, moment=moment)
            except (ValueError, InvalidSignature):
                continue
        return None


def _fits(der: bytes, signer: KnownSigner, sha256_hex: str) -> datetime | None:
    form = signer.form
    at = der.index(form.signer_head) + len(form.signer_head)
    found = read_element(der, at, tag=_ATTRIBUTES)
    attributes = der[found.start : found.end]
    found = read_element(der, found.end + len(form.signer_algorithm), tag=OCTET_STRING)
    signature = der[found.start : found.end]
    moment = form.signing_time(attributes)
    again = form.attributes(sha256_hex=sha256_hex, signing_time_utc_s=int(moment.timestamp()))
    if again != attributes or form.write(attributes=attributes, signature=signature) != der:
        return None
    key, signed = signer.leaf.public_key(), form.signed_octets(attributes)
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    else:
        return None
    return moment
