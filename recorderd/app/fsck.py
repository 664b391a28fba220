"""recorder-archive fsck and heads: is everything there that was signed for, and how far do chains go?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recorderd import durable
from recorderd.app.archive_audit import audit_findings
from recorderd.app.archive_catalogue import open_catalogue, open_database
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.archive_store import open_mirror, open_store
from recorderd.app.progress import SlowWork
from recorderd.app.retention_parts import quiet_log
from recorderd.app.roster_duty import make_roster
from recorderd.app.verify import EXIT_OF, WORD_OF
from recorderd.archive.audit import Audit, Auditor, Trouble
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.database import Database
from recorderd.archive.jobs import Working
from recorderd.archive.mirror_checks import mirror_flaws
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.errors import FormatError
from recorderd.evidence.verify import TrustStore
from recorderd.wire.chain_head import HeadBody, fingerprint, head_name, parse_head


def fsck(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Check everything; 0 good, 65 something is bad, 69 something cannot be told.

    Errors: KeyUnusable, EvidenceError, CatalogueFailed.
    """
    audit = check_everything(configuration, authorities=arguments.tsa, is_deep=arguments.mirror)
    _show(audit, as_json=arguments.json)
    return EXIT_OF[audit.verdict]


def check_everything(
    configuration: ArchiveConfiguration,
    *,
    authorities: Path | None = None,
    is_deep: bool = False,
    working: Working = SlowWork,
) -> Audit:
    """Check files, catalogue, chains, audit log and the off-site copy; changes nothing.

    Errors: KeyUnusable, EvidenceError, CatalogueFailed, OSError; what ``working`` raises.
    """
    database = open_database(configuration, read_only=True)
    try:
        receipts = TrustStore.from_files([configuration.receipt.certificate_file])
        auditor = Auditor(
            store=open_store(configuration),
            catalogue=Catalogue(database, read_only=True, region=configuration.catalogue.region),
            trusts=make_roster(configuration, database).trusts,
            receipts=receipts,
            authorities=TrustStore.from_files([authorities]) if authorities is not None else None,
            now_utc_s=SystemClock().utc_ns() // NS_PER_S,
        )
        with working("checking", total_bytes=auditor.size_bytes()) as work:
            audit = auditor.run(work.advance)
        with working("checking the audit log", counts="rows") as work:
            audit.troubles += [
                Trouble(subject=row.subject, code="audit_log", reason=row.reason, verdict=row.verdict)
                for row in audit_findings(database, receipts, work)
            ]
        audit.troubles += _mirror_troubles(configuration, database, is_deep=is_deep, working=working)
    finally:
        database.close()
    return audit


def audit_table(audit: Audit, *, most: int | None = None) -> dict[str, Any]:
    """Make a check's table for programs, of the first findings."""
    return {
        "verdict": audit.verdict.value,
        "recordings": audit.recordings,
        "heads": audit.heads,
        "troubles": [
            {"subject": row.subject, "code": row.code, "verdict": row.verdict.value, "reason": row.reason}
            for row in audit.troubles[:most]
        ],
    }


def add_mirror_option(command: argparse.ArgumentParser) -> None:
    """Declare what more may be looked at."""
    command.add_argument("--mirror", action="store_true", help="read the off-site copy to the last octet too")


def _mirror_troubles(
    configuration: ArchiveConfiguration, database: Database, *, is_deep: bool, working: Working
) -> list[Trouble]:
    """Compare the off-site copy, if there is one."""
    clock, store = SystemClock(), open_store(configuration)
    mirror = open_mirror(configuration, store, database, clock=clock, log=quiet_log(clock))
    if mirror is None:
        return []
    with working("the copy", total_bytes=Catalogue(database, read_only=True).size_bytes()) as work:
        flaws = mirror_flaws(mirror, store.published, database, is_deep=is_deep, advance=work.advance)
        return [Trouble(subject=row.subject, code=row.code, reason=row.reason) for row in flaws]


def heads(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """List the signed heads that are kept, or write their documents into a folder."""
    rows: list[dict[str, object]] = []
    for recorder_id, document in open_catalogue(configuration, read_only=True).heads():
        row: dict[str, object] = {"recorder_id": recorder_id}
        try:
            body = parse_head(document).body
        except FormatError as problem:
            row["problem"], line = str(problem), f"{recorder_id}  {problem}"
        else:
            row |= asdict(body)
            line = _head_line(body)
            if arguments.out is not None:
                line = row["file"] = str(arguments.out / head_name(recorder_id, body.number))
                durable.make_dir(arguments.out)
                durable.replace(Path(line), document)
        rows.append(row)
        if not arguments.json:
            print(line)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    return 0


def _head_line(body: HeadBody) -> str:
    number, sequence = f"{body.number:>6}", f"{body.sequence:>8}"
    told = (body.recorder_id, number, body.stated_at, f"{body.cause:<5}", sequence)
    return "  ".join((*told, fingerprint(body.manifest_sha256)))


def _show(audit: Audit, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(audit_table(audit), indent=2))
        return
    for row in audit.troubles:
        print(f"{WORD_OF[row.verdict]:<11} {row.subject}: {row.code}: {row.reason}")
    counted = f"{audit.recordings} recordings and {audit.heads} heads"
    print(f"{WORD_OF[audit.verdict]:<11} {counted} were looked at, {len(audit.troubles)} findings")
