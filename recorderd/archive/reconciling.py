"""A report: the exchange's call records of a span against the recordings, for command line and HTTP.

Rule: it says what is missing and what is too much, and changes neither. That it was made stands in the audit
log, and each call that was found missing for the first time in ``missing_calls``, in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.call_records import CallRecords
from recorderd.archive.database import Database
from recorderd.archive.missing_calls import note_missing
from recorderd.core.clock import Clock, utc_text
from recorderd.core.errors import SearchRefused
from recorderd.policy.reconciliation import (
    CallStanding,
    KeptCall,
    Reconciliation,
    Standing,
    Wanted,
    reconcile,
)

_DAY_MS: Final = 86_400_000
_LATEST_MS: Final = 9000 * 365 * _DAY_MS - 1970 * 365 * _DAY_MS
_DAY: Final = "2026-11-23"
_TOLD: Final = (Standing.MISSING, Standing.SHORT, Standing.AGAINST_RULES, Standing.EXPLAINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found."""

    found: Reconciliation
    nobodys: list[KeptCall]  # recordings that no call record tells of

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing is missing, short, or too much."""
        wrong = self.found.count(Standing.MISSING) + self.found.count(Standing.SHORT)
        return not wrong and not self.nobodys

    def rows(self, *, everything: bool = False) -> list[CallStanding]:
        """Give the calls that are told: those with which something is wrong, or all."""
        return [row for row in self.found.calls if everything or row.standing in _TOLD]

    def counts(self) -> dict[str, int]:
        """Count calls by how they stand."""
        standings = {standing.name.lower(): self.found.count(standing) for standing in Standing}
        return {
            "calls": len(self.found.calls),
            **standings,
            "without_call_record": len(self.nobodys),
            "with_encrypted_metadata": len(self.found.hidden),
        }

    def plain(self, *, everything: bool = False) -> dict[str, Any]:
        """Give all of it for programs."""
        return {
            "counts": self.counts(),
            "calls": [
                {
                    "standing": row.standing.name.lower(),
                    "ground": row.ground.value if row.ground is not None else "",
                    "rule": row.rule,
                    "uncovered_ms": row.uncovered_ms,
                    "record": asdict(row.record),
                    "recordings": [_kept(one) for one in row.kept],
                }
                for row in self.rows(everything=everything)
            ],
            "without_call_record": [_kept(one) for one in self.nobodys],
        }


class Reconciler:
    """Makes reports.

    Thread: any.
    Errors: CatalogueFailed; what ``wanted`` raises.
    """

    def __init__(
        self,
        database: Database,
        audit: AuditLog,
        *,
        region: str,
        tolerance_ms: int,
        wanted: Callable[[], Wanted],
        clock: Clock,
    ) -> None:
        self._database = database
        self._audit = audit
        self._records = CallRecords(database, region=region)
        self._tolerance_ms = tolerance_ms
        self._wanted = wanted
        self._clock = clock

    def report(self, since: str, until: str, *, who: Actor) -> Report:
        """Hold the calls that began in a span against the recordings; a day as its end is inclusive.

        Errors: SearchRefused when one is no day and no time.
        """
        begin_ms, end_ms = moment_ms("since", since), moment_ms("until", until)
        if len(until) <= len(_DAY):  # no time is told as shortly
            end_ms += _DAY_MS
        calls = self._records.between(begin_ms, end_ms)
        kept = self._records.kept(begin_ms, end_ms)
        found = reconcile(calls, kept, wanted=self._wanted(), tolerance_ms=self._tolerance_ms)
        nobodys = [row for row in found.nobodys if begin_ms <= row.started_ms < end_ms]
        missing = [row.record for row in found.calls if row.standing is Standing.MISSING]
        short = found.count(Standing.SHORT)
        detail = f"{len(calls)} calls, {len(missing)} missing, {short} short, {len(nobodys)} of nobody"
        with self._database.write() as connection:
            note_missing(connection, missing, found_at=utc_text(self._clock.utc_ns()))
            subject = f"{since} to {until}"
            self._audit.note(who, "reconciled", subject, detail=detail, connection=connection)
        return Report(found=found, nobodys=nobodys)


def moment_ms(name: str, text: str) -> int:
    """Read a day, or a time, of UTC unless it says another zone.

    Errors: SearchRefused.
    """
    try:
        at = datetime.fromisoformat(text)
        at_ms = round((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise SearchRefused(field=name, reason=f"is no day and no time: {text[:40]!r}") from None
    if not 0 <= at_ms <= _LATEST_MS:
        raise SearchRefused(field=name, reason=f"is not between 1970 and 9000: {text[:40]!r}")
    return at_ms


def _kept(one: KeptCall) -> dict[str, Any]:
    return {**asdict(one), "parties": sorted(one.parties)}
