"""A signer whose signature held before: his next one costs a hundredth of the time.

Rule: a signature passes here only when it is, octet for octet, what ``CadesForm`` writes for his
certificates, this digest and the time and signature that stand in it, and his key verifies it. Everything
else is no answer, and is read the long way by ``verify``, which also says what is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from recorderd.evidence.cades import CadesForm

KNOWN_LIMIT: Final = 16  # signers that are remembered; the oldest goes first
_PREHASHED: Final = utils.Prehashed(hashes.SHA256())


class KnownSigner:
    """One certificate with those above it, checked the long way before.

    Thread: any.
    """

    def __init__(self, *, leaf: x509.Certificate, others: Sequence[x509.Certificate], algorithm: str) -> None:
        self.leaf = leaf
        self.certificates = [leaf, *others]
        chain_der = [entry.public_bytes(serialization.Encoding.DER) for entry in self.certificates]
        self.certificate_sha256 = hashlib.sha256(chain_der[0]).hexdigest()
        self._form = CadesForm(chain_der=chain_der, algorithm=algorithm)
        self._key = leaf.public_key()

    def signed_at(self, signature_der: bytes, *, sha256_hex: str) -> datetime | None:
        """Say when he signed this digest with exactly these octets; None when that cannot be told."""
        parts = self._form.parts(signature_der)
        if parts is None:
            return None
        signing_time_utc_s, signature = parts
        attributes = self._form.attributes(sha256_hex=sha256_hex, signing_time_utc_s=signing_time_utc_s)
        if self._form.write(attributes=attributes, signature=signature) != signature_der:
            return None
        moment = datetime.fromtimestamp(signing_time_utc_s, tz=UTC)
        digest = hashlib.sha256(self._form.signed_octets(attributes)).digest()
        return moment if self._is_valid(moment) and self._holds(signature, digest) else None

    def _is_valid(self, moment: datetime) -> bool:
        return self.leaf.not_valid_before_utc <= moment <= self.leaf.not_valid_after_utc

    def _holds(self, signature: bytes, digest: bytes) -> bool:
        try:
            if isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, digest, ec.ECDSA(_PREHASHED))
            elif isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, digest, padding.PKCS1v15(), _PREHASHED)
            else:
                return False
        except InvalidSignature:
            return False
        return True
