"""The senders of recorderd-flush: one per archive, over one shelf.

The first archive's sender runs in the main thread; each further one has a thread, so that an archive that is
gone holds up no other. Heads and batches of time stamps go to each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from threading import Event as StopToken
from typing import Any

from recorderd.app.archive_link_configuration import (
    PRIMARY,
    ArchiveLinkSection,
    BandwidthSection,
    Compression,
    receipts_needed,
)
from recorderd.app.named_files import Look
from recorderd.app.recorder_configuration import RecorderConfiguration
from recorderd.app.workers import Workers
from recorderd.core.clock import NS_PER_S, Clock
from recorderd.core.conditions import Power, PowerState
from recorderd.core.errors import KeyUnusable
from recorderd.core.events import EventLog
from recorderd.evidence.keys import read_secret_text, resolve_secret
from recorderd.evidence.verify import TrustStore
from recorderd.flush.board import Board
from recorderd.flush.curve import public_key_of
from recorderd.flush.deposits import Deposits
from recorderd.flush.heads import HeadCourier
from recorderd.flush.holders import Holders
from recorderd.flush.link import Link, LinkSettings
from recorderd.flush.pace import Limit
from recorderd.flush.sender import Sender, SenderSettings
from recorderd.flush.shelf import Shelf
from recorderd.flush.stamping import Stamper
from recorderd.spool.head_box import HeadBox
from recorderd.spool.layout import Spool
from recorderd.wire import frames as f


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive with its keys, which were read."""

    name: str
    section: ArchiveLinkSection
    link: LinkSettings
    trust: TrustStore


def read_archives(configuration: RecorderConfiguration) -> tuple[Archive, ...]:
    """Read the keys and certificates of all archives, the first one first.

    Errors: KeyUnusable.
    """
    further = ((entry.name, entry) for entry in configuration.archives)
    return tuple(_archive(name, section) for name, section in ((PRIMARY, configuration.archive), *further))


def archive_looks(configuration: RecorderConfiguration) -> Iterator[Look]:
    """Give what reads the files of each archive, for `check-config`."""
    further = ((f"archives[{number}]", entry) for number, entry in enumerate(configuration.archives))
    for key, section in ((PRIMARY, configuration.archive), *further):
        yield f"{key}.secret_key_file", partial(_secret, section)
        yield f"{key}.receipt_certificate_file", partial(_trust, section)


def _secret(section: ArchiveLinkSection) -> str:
    path = resolve_secret(section.secret_key_file)
    secret = read_secret_text(path).strip()
    try:
        public_key_of(secret)
    except ValueError as problem:
        raise KeyUnusable(path=path, reason=problem) from None
    return secret


def _trust(section: ArchiveLinkSection) -> TrustStore:
    return TrustStore.from_files([section.receipt_certificate_file])


def _archive(name: str, section: ArchiveLinkSection) -> Archive:
    link = LinkSettings(
        endpoint=section.endpoint,
        server_public_key=section.server_public_key,
        secret_key=_secret(section),
        heartbeat_ms=section.heartbeat_s * 1000,
        further_endpoints=section.further_endpoints,
    )
    return Archive(name=name, section=section, link=link, trust=_trust(section))


class Senders:
    """All senders of the process.

    Thread: made and run by the main one; ``status`` any.
    """

    def __init__(
        self,
        *,
        configuration: RecorderConfiguration,
        archives: tuple[Archive, ...],
        spool: Spool,
        stamper: Stamper | None,
        power: Callable[[], Power],
        clock: Clock,
        log: EventLog,
    ) -> None:
        names = tuple(entry.name for entry in archives)
        needed = receipts_needed(configuration.archive, configuration.archives)
        self.shelf = Shelf(spool=spool, stamper=stamper, archives=names, needed=needed, clock=clock, log=log)
        board = Board(spool.root, archives=names, needed=needed, clock=clock, log=log)
        box = HeadBox(spool.root)
        box.prepare()
        holders = Holders(names)
        self._senders: dict[str, Sender] = {}
        for archive in archives:
            link = Link(archive.link, now_ns=clock.mono_ns())
            settings = _settings(configuration, archive)
            deposits = None
            if stamper is not None:
                deposits = Deposits(
                    archive=archive.name,
                    folder=stamper.folder,
                    holders=holders,
                    send=partial(_send, link),
                    retry_ns=settings.retry_ns,
                    clock=clock,
                    log=log,
                )
            self._senders[archive.name] = Sender(
                settings=settings,
                spool=spool,
                shelf=self.shelf,
                link=link,
                heads=HeadCourier(
                    archive=archive.name,
                    box=box,
                    holders=holders,
                    send=link.send,
                    retry_ns=settings.retry_ns,
                    log=log,
                ),
                deposits=deposits,
                board=board,
                host=partial(_host_report, spool, power, clock),
                trust=archive.trust,
                clock=clock,
                log=log,
                stamper=stamper if archive.name == PRIMARY else None,
            )

    def start(self, workers: Workers, halt: StopToken) -> None:
        """Start what runs beside the main thread."""
        workers.start("shelf", self.shelf.run)
        for name, sender in self._senders.items():
            if name != PRIMARY:
                workers.start(f"flush-{name}", partial(_serve, sender, halt))

    def run(self, halt: StopToken, beat: Callable[[], None]) -> None:
        """Serve the first archive until ``halt``; ``beat`` is called a few times a second."""
        self._senders[PRIMARY].run(halt, beat)

    def status(self) -> dict[str, Any]:
        """Return the first archive's picture, and those of the others by name."""
        further = {name: row.status() for name, row in self._senders.items() if name != PRIMARY}
        return {**self._senders[PRIMARY].status(), **({"further": further} if further else {})}


def _send(link: Link, message: f.FlushMessage) -> bool:
    return link.send(f.encode_message(message))


def _serve(sender: Sender, halt: StopToken, _: StopToken) -> None:
    sender.run(halt, lambda: None)


def _settings(configuration: RecorderConfiguration, archive: Archive) -> SenderSettings:
    section = archive.section
    packs = {Compression.ALWAYS: True, Compression.NEVER: False}.get(section.compression)
    return SenderSettings(
        archive=archive.name,
        recorder_id=configuration.recorder.id,
        endpoint=section.endpoint,
        chunk_bytes=section.chunk_bytes,
        heartbeat_ns=section.heartbeat_s * NS_PER_S,
        retry_ns=section.retry_s * NS_PER_S,
        local_grace_s=configuration.spool.local_grace_s,
        packs=packs,
        limits=tuple(_limit(entry) for entry in section.bandwidth),
    )


def _limit(entry: BandwidthSection) -> Limit:
    return Limit(
        begin_minute=_minute(entry.begin), end_minute=_minute(entry.end), bytes_per_s=entry.bytes_per_s
    )


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _host_report(spool: Spool, power: Callable[[], Power], clock: Clock) -> f.HostReport:
    """Report on this end: its clock, how full the spool's disk is, its power where a UPS answers."""
    used_permille = 0
    try:
        found = os.statvfs(spool.root)
        used_permille = 1000 - 1000 * found.f_bavail // max(1, found.f_blocks)
    except OSError:
        used_permille = 1000
    now = power()
    told = None
    if now.contact or now.state is not PowerState.ON_LINE:
        told = f.HostPower(
            state=now.state,
            reason=f.plain_reason(now.reason),
            runtime_s=now.runtime_s,
            charge_percent=now.charge_percent,
            contact=now.contact,
        )
    return f.HostReport(clock_utc_ns=clock.utc_ns(), used_permille=min(1000, used_permille), power=told)
