"""The archive's daemon, put together: what it opens in which order, which threads run, what stops when.

Order at start: this front end's place and its catalogue, receipts that were cut are finished, the door,
ready, the duties. Order at stop: the door ends first, the duties with it, then what they stood on.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

from recorderd import __version__, durable
from recorderd.app.archive_catalogue import open_catalogue
from recorderd.app.archive_configuration import (
    CONTROL_NAME,
    ArchiveConfiguration,
)
from recorderd.app.archive_intake import take_drain
from recorderd.app.archive_store import open_store
from recorderd.app.audit_duty import AuditDuty
from recorderd.app.catching_up import CatchingUp
from recorderd.app.control import ControlServer
from recorderd.app.front_end import FrontEnd
from recorderd.app.power import PowerDuty
from recorderd.app.retention_duty import RetentionDuty
from recorderd.app.retention_parts import RetentionParts, retention_parts
from recorderd.app.roster_duty import RosterDuty
from recorderd.app.service import Service
from recorderd.app.store_duties import StoreDuties, required_mirror
from recorderd.app.web_duty import WebDuty
from recorderd.app.webhook_duty import webhook_loops
from recorderd.app.workers import Workers
from recorderd.archive.custody import Custody
from recorderd.archive.keeping import Keeping
from recorderd.archive.receiver import Receiver, ReceiverSettings
from recorderd.archive.willingness import Willingness
from recorderd.core.clock import SystemClock
from recorderd.core.errors import KeyUnusable
from recorderd.core.events import Ev
from recorderd.evidence.keys import Signer, read_secret_text, resolve_secret

CURVE_KEY_LENGTH: Final = 40


class ArchiveDaemon:
    """One running archive, or one front end of it.

    Thread: made and run by the main thread; ``answer`` any.
    """

    def __init__(self, configuration: ArchiveConfiguration, service: Service) -> None:
        self._configuration = configuration
        self._service = service
        self._signer, self._secret = receipt_signer(configuration), curve_secret(configuration)
        self._clock = clock = SystemClock()
        self._log = log = service.log
        archive = configuration.archive
        for folder in (archive.data_dir, archive.run_dir):
            durable.make_dir(folder)
        self._power = PowerDuty(configuration.power, service=service, clock=clock)
        self._front = FrontEnd(archive, open_store(configuration), clock=clock, log=log)
        log.info(Ev.STARTED, version=__version__, archive=archive.id)
        self._store, self._catalogue = self._front.store, open_catalogue(configuration)
        self._front.enter(self._catalogue)
        database = self._catalogue.database
        self._recorders = RosterDuty(
            configuration, self._store, database, curve_secret=self._secret, clock=clock, log=log
        )
        self._catching_up = CatchingUp(self._store, database, region=configuration.catalogue.region, log=log)
        parts = retention_parts(configuration, log=log, signer=self._signer)
        custody = self._custody(parts)
        custody.repair()
        self._audit = AuditDuty(
            configuration.audit, database, archive_id=archive.id, signer=self._signer, clock=clock, log=log
        )
        self._retention = RetentionDuty(
            configuration.retention, parts, power=lambda: self._power.power, log=log
        )
        self._stores = StoreDuties(configuration, parts, power=lambda: self._power.power, log=log)
        self._keeping = Keeping(custody)
        self._willingness = Willingness(
            self._store.own,
            keep_free_bytes=archive.keep_free_bytes,
            power=lambda: self._power.power,
            log=log,
        )
        self._receiver = self._door(custody)
        self._workers = Workers(service)

    def _custody(self, parts: RetentionParts) -> Custody:
        return Custody(
            archive_id=self._configuration.archive.id,
            store=self._store,
            catalogue=self._catalogue,
            trusts=self._recorders.roster.trusts,
            signer=self._signer,
            clock=self._clock,
            log=self._log,
            locks=parts.locks,
            mirror=required_mirror(self._configuration, parts),
        )

    def _door(self, custody: Custody) -> Receiver:
        archive = self._configuration.archive
        return Receiver(
            settings=ReceiverSettings(
                archive_id=archive.id,
                endpoint=archive.bind,
                secret_key=self._secret,
                recorders=self._recorders.roster.recorders,
            ),
            store=self._store,
            custody=custody,
            keeping=self._keeping,
            willingness=self._willingness,
            clock=self._clock,
            log=self._log,
        )

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer the control socket."""
        command = request.get("command", "status")
        if command == "drain":
            return take_drain(request, self._willingness)
        if command != "status":
            return {"error": "known commands: status, drain"}
        return {
            "program": "recorder-archive",
            "version": __version__,
            **self._receiver.status(),
            **self._retention.picture(),
            **self._front.picture(),
            **self._stores.picture(),
            "power": self._power.describe(),
            "events": self._log.counters(),
        }

    def run(self, path: Path) -> None:
        """Serve until asked to stop; ``path`` is the configuration's, for the process that serves people.

        Errors: whatever a thread died of.
        """
        control_stop = threading.Event()
        try:
            endpoint = self._receiver.open()
            control = ControlServer(
                self._configuration.archive.run_dir / CONTROL_NAME, self.answer, log=self._log
            )
            thread = control.start(control_stop)
            self._log.info(Ev.READY, endpoint=endpoint, recordings=self._catalogue.count())
            self._service.ready(f"listening on {endpoint}")
            self._audit.begin()
            self._retention.begin()
            self._start_workers(path)
            try:
                self._receiver.run(self._power.halt(), self._service.beat)
                self._power.sleep()
            finally:
                self._power.stop()
                self._workers.end()
                self._log.info(Ev.STOPPING)
                self._service.stopping()
                control_stop.set()
                thread.join(timeout=5)
                control.close()
        finally:
            self._receiver.close()
            self._keeping.close()
            self._audit.end()
            self._catalogue.close()
            self._front.close()
        self._log.info(Ev.STOPPED)

    def _start_workers(self, path: Path) -> None:
        configuration = self._configuration
        hooks = webhook_loops(
            configuration.webhooks,
            self._catalogue.database,
            archive_id=configuration.archive.id,
            clock=self._clock,
            log=self._log,
        )
        led = self._audit.loops() | self._retention.loops() | self._catching_up.loops() | hooks
        led |= self._recorders.led() | self._stores.loops()
        everywhere = self._keeping.loops() | self._recorders.loops()
        for name, work in (everywhere | self._front.loops(led)).items():
            self._workers.start(name, work)
        if configuration.http is not None:
            self._workers.start("http", WebDuty(path, log=self._log).run)


def receipt_signer(configuration: ArchiveConfiguration) -> Signer:
    """Read what signs receipts.

    Errors: KeyUnusable.
    """
    receipt = configuration.receipt
    return Signer.from_files(
        key_file=resolve_secret(receipt.key_file), certificate_file=receipt.certificate_file
    )


def curve_secret(configuration: ArchiveConfiguration) -> str:
    """Read the door's own key.

    Errors: KeyUnusable.
    """
    path = resolve_secret(configuration.archive.secret_key_file)
    secret = read_secret_text(path).strip()
    if len(secret) != CURVE_KEY_LENGTH:
        raise KeyUnusable(path=path, reason="not a CURVE secret key of 40 characters")
    return secret
