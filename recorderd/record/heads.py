"""The head of the chain, signed now and then: whoever holds one can tell when the chain was cut short.

Contract: a head is appended to `heads.jsonl` in the state folder, then laid into the spool for the archive;
cut between the two, the next start lays it down again. One that finds no room there is laid down before the
next one is signed: the archive misses none. Heads follow each other as manifests do. What is
counted (calls that left no entry) is told by the next head; a crash takes the counts since the last one.
Thread: ``state`` the sealing thread, or any other when that has ended; ``count`` and ``describe`` any.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from recorderd import durable
from recorderd.core.clock import NS_PER_S, Clock, utc_text
from recorderd.core.errors import EvidenceError, FormatError, KeyUnusable, RecorderError
from recorderd.core.events import Ev, EventLog
from recorderd.evidence.keys import Signer
from recorderd.record.chain import Chain
from recorderd.spool.head_box import HeadBox
from recorderd.wire.chain_head import (
    HEAD_LIMIT_BYTES,
    Counted,
    HeadBody,
    SignedHead,
    encode_head,
    encode_head_body,
    fingerprint,
    head_name,
    parse_head,
)
from recorderd.wire.manifest import GENESIS_SHA256

HEADS_NAME: Final = "heads.jsonl"


class Heads:
    """The signed heads of one recorder's chain."""

    def __init__(
        self,
        state_dir: Path,
        *,
        recorder_id: str,
        chain: Chain,
        box: HeadBox,
        signer: Callable[[], Signer],
        clock: Clock,
        log: EventLog,
    ) -> None:
        self._path = state_dir / HEADS_NAME
        self._recorder_id = recorder_id
        self._chain = chain
        self._box = box
        self._signer = signer
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._counted: Counter[str] = Counter()
        self._owed = ""  # cause of a head that only wants the key
        self._sure_bytes = -1  # how long the file was before an append that has failed
        self._to_lay = b""  # the newest head, until it lies in the spool
        self.newest: HeadBody | None = None

    def begin(self) -> None:
        """Find where the heads stand; one that a cut kept from the spool goes there now.

        Errors: EvidenceError when the newest cannot be read, or states more than the chain has.
        """
        self._box.prepare()
        raw, torn_bytes = _last_line(self._path)
        if torn_bytes:  # it was never told to anybody
            durable.truncate(self._path, self._path.stat().st_size - torn_bytes)
        if not raw:
            return
        try:
            body = parse_head(raw).body
        except FormatError as problem:
            raise EvidenceError(subject=self._path, reason=f"last line cannot be read: {problem}") from None
        if body.sequence > self._chain.head.sequence:
            reason = f"states {body.sequence} entries, the chain has {self._chain.head.sequence}"
            raise EvidenceError(subject=self._path, reason=reason)
        self.newest, self._to_lay = body, raw
        try:
            self._lay_down()
        except OSError as problem:
            self._log.error(Ev.HEAD_FAILED, subject=str(body.number), reason=problem)

    def count(self, reason: str) -> None:
        """Count a call that leaves no entry in the chain."""
        with self._lock:
            self._counted[reason] += 1

    def state(self, cause: str) -> None:
        """Sign the head as it is now; what keeps it from being done is reported, and tried again next time.

        Durable: after return the head survives, in the state folder and in the spool.
        """
        with self._lock:
            counted, self._counted = self._counted, Counter()
        try:
            self._state(cause, counted)
        except (RecorderError, OSError) as problem:
            self._owed = cause if isinstance(problem, KeyUnusable) else ""
            with self._lock:
                self._counted += counted
            self._log.error(Ev.HEAD_FAILED, subject=cause, reason=problem)

    def state_owed(self) -> None:
        """Sign the head that only wanted the key, if there is one."""
        cause, self._owed = self._owed, ""
        if cause:
            self.state(cause)

    def describe(self) -> dict[str, Any]:
        """Describe chain and newest head, for people and programs."""
        head = self._chain.head
        waiting = len(self._box.waiting())
        return _table(head.sequence, head.manifest_sha256, self.newest, waiting=waiting)

    def _state(self, cause: str, counted: Counter[str]) -> None:
        """Sign the head and lay it down; what it has told is taken out of ``counted``."""
        self._lay_down()
        link, before, utc_ns = self._chain.head, self.newest, self._clock.utc_ns()
        body = HeadBody(
            recorder_id=self._recorder_id,
            number=before.number + 1 if before else 1,
            previous_head_sha256=before.sha256 if before else GENESIS_SHA256,
            sequence=link.sequence,
            manifest_sha256=link.manifest_sha256,
            count=link.sequence - (before.sequence if before else 0),
            cause=cause,
            stated_at=utc_text(utc_ns),
            counted=tuple(Counted(reason=why, calls=calls) for why, calls in sorted(counted.items())),
        )
        signature = self._signer().sign_bytes(encode_head_body(body), signing_time_utc_s=utc_ns // NS_PER_S)
        document = encode_head(SignedHead(body=body, signature=signature))
        self._append(document + b"\n")
        self.newest, self._to_lay = body, document
        counted.clear()
        self._lay_down()
        self._log.info(
            Ev.HEAD_STATED,
            subject=str(body.number),
            sequence=body.sequence,
            cause=cause,
            fingerprint=fingerprint(body.manifest_sha256),
        )

    def _append(self, line: bytes) -> None:
        """Add a line; what an append that failed has left was never told to anybody, and is cut off before.

        Durable: after return the line survives. Errors: OSError.
        """
        if self._sure_bytes >= 0 and self._path.exists():
            durable.truncate(self._path, self._sure_bytes)
        self._sure_bytes = self._path.stat().st_size if self._path.exists() else 0
        durable.append(self._path, line)
        self._sure_bytes = -1

    def _lay_down(self) -> None:
        """Put the newest head into the spool, unless it was.

        Durable: after return it survives there. Errors: OSError.
        """
        if self._to_lay and self.newest is not None:
            self._box.put(head_name(self.newest.recorder_id, self.newest.number), self._to_lay)
        self._to_lay = b""


def stated_chain(state_dir: Path) -> dict[str, Any] | None:
    """Describe the chain by its newest head, for whoever cannot ask the recorder; None where there is none.

    Errors: OSError when the state folder cannot be read; HeadFormatError.
    """
    raw, _ = _last_line(state_dir / HEADS_NAME)
    if not raw:
        return None
    body = parse_head(raw).body
    return _table(body.sequence, body.manifest_sha256, body, waiting=0)


def _table(sequence: int, manifest_sha256: str, head: HeadBody | None, *, waiting: int) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "manifest_sha256": manifest_sha256,
        "fingerprint": fingerprint(manifest_sha256),
        "head": {
            "number": head.number if head else 0,
            "sequence": head.sequence if head else 0,
            "stated_at": head.stated_at if head else "",
            "waiting": waiting,
        },
    }


def _last_line(path: Path) -> tuple[bytes, int]:
    """Read the last whole line, and how many octets of a torn one follow it."""
    if not path.exists():
        return b"", 0
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size_bytes - 2 * HEAD_LIMIT_BYTES))
        tail = stream.read()
    whole, _, torn = tail.rpartition(b"\n")
    return whole.rpartition(b"\n")[2], len(torn)
