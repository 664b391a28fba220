"""Time stamps in recorderd.toml and archive.toml; ``stamp_authorities`` makes of them what the programs need.

Apart from it because recorderd reads this, and never loads what asks authorities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd.app.schema import Problem, option


def _url(value: Any) -> str | None:
    fits = re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?(/[!-?A-~]*)?", value)
    return (
        None
        if fits
        else "give http://HOST/PATH or https://HOST/PATH; user and password have keys of their own"
    )


def _some(value: Any) -> str | None:
    return None if value else "name at least one authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthoritySection:
    """[[timestamps.authorities]]"""

    url: str = option("Where the authority answers, http:// or https://.", check=_url)
    ca_file: Path = option("Root certificates that the authority's stamps must lead to, PEM.")
    user: str = option("User for HTTP basic authentication, over https only; empty = none.", default="")
    password_file: Path | None = option("File with the user's password, mode 600.", default=None)
    tls_ca_file: Path | None = option(
        "Who may vouch for an https server, PEM; absent = the system's.", default=None
    )
    timeout_s: int = option("Time for one whole answer.", default=10, minimum=1, maximum=120)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampsSection:
    """[timestamps]"""

    authorities: tuple[AuthoritySection, ...] = option(
        "Time stamping authorities, asked in this order until one answers.", check=_some
    )
    wait_s: int = option(
        "A recording waits so long in the spool for stamps of its own; 0 = it has its place in a batch only.",
        default=60,
        minimum=0,
        maximum=86_400,
    )
    batch_s: int = option(
        "How often one stamp is fetched for all recordings since the last.",
        default=3600,
        minimum=10,
        maximum=86_400,
    )
    apart_limit_s: int = option(
        "A stamp whose time is further from the appliance's is not taken.",
        default=86_400,
        minimum=60,
        maximum=315_360_000,
    )
    retry_s: int = option(
        "How long an authority that failed is left alone.", default=30, minimum=1, maximum=3600
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalSection:
    """[timestamps] of archive.toml"""

    authorities: tuple[AuthoritySection, ...] = option(
        "Time stamping authorities for `recorder-archive renew`, asked in this order until one answers.",
        check=_some,
    )
    apart_limit_s: int = option(
        "A renewal whose time is further from the archive's is not taken.",
        default=86_400,
        minimum=60,
        maximum=315_360_000,
    )


def stamps_problems(timestamps: TimestampsSection | RenewalSection | None) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    for number, entry in enumerate(timestamps.authorities if timestamps is not None else ()):
        key = f"timestamps.authorities[{number}]"
        if bool(entry.user) != bool(entry.password_file):
            yield Problem(
                key=f"{key}.user", reason="goes with password_file", remedy="give both of them or none"
            )
        elif entry.user and not entry.url.startswith("https://"):
            yield Problem(
                key=f"{key}.url", reason="would show the password to the network", remedy="use https"
            )
        if entry.tls_ca_file and not entry.url.startswith("https://"):
            yield Problem(key=f"{key}.tls_ca_file", reason="without TLS", remedy="use https or leave it out")
