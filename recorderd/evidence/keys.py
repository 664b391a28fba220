"""The signer: a private key with its certificate, which makes detached CAdES signatures.

Contract: ``Signer`` makes CAdES-B-B signatures that `openssl cms -verify -cades` accepts, with a key from a
file or one that never leaves its token (``token_key``). It signs nothing outside its certificate's validity:
such a signature would not hold. No exception carries a secret, not even in its context.
Source: ETSI EN 319 122-1, RFC 5652, RFC 5035 (ESS signing-certificate-v2).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from recorderd.core.errors import KeyUnavailable, KeyUnusable
from recorderd.evidence.cades import CadesForm
from recorderd.evidence.certificates import create_self_signed
from recorderd.evidence.secret_files import CREDENTIAL_PREFIX, read_secret_text, resolve_secret
from recorderd.evidence.signing_key import (
    FileKey,
    PrivateKey,
    PublicKey,
    SigningKey,
    load_key,
    signature_algorithm,
    spki,
)
from recorderd.evidence.strength import CHAIN_MAX, UNREADABLE, key_flaw, usage_flaw
from recorderd.evidence.token_key import TokenKey
from recorderd.evidence.token_uri import parse_token_uri

__all__ = ["CREDENTIAL_PREFIX", "Signer", "create_self_signed", "read_secret_text", "resolve_secret"]


class Signer:
    """A private key with its certificate.

    Thread: any.
    """

    def __init__(self, *, key: SigningKey | PrivateKey, certificate_pem: bytes) -> None:
        self._key = FileKey(key) if isinstance(key, PrivateKey) else key
        self.certificate_pem = certificate_pem
        chain = x509.load_pem_x509_certificates(certificate_pem)
        self._valid_from, self._valid_to = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
        chain_der = list(dict.fromkeys(e.public_bytes(serialization.Encoding.DER) for e in chain))
        self._form = CadesForm(chain_der=chain_der, algorithm=signature_algorithm(chain[0].public_key()))

    @classmethod
    def from_files(cls, *, key_file: Path, certificate_file: Path, now: datetime | None = None) -> Signer:
        """Read key and certificate.

        Errors: KeyUnusable: unreadable, open to others, of a kind we do not use, not matching; KeyUnavailable
        when the certificate is not valid now.
        """
        key = load_key(key_file)
        pem, chain = _load_chain(certificate_file)
        if spki(key.public) != spki(chain[0].public_key()):
            raise KeyUnusable(path=key_file, reason=f"does not belong to {certificate_file.name}")
        return cls(key=key, certificate_pem=pem)._valid(certificate_file, now)

    @classmethod
    def from_token(cls, *, uri: str, certificate_file: Path, now: datetime | None = None) -> Signer:
        """Read the certificate of a key that stays in its token, and see that the key signs for it.

        Errors: KeyUnusable: no such key, one that can be exported, not matching, a wrong PIN; KeyUnavailable
        when the token is away or the certificate is not valid now.
        """
        where = parse_token_uri(uri)
        pem, chain = _load_chain(certificate_file)
        public = chain[0].public_key()
        if not isinstance(public, PublicKey) or key_flaw(public):
            raise KeyUnusable(path=certificate_file, reason=key_flaw(public))
        key = TokenKey(where, public)
        key.open()
        return cls(key=key, certificate_pem=pem)._valid(certificate_file, now)

    def check_valid(self, moment: datetime, *, name: object = "of this certificate") -> None:
        """See that the certificate is valid at a time.

        Errors: KeyUnavailable: a clock may be set right, a certificate renewed.
        """
        if not self._valid_from <= moment <= self._valid_to:
            span = f"{self._valid_from:%Y-%m-%d} to {self._valid_to:%Y-%m-%d}"
            raise KeyUnavailable(path=name, reason=f"is valid from {span} only")

    def _valid(self, certificate_file: Path, now: datetime | None) -> Signer:
        self.check_valid(now or datetime.now(tz=UTC), name=certificate_file)
        return self

    def sign_bytes(self, content: bytes, *, signing_time_utc_s: int) -> bytes:
        """Sign bytes; DER of a detached CAdES signature."""
        return self.sign_digest(hashlib.sha256(content).hexdigest(), signing_time_utc_s=signing_time_utc_s)

    def sign_digest(self, sha256_hex: str, *, signing_time_utc_s: int) -> bytes:
        """Sign content by its digest; DER of a detached CAdES signature.

        Errors: KeyUnavailable: the key is away, or its certificate not valid at that time; KeyUnusable.
        """
        attributes = self._form.attributes(sha256_hex=sha256_hex, signing_time_utc_s=signing_time_utc_s)
        self.check_valid(datetime.fromtimestamp(signing_time_utc_s, tz=UTC))
        digest = hashlib.sha256(self._form.signed_octets(attributes)).digest()
        return self._form.write(attributes=attributes, signature=self._key.sign(digest))


def _load_chain(path: Path) -> tuple[bytes, list[x509.Certificate]]:
    try:
        pem = path.read_bytes()
        chain = x509.load_pem_x509_certificates(pem)
        chain[0].public_key()
        flaw = usage_flaw(chain[0])
    except OSError as problem:
        raise KeyUnusable(path=path, reason=problem.strerror) from None
    except UNREADABLE:
        raise KeyUnusable(path=path, reason="is no certificate in PEM that we can read") from None
    if flaw:
        raise KeyUnusable(path=path, reason=flaw)
    if len(chain) > CHAIN_MAX + 1:
        reason = f"holds {len(chain)} certificates; wanted: the signer's, then at most {CHAIN_MAX} issuers"
        raise KeyUnusable(path=path, reason=reason)
    return pem, chain
