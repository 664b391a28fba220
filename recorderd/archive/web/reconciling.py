"""The exchange's call records over HTTP: taken from a CSV file, held against the recordings."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from typing import IO, Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from recorderd.archive.call_records import Imported, records_in
from recorderd.archive.reconciling import moment_ms
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import Desk, desk_of
from recorderd.archive.web.gates import HouseGate
from recorderd.archive.web.problems import Deed, Problem
from recorderd.core.clock import utc_text
from recorderd.policy.access import Action

router: Final = APIRouter(tags=["reconciliation"])
SPAN_DAYS_MAX: Final = 31  # of one report: all of it is held in memory
REFUSALS_TOLD: Final = 100
_IN_MEMORY_BYTES: Final = 1 << 20
_DAY_MS: Final = 86_400_000
Moment = Annotated[str, Query(max_length=40, description="A day (2026-11-23) or a time, UTC.")]
_CSV: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"text/csv": {"schema": {"type": "string", "maxLength": 32 * 1024 * 1024}}},
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """A line that could not be understood."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportView:
    """What came of a file."""

    added: int
    known: int
    refused: int
    refusals: list[RefusedLine]  # the first of them


@router.post("/call-records", status_code=201, openapi_extra=_CSV)
async def import_records(
    request: Request,
    _: Annotated[Identity, Depends(HouseGate(Action.RECONCILE, "call_records_imported", by_deed=True))],
    source: Annotated[
        str, Query(pattern=r"^[^\x00-\x1f\x7f/]{1,200}$", description="What the file is called.")
    ],
) -> ImportView:
    """Take call detail records from a CSV file, as `[call_records]` says how it is written."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "encoded", "Send the file as it is, not compressed.")
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as file:
        async for piece in request.stream():
            file.write(piece)
        file.seek(0)
        done = await run_in_threadpool(_take, desk_of(request), request.state.deed, file, source)
    return ImportView(
        added=done.added,
        known=done.known,
        refused=done.refused,
        refusals=[RefusedLine(line=row.line, reason=row.reason) for row in done.refusals[:REFUSALS_TOLD]],
    )


@router.get("/reconciliation")
def reconciliation(
    request: Request,
    identity: Annotated[Identity, Depends(HouseGate(Action.RECONCILE, "reconciled", by_deed=True))],
    since: Moment,
    until: Moment,
    everything: Annotated[bool, Query(description="The calls with which nothing is wrong, too.")] = False,
) -> dict[str, Any]:
    """Say which calls were to be recorded and were not, and which recordings no call record tells of.

    `calls` = 0 in the counts: there are no call records of this span, and nothing can be told.
    """
    if moment_ms("until", until) - moment_ms("since", since) > SPAN_DAYS_MAX * _DAY_MS:
        raise Problem(422, "search", f"Ask for {SPAN_DAYS_MAX} days at most.")
    report = desk_of(request).calls.reconciler.report(since, until, who=identity.actor)
    return report.plain(everything=everything)


def _take(desk: Desk, deed: Deed, file: IO[bytes], source: str) -> Imported:
    text = io.TextIOWrapper(cast(Any, file), encoding="utf-8", errors="replace", newline="")
    try:
        done = desk.calls.records.take(
            records_in(text, desk.calls.columns, name=source),
            source=source,
            at=utc_text(desk.clock.utc_ns()),
        )
    finally:
        text.detach()
    detail = f"{done.added} added, {done.known} known, {done.refused} refused"
    desk.audit_log.note(deed.who, deed.what, source, reason=deed.reason, detail=detail)
    return done
