"""recorder-archive fsck and heads: is everything there that was signed for, and how far do chains go?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from recorderd import durable
from recorderd.app.archive_audit import audit_findings
from recorderd.app.archive_catalogue import open_catalogue, open_database
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.progress import SlowWork
from recorderd.app.roster_duty import make_roster
from recorderd.app.verify import EXIT_OF, WORD_OF
from recorderd.archive.audit import Audit, Auditor, Trouble
from recorderd.archive.store import Store
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.errors import FormatError
from recorderd.evidence.verify import TrustStore
from recorderd.wire.chain_head import fingerprint, head_name, parse_head


def fsck(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """Check everything; 0 good, 65 something is bad, 69 something cannot be told.

    Errors: KeyUnusable, EvidenceError, CatalogueFailed.
    """
    catalogue = open_catalogue(configuration, read_only=True)
    receipts = TrustStore.from_files([configuration.receipt.certificate_file])
    auditor = Auditor(
        store=Store(configuration.archive.data_dir),
        catalogue=catalogue,
        trusts=make_roster(configuration, catalogue.database).trusts,
        receipts=receipts,
        authorities=TrustStore.from_files([arguments.tsa]) if arguments.tsa is not None else None,
        now_utc_s=SystemClock().utc_ns() // NS_PER_S,
    )
    with SlowWork("checking", total_bytes=auditor.size_bytes()) as work:
        audit = auditor.run(work.advance)
    audit.troubles += [
        Trouble(subject=row.subject, code="audit_log", reason=row.reason, verdict=row.verdict)
        for row in audit_findings(open_database(configuration, read_only=True), receipts)
    ]
    _show(audit, as_json=arguments.json)
    return EXIT_OF[audit.verdict]


def heads(arguments: argparse.Namespace, configuration: ArchiveConfiguration) -> int:
    """List the signed heads that are kept, or write their documents into a folder."""
    for recorder_id, document in open_catalogue(configuration, read_only=True).heads():
        try:
            body = parse_head(document).body
        except FormatError as problem:
            print(f"{recorder_id}  {problem}")
            continue
        if arguments.out is not None:
            durable.make_dir(arguments.out)
            path: Path = arguments.out / head_name(recorder_id, body.number)
            durable.replace(path, document)
            print(path)
        else:
            print(
                f"{recorder_id}  {body.number:>6}  {body.stated_at}  {body.cause:<5}  {body.sequence:>8}  "
                f"{fingerprint(body.manifest_sha256)}"
            )
    return 0


def _show(audit: Audit, *, as_json: bool) -> None:
    if as_json:
        table = {
            "verdict": audit.verdict.value,
            "recordings": audit.recordings,
            "heads": audit.heads,
            "troubles": [
                {
                    "subject": row.subject,
                    "code": row.code,
                    "verdict": row.verdict.value,
                    "reason": row.reason,
                }
                for row in audit.troubles
            ],
        }
        print(json.dumps(table, indent=2))
        return
    for row in audit.troubles:
        print(f"{WORD_OF[row.verdict]:<11} {row.subject}: {row.code}: {row.reason}")
    counted = f"{audit.recordings} recordings and {audit.heads} heads"
    print(f"{WORD_OF[audit.verdict]:<11} {counted} were looked at, {len(audit.troubles)} findings")
