"""Enrolment at the archive: makes codes, and exchanges keys with whoever proves to have one.

Rule: a code counts once, for a limited time, and for five tries. Who asks again with the very same request
lost the answer, and gets it again. A code's time is over by the archive's clock, or by the monotonic one of
the process that answers: a clock that is set back gives it no more. What was proved goes into the catalogue
together with the code's use and its row in the audit log, before the answer leaves. Whoever has no code
learns nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from recorderd.archive.audit_log import Actor, AuditLog
from recorderd.archive.database import Database
from recorderd.archive.enrolment_tables import ENROLMENTS, RECORDERS
from recorderd.archive.roster import Known, put_recorder
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.errors import EnrolmentFormatError, EvidenceError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.enrolment_code import EnrolmentCode, answer_mac, holds, request_mac
from recorderd.evidence.verify import TrustStore
from recorderd.wire.enrolment import (
    JoinAnswer,
    JoinRequest,
    Kind,
    encode_answer,
    encode_message,
    encode_refusal,
    parse_request,
    split_message,
)

TRIES: Final = 5
_SELF: Final = Actor(name="archive:enrolment")
_NOT_GOOD: Final = "the code is not known here, was used, or its time is over"
_E: Final = ENROLMENTS.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a recorder is told of this archive."""

    archive_id: str
    server_public_key: str
    receipt_certificate_pem: str
    endpoints: tuple[str, ...]
    port: int


class Enrolment:
    """Codes and joins of one archive.

    Thread: any.
    Errors: CatalogueFailed.
    """

    def __init__(
        self,
        database: Database,
        *,
        owner_of: Callable[[str], str | None],
        audit: AuditLog,
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._database = database
        self._owner_of = owner_of  # of a CURVE key
        self._audit = audit
        self._clock = clock
        self._log = log
        self._ends_ns: dict[str, int] = {}  # of each code that was seen, by the monotonic clock

    def begin(self, recorder_id: str, *, who: Actor, valid_s: int) -> EnrolmentCode:
        """Make a code for a recorder; an earlier one that waits for the same counts no more.

        Durable: after return it survives.
        """
        code, now_utc_s = EnrolmentCode.make(), self._now_utc_s()
        row = {
            "code_id": code.code_id,
            "recorder_id": recorder_id,
            "key": code.key(),
            "expires_utc_s": now_utc_s + valid_s,
            "failures": 0,
            "made_by": who.name,
            "used_at": "",
            "request_sha256": "",
        }
        with self._database.write() as connection:
            over = (_E.expires_utc_s <= now_utc_s) | (_E.recorder_id == recorder_id)
            connection.execute(delete(ENROLMENTS).where(over))
            connection.execute(insert(ENROLMENTS), row)
            detail = f"code {code.code_id}, good for {valid_s} s"
            self._audit.note(who, "enrolment_begun", recorder_id, detail=detail, connection=connection)
        return code

    def end_codes(self) -> None:
        """Forget codes whose time is over; called oftener than once in a code's time."""
        over = self._over()
        if over:
            with self._database.write() as connection:
                connection.execute(delete(ENROLMENTS).where(_E.code_id.in_(over)))

    def _over(self) -> list[str]:
        now_utc_s, now_ns = self._now_utc_s(), self._clock.mono_ns()
        with self._database.read() as connection:
            codes = connection.execute(select(_E.code_id, _E.expires_utc_s)).all()
        ends_ns = {
            code_id: now_ns + (expires_utc_s - now_utc_s) * NS_PER_S for code_id, expires_utc_s in codes
        }
        self._ends_ns = {
            code_id: min(end_ns, self._ends_ns.get(code_id, end_ns)) for code_id, end_ns in ends_ns.items()
        }
        return [code_id for code_id, end_ns in self._ends_ns.items() if end_ns <= now_ns]

    def answer(self, message: bytes, identity: Identity) -> tuple[Kind, bytes]:
        """Take a request, without its head, and give what to answer; a refusal says little."""
        try:
            raw, mac = split_message(message)
            request = parse_request(raw)
            TrustStore.from_pem(request.certificates_pem.encode())
        except (EnrolmentFormatError, EvidenceError) as problem:
            self._log.warning(Ev.ENROLMENT_REFUSED, subject="?", reason=problem)
            return _refused("it is no request of an enrolment")
        waiting = select(ENROLMENTS).where(_E.code_id == request.code_id)
        with self._database.read() as connection:  # whoever guesses numbers takes no writer's turn
            if connection.execute(waiting).first() is None:
                self._log.warning(
                    Ev.ENROLMENT_REFUSED, subject=request.code_id, reason="there is no such code"
                )
                return _refused(_NOT_GOOD)
        with self._database.write() as connection:
            row = connection.execute(waiting).mappings().first()
            reason = self._why_not(connection, row, raw, mac)
            if row is None or reason:
                self._log.warning(Ev.ENROLMENT_REFUSED, subject=request.code_id, reason=reason)
                return _refused(_NOT_GOOD)
            if request.recorder_id != row["recorder_id"]:
                return _refused(f"the code is for {row['recorder_id']}, not for {request.recorder_id}")
            owner = self._owner_of(request.curve_public_key)
            if owner not in (None, row["recorder_id"]):
                reason = f"it has the key of {owner}"
                self._log.warning(Ev.ENROLMENT_REFUSED, subject=request.code_id, reason=reason)
                return _refused("another recorder has this CURVE key: make a new one")
            if not row["used_at"]:
                self._enroll(connection, str(row["recorder_id"]), str(row["made_by"]), request, raw)
            key, recorder_id = bytes(row["key"]), str(row["recorder_id"])
        self._log.info(Ev.RECORDER_ENROLLED, subject=recorder_id, code=request.code_id)
        body = encode_answer(
            JoinAnswer(
                archive_id=identity.archive_id,
                recorder_id=recorder_id,
                server_public_key=identity.server_public_key,
                receipt_certificate_pem=identity.receipt_certificate_pem,
                endpoints=identity.endpoints,
                port=identity.port,
            )
        )
        return Kind.ANSWER, encode_message(Kind.ANSWER, body, answer_mac(key, raw, body))

    def _why_not(self, connection: Connection, row: Any, raw: bytes, mac: bytes) -> str:
        """Say why a request is refused, and count a try that did not know the code."""
        if row is None:
            return "there is no such code"
        if row["failures"] >= TRIES:
            return f"it was tried {TRIES} times without being known"
        ends_ns = self._ends_ns.get(row["code_id"])
        is_over = ends_ns is not None and ends_ns <= self._clock.mono_ns()
        if is_over or row["expires_utc_s"] <= self._now_utc_s():
            return "its time is over"
        if not holds(mac, request_mac(bytes(row["key"]), raw)):
            more = update(ENROLMENTS).where(_E.code_id == row["code_id"]).values(failures=row["failures"] + 1)
            connection.execute(more)
            self._audit.note(
                _SELF,
                "recorder_enrolled",
                str(row["recorder_id"]),
                outcome="refused",
                detail=f"code {row['code_id']}: not who has the code",
                connection=connection,
            )
            return "whoever asks does not know the code"
        if row["used_at"] and row["request_sha256"] != sha256_bytes(raw):
            return "it was used"
        return ""

    def _enroll(
        self, connection: Connection, recorder_id: str, made_by: str, request: JoinRequest, raw: bytes
    ) -> None:
        at = utc_text(self._clock.utc_ns())
        same = select(RECORDERS).where(RECORDERS.c.recorder_id == recorder_id)
        former = connection.execute(same).mappings().first()
        before = Known(**former) if former is not None else Known(recorder_id=recorder_id)
        pem = before.certificates_pem
        if request.certificates_pem.strip() not in pem:
            pem += request.certificates_pem.strip() + "\n"
        known = Known(
            recorder_id=recorder_id,
            curve_public_key=request.curve_public_key,
            certificates_pem=pem,
            enrolled_at=at,
            quota_bytes=before.quota_bytes,
        )
        put_recorder(connection, known)
        used = update(ENROLMENTS).where(_E.code_id == request.code_id)
        connection.execute(used.values(used_at=at, request_sha256=sha256_bytes(raw)))
        detail = f"code {request.code_id} of {made_by}, key {request.curve_public_key}"
        self._audit.note(_SELF, "recorder_enrolled", recorder_id, detail=detail, connection=connection)

    def _now_utc_s(self) -> int:
        return self._clock.utc_ns() // NS_PER_S


def _refused(reason: str) -> tuple[Kind, bytes]:
    return Kind.REFUSAL, encode_message(Kind.REFUSAL, encode_refusal(reason))
