"""A small OpenID provider: a process of its own on loopback that approves at once.

``python -m tests.support.oidc_provider PORT``. The subject is the query's ``login`` of /authorize (default
``alice-at-work``), and ``wrong`` there says which claim of the token is false.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

SECRET = "the client's secret"
KEY = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"})
STRANGER = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"})


class Provider(BaseHTTPRequestHandler):
    """Answers what a relying party asks."""

    issuer = ""
    codes: dict[str, dict[str, str]] = {}  # noqa: RUF012

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            table = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            self._answer(
                {name: f"{self.issuer}/{path}" for name, path in table.items()} | {"issuer": self.issuer}
            )
        elif parts.path == "/jwks":
            self._answer({"keys": [KEY.as_dict(private=False)]})
        elif parts.path == "/authorize":
            code = f"code-{len(self.codes)}"
            self.codes[code] = query
            back = urlencode({"code": code, "state": query["state"], "iss": self.issuer})
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri']}?{back}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        form = {
            name: values[0]
            for name, values in parse_qs(
                self.rfile.read(int(self.headers["Content-Length"])).decode()
            ).items()
        }
        asked = self.codes.pop(form.get("code", ""), None)  # a code is good once
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            asked is None
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form["redirect_uri"]
            or form.get("client_secret") != SECRET
        ):
            self._answer({"error": "invalid_grant"}, 400)
            return
        self._answer({"access_token": "x", "token_type": "Bearer", "id_token": self._token(asked)})

    def _token(self, asked: dict[str, str]) -> str:
        now_s, wrong = int(time.time()), asked.get("wrong", "")
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": asked["client_id"],
            "sub": asked.get("login", "alice-at-work"),
            "nonce": asked["nonce"],
            "iat": now_s,
            "exp": now_s + 300,
        }
        claims |= {
            "iss": {"iss": "https://other.example"},
            "aud": {"aud": "somebody-else"},
            "many": {"aud": [asked["client_id"], "somebody-else"]},
            "nonce": {"nonce": "of-another-attempt"},
            "exp": {"exp": now_s - 3600},
        }.get(wrong, {})
        if wrong == "secret":  # signed with what everybody knows: the public key as a secret
            public = json.dumps(KEY.as_dict(private=False))
            return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(public), algorithms=["HS256"])
        if wrong == "none":
            parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
            return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."
        key = STRANGER if wrong == "key" else KEY
        return jwt.encode({"alg": "ES256", "kid": "one"}, claims, key)

    def _answer(self, table: dict[str, Any], code: int = 200) -> None:
        body = json.dumps(table).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(port: int) -> None:
    """Serve until ended."""
    Provider.issuer = f"http://127.0.0.1:{port}"
    server = ThreadingHTTPServer(("127.0.0.1", port), Provider)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
