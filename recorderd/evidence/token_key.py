"""A key that never leaves its token: signing through PKCS #11.

Contract: a key that could be exported is refused, and so is one that does not sign for the public half we
know. A token that went away gives KeyUnavailable and is looked for again at the next signature; a PIN that
was refused is not tried a second time, for a token locks itself after a few.
The library is entered by one thread at a time. Source: PKCS #11 v2.40 (C_Sign, CKM_ECDSA, CKM_RSA_PKCS).
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final, TypeVar

import pkcs11
from asn1crypto import core, keys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters

from recorderd.core.errors import KeyUnavailable, KeyUnusable
from recorderd.evidence.secret_files import read_secret_text, resolve_secret
from recorderd.evidence.signing_key import PREHASHED, KeyKind, PublicKey
from recorderd.evidence.strength import RSA_MIN_BITS, key_flaw
from recorderd.evidence.token_uri import TokenUri

T = TypeVar("T")

_LOCK: Final = threading.RLock()
# RFC 8017 section 9.2, note 1: what stands before a SHA-256 digest.
_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")
_PIN_REFUSED: Final = (
    pkcs11.PinIncorrect,
    pkcs11.PinLocked,
    pkcs11.PinExpired,
    pkcs11.PinInvalid,
    pkcs11.PinLenRange,
    pkcs11.UserPinNotInitialized,
)
_CURVES: Final = {KeyKind.P256: "secp256r1", KeyKind.P384: "secp384r1"}


class TokenKey:
    """A private key in a token.

    Thread: any; one waits for the other.
    """

    def __init__(self, uri: TokenUri, public: PublicKey) -> None:
        self._uri = uri
        self._public = public
        self._session: Any = None
        self._key: Any = None
        self._refused = ""

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return self._public

    def open(self) -> None:
        """Find the key and see that it signs for the public half.

        Errors: KeyUnusable, KeyUnavailable.
        """
        with _LOCK:
            self._guarded(self._open)

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest: ECDSA in DER, or RSA with PKCS #1 v1.5.

        Errors: KeyUnusable, KeyUnavailable.
        """
        with _LOCK:
            if self._key is not None:
                try:
                    return self._sign(digest)
                except pkcs11.PKCS11Error:
                    self._drop()  # its session or its token is gone: one more try with a fresh one
            self._guarded(self._open)
            return self._guarded(lambda: self._sign(digest))

    def _guarded(self, work: Callable[[], T]) -> T:
        if self._refused:
            raise KeyUnusable(path=self._uri, reason=self._refused)
        try:
            return work()
        except _PIN_REFUSED as problem:
            self._drop()
            self._refused = f"the token does not take the PIN ({_reason(problem)}); it is not tried again"
        except pkcs11.PKCS11Error as problem:
            self._drop()
            raise KeyUnavailable(path=self._uri, reason=f"the token says {_reason(problem)}") from None
        except BaseException:
            self._drop()
            raise
        raise KeyUnusable(path=self._uri, reason=self._refused)

    def _open(self) -> None:
        try:
            self._open_once()
        except _PIN_REFUSED:
            raise
        except (pkcs11.PKCS11Error, KeyUnavailable):  # a library may not see by itself that a token is back
            self._drop()
            _library(self._uri).reinitialize()
            self._open_once()

    def _open_once(self) -> None:
        self._session = open_session(self._uri)
        self._key = _the_key(self._session, self._uri)
        if self._key[Attribute.EXTRACTABLE] or not self._key[Attribute.SENSITIVE]:
            raise KeyUnusable(path=self._uri, reason="can be exported from its token")
        probe = hashlib.sha256(secrets.token_bytes(32)).digest()
        if not _holds(self._public, self._sign(probe), probe):
            raise KeyUnusable(path=self._uri, reason="does not belong to the certificate")

    def _sign(self, digest: bytes) -> bytes:
        if isinstance(self._public, ec.EllipticCurvePublicKey):
            raw = bytes(self._key.sign(digest, mechanism=Mechanism.ECDSA))
            half = len(raw) // 2
            return utils.encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))
        return bytes(self._key.sign(_SHA256_INFO + digest, mechanism=Mechanism.RSA_PKCS))

    def _drop(self) -> None:
        session, self._session, self._key = self._session, None, None
        if session is not None:
            with suppress(pkcs11.PKCS11Error):  # it went with its token
                session.close()


def open_session(uri: TokenUri, *, writes: bool = False) -> Any:
    """Log in to the token that a URI names.

    Errors: KeyUnusable, KeyUnavailable; PKCS11Error of what the token refuses.
    """
    pin = read_secret_text(resolve_secret(uri.pin_source))
    token = _token(uri)
    try:
        return token.open(user_pin=pin, rw=writes)
    except pkcs11.UserAlreadyLoggedIn:  # by another key of this process
        return token.open(rw=writes)


def take_or_make(uri: TokenUri, kind: KeyKind) -> tuple[TokenKey, bool]:
    """Take the key that a URI names, or make it in the token when there is none; tell whether it was made.

    Errors: KeyUnusable, KeyUnavailable.
    """
    with _LOCK:
        try:
            session = open_session(uri, writes=True)
            try:
                made = not _find(session, uri, ObjectClass.PRIVATE_KEY)
                if made:
                    _make(session, uri, kind)
                public = _public_of(session, uri)
            finally:
                session.close()
        except pkcs11.PKCS11Error as problem:
            kinds = KeyUnusable if isinstance(problem, _PIN_REFUSED) else KeyUnavailable
            raise kinds(path=uri, reason=f"the token says {_reason(problem)}") from None
        key = TokenKey(uri, public)
        key.open()
        return key, made


def _token(uri: TokenUri) -> Any:
    found = _tokens(_library(uri), uri)
    if not found:
        raise KeyUnavailable(path=uri, reason="no such token is there")
    if len(found) > 1:
        raise KeyUnusable(path=uri, reason=f"{len(found)} tokens fit; tell them apart by serial")
    return found[0]


def _library(uri: TokenUri) -> Any:
    if not uri.module.is_file():
        raise KeyUnusable(path=uri.module, reason="is not there: the PKCS #11 library of the token")
    try:
        return pkcs11.lib(str(uri.module))
    except pkcs11.PKCS11Error as problem:
        raise KeyUnavailable(path=uri.module, reason=f"the library says {_reason(problem)}") from None


def _tokens(library: Any, uri: TokenUri) -> list[Any]:
    wanted = {
        "label": uri.token,
        "serial": uri.serial.encode(),
        "manufacturer_id": uri.manufacturer,
        "model": uri.model,
    }
    return [
        token
        for token in _present(library)
        if all(not value or getattr(token, name) == value for name, value in wanted.items())
    ]


def _present(library: Any) -> Iterator[Any]:
    for slot in library.get_slots(token_present=True):
        try:
            yield slot.get_token()
        except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
            continue


def _find(session: Any, uri: TokenUri, kind: ObjectClass) -> list[Any]:
    wanted: dict[Attribute, Any] = {Attribute.CLASS: kind}
    if uri.object:
        wanted[Attribute.LABEL] = uri.object
    if uri.id:
        wanted[Attribute.ID] = uri.id
    return list(session.get_objects(wanted))


def _the_key(session: Any, uri: TokenUri) -> Any:
    found = _find(session, uri, ObjectClass.PRIVATE_KEY)
    if len(found) != 1:
        reason = "is not in its token" if not found else f"is one of {len(found)}; tell them apart by id"
        raise KeyUnusable(path=uri, reason=reason)
    return found[0]


def _make(session: Any, uri: TokenUri, kind: KeyKind) -> None:
    how = {
        "id": uri.id or secrets.token_bytes(8),
        "label": uri.object,
        "store": True,
        "capabilities": pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
        "private_template": {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True},
    }
    if kind is KeyKind.RSA3072:
        session.generate_keypair(KeyType.RSA, RSA_MIN_BITS, **how)
        return
    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters(_CURVES[kind])}
    session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair(**how)


def _public_of(session: Any, uri: TokenUri) -> PublicKey:
    """Read the public half, which a token shows to everybody."""
    identity = _the_key(session, uri)[Attribute.ID]
    halves = session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: identity})
    half = next(iter(list(halves)), None)
    if half is None:
        raise KeyUnusable(path=uri, reason="has no public half in its token")
    if half[Attribute.KEY_TYPE] is KeyType.EC:
        curve = keys.ECDomainParameters.load(half[Attribute.EC_PARAMS])
        point = bytes(core.OctetString.load(half[Attribute.EC_POINT]))
        body: dict[str, Any] = {"algorithm": {"algorithm": "ec", "parameters": curve}, "public_key": point}
    elif half[Attribute.KEY_TYPE] is KeyType.RSA:
        modulus, exponent = (
            int.from_bytes(half[name]) for name in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT)
        )
        numbers = keys.RSAPublicKey({"modulus": modulus, "public_exponent": exponent})
        body = {"algorithm": {"algorithm": "rsa", "parameters": core.Null()}, "public_key": numbers}
    else:
        raise KeyUnusable(path=uri, reason="is neither ECDSA nor RSA")
    public = serialization.load_der_public_key(keys.PublicKeyInfo(body).dump())
    if not isinstance(public, PublicKey) or key_flaw(public):
        raise KeyUnusable(path=uri, reason=key_flaw(public))
    return public


def _holds(public: PublicKey, signature: bytes, digest: bytes) -> bool:
    try:
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, digest, ec.ECDSA(PREHASHED))
        else:
            public.verify(signature, digest, padding.PKCS1v15(), PREHASHED)
    except InvalidSignature:
        return False
    return True


def _reason(problem: Exception) -> str:
    return f"{type(problem).__name__} {problem}".strip()
