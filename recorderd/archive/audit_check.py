"""Judges the audit log: has a row been changed, removed, put elsewhere, or cut off at the end?

Contract: reads rows and heads as they stand and shares nothing with what writes them: the form of a row is
stated here once more. Every finding names the row. What lies behind the newest head is only as good as the
hashes: somebody who may write the database can cut it off, or write it anew, until the next head.

A row's hash is the SHA-256 of its columns, but for the hash itself, as one JSON object: UTF-8, keys sorted,
no white space. `previous_sha256` is the hash of the row before; of the first, 64 zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from recorderd.archive.verdicts import Verdict
from recorderd.core.errors import FormatError, RecorderError, SignerUnknown
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.wire.audit_head import AuditHeadBody, parse_audit_head

_ZEROS: Final = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFinding:
    """One thing that is wrong with the audit log."""

    subject: str  # "audit row 5", "audit head 2"
    reason: str
    verdict: Verdict = Verdict.BAD


def judge_audit_log(
    rows: Iterable[Mapping[str, Any]], heads: Sequence[tuple[int, bytes]], trust: TrustStore
) -> Iterator[LogFinding]:
    """Judge rows, oldest first, against each other and against the signed heads.

    One row is held at a time.
    """
    bodies, problems = _heads(heads, trust)
    yield from problems
    stated: dict[int, list[AuditHeadBody]] = {}
    for body in bodies:
        stated.setdefault(body.rows, []).append(body)
    expected, previous = 1, _ZEROS
    last = 0
    for row in rows:
        number = int(row["number"])
        subject = f"audit row {number}"
        if number != expected:
            yield _gap(expected, number - 1)
        elif row["previous_sha256"] != previous:
            reason = "does not follow the row before: that one was changed, or this one put here"
            yield LogFinding(subject=subject, reason=reason)
        digest = _row_sha256(row)
        if digest != row["sha256"]:
            yield LogFinding(subject=subject, reason="was changed: its hash is another")
        for body in stated.get(number, ()):
            if digest != body.row_sha256:
                reason = f"is not the row that head {body.number} signed for at {body.stated_at}"
                yield LogFinding(subject=subject, reason=reason)
        last, expected, previous = number, number + 1, str(row["sha256"])
    reach = max(stated, default=0)
    if reach > last:
        yield _gap(last + 1, reach, why=f"head {stated[reach][0].number} signed for it")


def _heads(
    heads: Sequence[tuple[int, bytes]], trust: TrustStore
) -> tuple[list[AuditHeadBody], list[LogFinding]]:
    bodies: list[AuditHeadBody] = []
    found: list[LogFinding] = []
    previous, expected = _ZEROS, 1
    for number, document in heads:
        subject = f"audit head {number}"
        try:
            head = parse_audit_head(document)
        except (FormatError, UnicodeError) as problem:
            found.append(LogFinding(subject=subject, reason=str(problem)))
            continue
        body = head.body
        try:
            digest = sha256_bytes(head.signed_bytes)
            verify_detached(head.signature, sha256_hex=digest, trust=trust, subject=subject)
        except SignerUnknown as problem:  # the receipt key was renewed, its former certificate not kept
            found.append(LogFinding(subject=subject, reason=str(problem), verdict=Verdict.UNKNOWN))
        except RecorderError as problem:
            found.append(LogFinding(subject=subject, reason=str(problem)))
            continue
        if body.number != number or number != expected or body.previous_head_sha256 != previous:
            found.append(LogFinding(subject=subject, reason="does not follow the head before"))
        previous, expected = body.sha256, body.number + 1
        bodies.append(body)
    return bodies, found


def _gap(first: int, last: int, *, why: str = "") -> LogFinding:
    one = first >= last
    subject = f"audit row {first}" if one else f"audit rows {first} to {last}"
    reason = "is missing" if one else "are missing"
    return LogFinding(subject=subject, reason=f"{reason}: {why}" if why else reason)


def _row_sha256(row: Mapping[str, Any]) -> str:
    columns = {name: value for name, value in row.items() if name != "sha256"}
    form = json.dumps(columns, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(form.encode(errors="surrogatepass")).hexdigest()
