"""[http] and [access] of archive.toml: the archive's interface for people and programs, and who is apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd.app.schema import option, section
from recorderd.wire.urls import is_safe_url


def _safe_url(value: Any) -> str | None:
    return None if is_safe_url(value) else "give https://HOST/PATH (http:// on this host only)"


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSection:
    """[http.oidc]"""

    issuer: str = option("The OpenID provider, as it calls itself.", check=_safe_url)
    client_id: str = option("As whom the provider knows us.")
    client_secret_file: Path | None = option("File with our secret there, mode 600.", default=None)
    return_url: str = option(
        "Our address as browsers see it, https://HOST:PORT/api/v1/session/oidc/return.", check=_safe_url
    )
    tls_ca_file: Path | None = option(
        "Who may vouch for the provider, PEM; absent = the system's.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSection:
    """[http]"""

    address: str = option("Address to listen on, of the network where people are, not recorders.")
    port: int = option("Port to listen on; TLS only.", default=8443, minimum=0, maximum=65_535)
    certificate_file: Path = option("Our TLS certificate (chain), PEM.")
    key_file: Path = option("Its key, PEM, mode 600.")
    requests_per_minute: int = option(
        "So many requests a minute of one address; more hear 429.", default=600, minimum=10, maximum=100_000
    )
    session_idle_s: int = option(
        "A session that is not used so long has ended.", default=1800, minimum=60, maximum=86_400
    )
    session_max_s: int = option("No session is older.", default=43_200, minimum=60, maximum=604_800)
    oidc: OidcSection | None = section("The OpenID provider; absent = none.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSection:
    """[access]"""

    restricted_tags: tuple[str, ...] = option(
        "Recordings with one of these tags need the second right, and a reason.", default=("restricted",)
    )
    restricted_classes: tuple[str, ...] = option("The same for retention classes.", default=())
    reason_tags: tuple[str, ...] = option(
        "Recordings with one of these tags are heard and downloaded with a reason only.", default=()
    )
    reason_classes: tuple[str, ...] = option("The same for retention classes.", default=())
