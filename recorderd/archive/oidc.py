"""Coming in by an OpenID provider: authorization code with PKCE, state and nonce.

Contract: who somebody is, the provider says by a signed token that was made for us, for this very attempt,
just now; which account that is, we say. An attempt is good once, for ten minutes, in the browser that began
it. The provider is asked over TLS, never elsewhere than its own document says; what it answers is bounded.
Source: OpenID Connect Core 1.0 section 3.1, Discovery 1.0; RFC 7636 (PKCE), RFC 9207 (iss in the answer).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import delete, select

from recorderd.archive.accounts_tables import ACCOUNTS, OIDC_ATTEMPTS
from recorderd.archive.asking import ask_http
from recorderd.archive.database import Database
from recorderd.archive.secrets_of_people import fingerprint_of, new_secret
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.errors import ProviderFailed, SignInRefused
from recorderd.wire.urls import is_safe_url

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "RS384", "ES384", "RS512", "ES512")  # never "none", no secret
ATTEMPT_S: Final = 600
ATTEMPTS_MAX: Final = 1000  # that are under way; anybody can begin one
_DOCUMENT_S: Final = 3600
_LEEWAY_S: Final = 60  # clocks differ
_TIMEOUT_S: Final = 10.0
_AGAIN_S: Final = 10  # a provider that gave no document is asked again after so long
_ANSWER_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """Which provider, and as whom we are known there."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    return_url: str
    ca_file: Path | None = None


class Oidc:
    """Attempts to come in by one provider.

    Thread: any.
    Errors: CatalogueFailed; ProviderFailed; SignInRefused.
    """

    def __init__(self, database: Database, settings: ProviderSettings, *, clock: Clock) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._document: tuple[int, dict[str, Any]] | None = None
        self._failed: tuple[int, str] | None = None  # when it gave no document, and why

    def begin(self) -> tuple[str, str]:
        """Begin an attempt; return where the browser goes, and the state that it keeps meanwhile."""
        endpoint = str(self._provider()["authorization_endpoint"])
        state, nonce, verifier = new_secret(), new_secret(), new_secret()
        now_utc_s = self._now_utc_s()
        with self._database.write() as connection:
            ended = OIDC_ATTEMPTS.c.expires_utc_s <= now_utc_s
            connection.execute(delete(OIDC_ATTEMPTS).where(ended))
            under_way = connection.execute(select(OIDC_ATTEMPTS.c.state_sha256)).all()
            if len(under_way) >= ATTEMPTS_MAX:
                raise SignInRefused(reason="too many attempts are under way")
            row = {"state_sha256": fingerprint_of(state), "nonce": nonce, "verifier": verifier}
            connection.execute(OIDC_ATTEMPTS.insert().values(**row, expires_utc_s=now_utc_s + ATTEMPT_S))
        query = {
            **{"response_type": "code", "scope": "openid", "client_id": self._settings.client_id},
            **{"redirect_uri": self._settings.return_url, "state": state, "nonce": nonce},
            **{"code_challenge": _challenge(verifier), "code_challenge_method": "S256"},
        }
        mark = "&" if "?" in endpoint else "?"
        return f"{endpoint}{mark}{urllib.parse.urlencode(query)}", state

    def finish(self, *, state: str, kept_state: str, code: str, issuer: str = "") -> str:
        """End an attempt; return the account of whom the provider vouches for."""
        if not state or not hmac.compare_digest(state.encode(), kept_state.encode()):
            raise SignInRefused(reason="the attempt began in another browser")
        if issuer and issuer != self._settings.issuer:
            raise SignInRefused(reason="the answer is another provider's")
        nonce, verifier = self._take(state)
        subject = self._subject(self._exchange(code, verifier), nonce)
        with self._database.read() as connection:
            query = select(ACCOUNTS.c.name).where(ACCOUNTS.c.oidc_subject == subject)
            account = connection.execute(query).scalar()
        if not subject or account is None:
            raise SignInRefused(reason="the provider's person has no account here")
        return str(account)

    def _take(self, state: str) -> tuple[str, str]:
        """Use an attempt up."""
        mine = OIDC_ATTEMPTS.c.state_sha256 == fingerprint_of(state)
        with self._database.write() as connection:
            row = connection.execute(select(OIDC_ATTEMPTS).where(mine)).first()
            connection.execute(delete(OIDC_ATTEMPTS).where(mine))
        if row is None or row.expires_utc_s <= self._now_utc_s():
            raise SignInRefused(reason="the attempt has ended or was used")
        return str(row.nonce), str(row.verifier)

    def _exchange(self, code: str, verifier: str) -> str:
        form = {
            **{"grant_type": "authorization_code", "code": code, "code_verifier": verifier},
            **{"redirect_uri": self._settings.return_url, "client_id": self._settings.client_id},
            **({"client_secret": self._settings.client_secret} if self._settings.client_secret else {}),
        }
        answer = self._ask(str(self._provider()["token_endpoint"]), form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignInRefused(reason="the provider gave no token")
        return token

    def _subject(self, token: str, nonce: str) -> str:
        """Verify a token and say of whom it is."""
        settings = self._settings
        try:
            keys = KeySet.import_key_set(self._ask(str(self._provider()["jwks_uri"])))  # type: ignore[arg-type]  # it looks at what it gets
            claims = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError, KeyError, TypeError) as problem:
            raise SignInRefused(reason=f"its token does not hold: {type(problem).__name__}") from None
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        now_utc_s, ends, begun = self._now_utc_s(), claims.get("exp"), claims.get("iat")
        checks = {
            "issuer": claims.get("iss") == settings.issuer,
            "audience": settings.client_id in audiences,
            "party": len(audiences) == 1 or claims.get("azp") == settings.client_id,
            "nonce": hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()),
            "end": isinstance(ends, int | float) and ends > now_utc_s - _LEEWAY_S,
            "time": isinstance(begun, int | float) and begun < now_utc_s + _LEEWAY_S,
            "subject": isinstance(claims.get("sub"), str),
        }
        wrong = [name for name, holds in checks.items() if not holds]
        if wrong:
            raise SignInRefused(reason=f"its token is not for this attempt: {', '.join(wrong)}")
        return str(claims["sub"])

    def _provider(self) -> dict[str, Any]:
        """Give the provider's own document.

        Of one that does not answer, whoever waited hears with the first: each would wait as long again, and
        keep a thread from those who come in otherwise.
        """
        now_utc_s = self._now_utc_s()
        with self._lock:
            if self._document is None or now_utc_s - self._document[0] >= _DOCUMENT_S:
                failed = self._failed
                if failed is not None and self._clock.mono_ns() - failed[0] < _AGAIN_S * NS_PER_S:
                    raise ProviderFailed(issuer=self._settings.issuer, reason=failed[1])
                try:
                    self._document = (now_utc_s, self._asked_document())
                except ProviderFailed as problem:
                    self._failed = (self._clock.mono_ns(), str(problem.fields["reason"]))
                    raise
            return self._document[1]

    def _asked_document(self) -> dict[str, Any]:
        document = self._ask(self._settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self._settings.issuer:
            raise ProviderFailed(issuer=self._settings.issuer, reason="calls itself otherwise")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not is_safe_url(str(document.get(name, ""))):
                raise ProviderFailed(issuer=self._settings.issuer, reason=f"{name} is not https")
        return document

    def _ask(self, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            data = urllib.parse.urlencode(form).encode() if form is not None else None
            request = urllib.request.Request(url, data=data, headers={"Accept": "application/json"})
            ca_file = self._settings.ca_file
            told = ask_http(request, ca_file=ca_file, within_s=_TIMEOUT_S, limit_bytes=_ANSWER_BYTES)
            table = json.loads(told)
        except urllib.error.HTTPError as problem:
            if form is not None:  # the provider refuses the code
                raise SignInRefused(reason=f"the provider answers {problem.code}") from None
            raise ProviderFailed(issuer=self._settings.issuer, reason=f"answers {problem.code}") from None
        except (OSError, http.client.HTTPException, ValueError) as problem:
            raise ProviderFailed(issuer=self._settings.issuer, reason=type(problem).__name__) from None
        if not isinstance(table, dict):
            raise ProviderFailed(issuer=self._settings.issuer, reason="answers no JSON object")
        return table

    def _now_utc_s(self) -> int:
        return self._clock.utc_ns() // NS_PER_S


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
