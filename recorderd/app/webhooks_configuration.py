"""[[webhooks]] of archive.toml: who is told what happens to recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recorderd.app.checks import safe_id
from recorderd.app.schema import Problem, option
from recorderd.wire.urls import is_safe_url

_KINDS: Final = ("archived", "held", "released", "erased", "missing")


def _url(value: Any) -> str | None:
    return None if is_safe_url(value) else "give https://HOST/PATH (http:// on this host only)"


def _kinds(value: Any) -> str | None:
    fits = value and set(value) <= set(_KINDS)
    return None if fits else f"choose some of {', '.join(_KINDS)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSection:
    """[[webhooks]]"""

    name: str = option("Name of the hook; under it is kept how far it was told.", check=safe_id)
    url: str = option("Where it listens, https:// (http:// on this host only).", check=_url)
    secret_file: Path = option("File with the secret that signs what is sent, mode 600.")
    on: tuple[str, ...] = option(
        "What it is told: archived, held, released, erased, missing (calls that a report did not find).",
        default=_KINDS,
        check=_kinds,
    )
    tls_ca_file: Path | None = option(
        "Who may vouch for the server, PEM; absent = the system's.", default=None
    )


def webhooks_problems(webhooks: Iterable[WebhookSection]) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    seen: set[str] = set()
    for number, hook in enumerate(webhooks):
        key = f"webhooks[{number}]"
        if hook.name in seen:
            yield Problem(key=f"{key}.name", reason="is there twice", remedy="give each a name of its own")
        seen.add(hook.name)
