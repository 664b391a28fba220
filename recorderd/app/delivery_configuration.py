"""[[deliveries]] of archive.toml: whose own server gets recordings, when, and which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorderd.app.checks import safe_id
from recorderd.app.schema import Problem, option

_KEY_KINDS = r"ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|rsa-sha2-512|ssh-rsa"


def _host(value: Any) -> str | None:
    return None if re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", value) else "give a name or an address"


def _host_key(value: Any) -> str | None:
    fits = re.fullmatch(rf"({_KEY_KINDS}) [A-Za-z0-9+/]+=*", value)
    return None if fits else "give the line of ssh-keyscan behind the name: ssh-ed25519 AAAA..."


def _hour(value: Any) -> str | None:
    return None if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value) else "give HH:MM"


def _folder(value: Any) -> str | None:
    fits = value and "\0" not in value and ".." not in value.split("/")
    return None if fits else "give a folder, without .."


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySection:
    """[[deliveries]]"""

    name: str = option("Name of the route; under it is kept what was delivered.", check=safe_id)
    host: str = option("The SFTP server.", check=_host)
    port: int = option("Its port.", default=22, minimum=1, maximum=65535)
    user: str = option("Who we are there.")
    key_file: Path = option("Our private key there, OpenSSH or PEM, mode 600.")
    host_key: str = option("The server's public host key; another one gets nothing.", check=_host_key)
    folder: str = option(
        "Folder there; recordings lie in YYYY/MM/DD/RECORDER/ID below.", default="recordings", check=_folder
    )
    at: str = option("Local time of the daily delivery, HH:MM.", default="02:00", check=_hour)
    every_minutes: int = option(
        "Deliver so often instead; 0 = once a day.", default=0, minimum=0, maximum=1440
    )
    classes: tuple[str, ...] = option("Retention classes that go there; empty = all.", default=())
    recorders: tuple[str, ...] = option("Recorders whose recordings go there; empty = all.", default=())


def delivery_problems(deliveries: Iterable[DeliverySection]) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    seen: set[str] = set()
    for number, route in enumerate(deliveries):
        if route.name in seen:
            key = f"deliveries[{number}].name"
            yield Problem(key=key, reason="is there twice", remedy="give each a name of its own")
        seen.add(route.name)
