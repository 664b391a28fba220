"""What holds call records against recordings, as archive.toml says: for the command and for HTTP."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.recorder_configuration import load_recorder_configuration
from recorderd.app.rules_configuration import numbering_of, rules_of
from recorderd.archive.audit_log import AuditLog
from recorderd.archive.database import Database
from recorderd.archive.reconciling import Reconciler
from recorderd.core.clock import Clock
from recorderd.core.terms import Mode
from recorderd.policy.reconciliation import CallRecord, Wanted
from recorderd.policy.rules import CallFacts, decide


def reconciler_of(
    configuration: ArchiveConfiguration, database: Database, audit: AuditLog, *, clock: Clock
) -> Reconciler:
    """Put it together; the rules are read anew for each report."""
    section = configuration.call_records
    return Reconciler(
        database,
        audit,
        region=configuration.catalogue.region,
        tolerance_ms=section.tolerance_s * 1000,
        wanted=lambda: _wanted(section.rules_file),
        clock=clock,
    )


def _wanted(rules_file: Path | None) -> Wanted:
    """Give what decides whether a call is to be recorded."""
    if rules_file is None:
        return lambda record: (True, "every call")
    configuration = load_recorder_configuration(rules_file)
    rules, numbering = rules_of(configuration), numbering_of(configuration)

    def decided(record: CallRecord) -> tuple[bool, str]:
        at = datetime.fromtimestamp(record.started_ms / 1000).astimezone()
        sides = [record.extension] if record.extension else [record.callee, record.caller]
        ruling = None
        for extension in sides:
            facts = CallFacts(
                caller=record.caller,
                callee=record.callee,
                direction=record.direction,
                extension=extension,
                trunk=record.trunk,
                queue=record.queue,
                weekday=at.weekday(),
                minute_of_day=at.hour * 60 + at.minute,
            )
            ruling = decide(rules, facts, numbering=numbering)
            if ruling.terms.mode in (Mode.ALWAYS, Mode.ALWAYS_PAUSABLE):
                return True, ruling.terms.rule or ruling.why[0]
        return False, ruling.why[0] if ruling is not None else "nobody took part"

    return decided
