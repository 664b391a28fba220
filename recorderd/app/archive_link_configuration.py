"""Configuration of the links to archive hosts: `[archive]`, `[[archives]]`, `[[archive.bandwidth]]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from recorderd.app.checks import curve_key, safe_id, tcp_endpoint
from recorderd.app.schema import Problem, option

PRIMARY: Final = "archive"  # what `[archive]` is called beside further ones


class Receipts(StrEnum):
    """How many archives must have a recording before its local copy goes."""

    ALL = "all"
    ANY = "any"


class Compression(StrEnum):
    """When chunks are compressed on their way."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def _time_of_day(value: Any) -> str | None:
    return None if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", str(value)) else "give a time as HH:MM"


def _endpoints(value: Any) -> str | None:
    return next((why for why in map(tcp_endpoint, value) if why is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthSection:
    """[[archive.bandwidth]]"""

    begin: str = option("Local time from which this limit holds, HH:MM.", check=_time_of_day)
    end: str = option("Local time until which it holds; before `begin` = past midnight.", check=_time_of_day)
    bytes_per_s: int = option("So much is sent at most.", minimum=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLinkSection:
    """[archive]"""

    endpoint: str = option("tcp://HOST:PORT of the archive.", check=tcp_endpoint)
    further_endpoints: tuple[str, ...] = option(
        "tcp://HOST:PORT of further front ends of the same archive, with the same keys; asked in turn.",
        default=(),
        check=_endpoints,
    )
    server_public_key: str = option("The archive's CURVE public key.", check=curve_key)
    secret_key_file: Path = option("Our CURVE secret key, mode 600.")
    receipt_certificate_file: Path = option("Certificate that signs the archive's receipts, PEM.")
    chunk_bytes: int = option("Size of a chunk.", default=1 << 20, minimum=1 << 10, maximum=4 << 20)
    heartbeat_s: int = option(
        "How often both ends tell each other of power, room and clock; four without an answer, and the link "
        "is made anew.",
        default=5,
        minimum=1,
        maximum=300,
    )
    retry_s: int = option("Wait before a refused recording is offered again.", default=30, minimum=1)
    compression: Compression = option(
        "auto (what shrinks, on a line slower than 20 MB/s), always or never; never what is encrypted.",
        default=Compression.AUTO,
    )
    bandwidth: tuple[BandwidthSection, ...] = option(
        "Limits by time of day; the first that holds counts, and where none does there is none.", default=()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryArchiveSection(ArchiveLinkSection):
    """[archive]"""

    receipts: Receipts = option(
        "all or any: whose receipts a local copy waits for, where there are `[[archives]]` too.",
        default=Receipts.ALL,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherArchiveSection(ArchiveLinkSection):
    """[[archives]]"""

    name: str = option("Name of the archive in status and in the names of receipts.", check=safe_id)


def receipts_needed(archive: PrimaryArchiveSection, further: Sequence[FurtherArchiveSection]) -> int:
    """Say how many archives must have receipted a recording before its local copy goes."""
    return 1 + len(further) if archive.receipts is Receipts.ALL else 1


def archives_problems(archives: Sequence[FurtherArchiveSection]) -> Iterator[Problem]:
    """Find what is wrong between archives that are right by themselves."""
    names = [PRIMARY, *(entry.name for entry in archives)]
    for number, entry in enumerate(archives):
        if names.count(entry.name) > 1:
            yield Problem(
                key=f"archives[{number}].name",
                reason=f"{entry.name} stands twice, or is what [archive] is called",
                remedy="give each archive a name of its own",
            )
