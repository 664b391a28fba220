"""Signs how far the audit log goes, with the key that signs receipts.

Contract: a head covers every row that was committed before it; what is cut off behind the newest head leaves
no trace in the database, but in the journal and the syslog that the rows went to.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from recorderd.archive.audit_log import FIRST_SHA256, AuditLog
from recorderd.archive.audit_tables import AUDIT_HEADS
from recorderd.archive.database import Database
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.evidence.keys import Signer
from recorderd.wire.audit_head import AuditHeadBody, SignedAuditHead, encode_audit_head, parse_audit_head


class AuditHeads:
    """The heads of one archive's log.

    Thread: any.
    Errors: CatalogueFailed.
    """

    def __init__(
        self, database: Database, audit_log: AuditLog, *, archive_id: str, signer: Signer, clock: Clock
    ) -> None:
        self._database = database
        self._audit_log = audit_log
        self._archive_id = archive_id
        self._signer = signer
        self._clock = clock

    def state(self, cause: str) -> AuditHeadBody | None:
        """Sign and keep a head; None when the newest head says the same already.

        Durable: after return it survives.
        Errors: KeyUnavailable, KeyUnusable.
        """
        with self._database.write() as connection:
            rows, row_sha256 = self._audit_log.last(connection)
            newest = _newest(connection)
            if newest is not None and newest.rows == rows:
                return None
            now_ns = self._clock.utc_ns()
            body = AuditHeadBody(
                archive_id=self._archive_id,
                number=newest.number + 1 if newest is not None else 1,
                previous_head_sha256=newest.sha256 if newest is not None else FIRST_SHA256,
                rows=rows,
                row_sha256=row_sha256,
                cause=cause,
                stated_at=utc_text(now_ns),
            )
            unsigned = SignedAuditHead(body=body, signature=b"")
            signature = self._signer.sign_bytes(unsigned.signed_bytes, signing_time_utc_s=now_ns // NS_PER_S)
            document = encode_audit_head(SignedAuditHead(body=body, signature=signature))
            connection.execute(AUDIT_HEADS.insert().values(number=body.number, document=document))
            return body


def _newest(connection: Connection) -> AuditHeadBody | None:
    newest = select(func.max(AUDIT_HEADS.c.number)).scalar_subquery()
    document = connection.execute(
        select(AUDIT_HEADS.c.document).where(AUDIT_HEADS.c.number == newest)
    ).scalar()
    return parse_audit_head(bytes(document)).body if document is not None else None


def kept_heads(database: Database) -> list[tuple[int, bytes]]:
    """Return number and document of every head, oldest first."""
    with database.read() as connection:
        query = select(AUDIT_HEADS).order_by(AUDIT_HEADS.c.number)
        return [(int(row.number), bytes(row.document)) for row in connection.execute(query)]
