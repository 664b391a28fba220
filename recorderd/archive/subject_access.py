"""Everything that the archive holds about a number or a person, as one sealed folder (GDPR, article 15).

Contract: the folder appears whole under its name, or not at all; of what is sent file by file
(``tar_pieces``), what was cut off has no SHA256SUMS. What it holds stands there, and the archive signs it;
recordings are as it exports them, each with the recorder's own signatures.

    index.html  index.json           what there is, for people and for programs
    recordings/<recorder>/<id>/      files, manifest as XML beside them, proofs of time stamps
    SHA256SUMS  SHA256SUMS.p7s       sha256sum -c; a detached CAdES signature over it
    archive-certificate.pem          whose the signature is
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from recorderd import durable
from recorderd.archive.annotations import Annotations
from recorderd.archive.audit_log import AuditFilter, AuditLog, AuditRow
from recorderd.archive.catalogue import Entry
from recorderd.archive.database import Database
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.inclusion import export_inclusion
from recorderd.archive.renewals import export_renewals, stamps_of_group
from recorderd.archive.retention_book import RetentionBook
from recorderd.archive.store import Store
from recorderd.core.errors import BundleBlocked
from recorderd.evidence.digest import sha256_file
from recorderd.evidence.keys import Signer
from recorderd.policy.retention import KeptRecording

SUMS_NAME: Final = "SHA256SUMS"
CERTIFICATE_NAME: Final = "archive-certificate.pem"
CHECK: Final = (
    f"openssl cms -verify -binary -cades -inform DER -in {SUMS_NAME}.p7s -content {SUMS_NAME} "
    f"-CAfile {CERTIFICATE_NAME} -purpose any -out /dev/null && sha256sum -c {SUMS_NAME}"
)
_PARTIAL: Final = ".partial"
_AUDIO: Final = ".wav"
_ACCESSES_MAX: Final = 1000  # of one recording
_STYLE: Final = (
    "body{font-family:sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse}"
    "td,th{border:1px solid #999;padding:.3em .6em;text-align:left;vertical-align:top}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose the request is, and what is said of it."""

    number: str
    reason: str
    by: str
    scope: str  # among which recordings was looked
    archive_id: str
    made_at: str  # RFC 3339, UTC
    made_utc_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One recording about the subject."""

    entry: Entry
    retention_class: str
    due: str  # when it is erased; empty = not known
    holds: tuple[int, ...]


def found_of(
    pairs: Sequence[tuple[KeptRecording, Entry]],
    *,
    database: Database,
    book: RetentionBook,
    holds: HoldBook,
    now_utc: str,
) -> list[Found]:
    """Say of each recording how long it is kept.

    Errors: CatalogueFailed, EvidenceError.
    """
    with database.read() as connection:
        ruling = book.ruling(connection)
        index = holds.index(connection, now_utc=now_utc)
    found = []
    for row, entry in pairs:
        name = row.facts.retention_class
        due = ruling.due(row_id=row.row_id, ended_utc_s=row.ended_utc_s, name=name).due_utc_s
        day = datetime.fromtimestamp(due, tz=UTC).date().isoformat() if due is not None else ""
        numbers = tuple(hold.number for hold in index.of(row.facts))
        found.append(Found(entry=entry, retention_class=name, due=day, holds=numbers))
    return found


def check_free(out: Path) -> None:
    """See that a bundle may be made under this name.

    Errors: BundleBlocked.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleBlocked(path=out)


def make_bundle(
    out: Path,
    subject: Subject,
    found: Sequence[Found],
    *,
    store: Store,
    annotations: Annotations,
    audit: AuditLog,
    signer: Signer,
    advance: Callable[[int], None] | None = None,
) -> list[str]:
    """Make the bundle; give the names of its files.

    Durable: after return it survives, whole.
    Errors: BundleBlocked, OSError, KeyUnusable; what was begun lies beside with the ending `.partial`.
    """
    check_free(out)
    partial = out.with_name(out.name + _PARTIAL)
    if partial.exists():  # of a run that was cut
        _clear(partial)
    partial.mkdir(parents=True)
    bundle = Bundle(subject, store=store, annotations=annotations, audit=audit, signer=signer)
    for row in found:
        bundle.add(row, partial)
        if advance is not None:
            advance(row.entry.size_bytes)
    bundle.close(partial)
    for folder in sorted({(partial / name).parent for name in bundle.names}):
        durable.sync_dir(folder)
    if out.exists():
        out.rmdir()
    durable.publish(partial, out)
    return sorted(bundle.names)


class Bundle:
    """A bundle that is being made: recording by recording, then its index and its seal.

    Thread: one.
    Errors: OSError, KeyUnusable, CatalogueFailed.
    """

    def __init__(
        self, subject: Subject, *, store: Store, annotations: Annotations, audit: AuditLog, signer: Signer
    ) -> None:
        self._subject = subject
        self._store = store
        self._annotations = annotations
        self._audit = audit
        self._signer = signer
        self._rows: list[dict[str, Any]] = []
        self._sha256s: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """The files that stand in SHA256SUMS."""
        return list(self._sha256s)

    def add(self, found: Found, into: Path) -> list[str]:
        """Write a recording's files below ``into``; give their names."""
        place = Path("recordings") / found.entry.recorder_id / found.entry.id
        _export(self._store, found.entry, into / place)
        names = sorted(path.name for path in (into / place).iterdir())
        self._rows.append(_row(found, place, names, self._annotations, self._audit))
        return self._sum(into, [(place / name).as_posix() for name in names])

    def close(self, into: Path) -> list[str]:
        """Write index, digests and signature; give their names."""
        subject = self._subject
        index = {**asdict(subject), "recordings": self._rows}
        # A stray file's name may be no UTF-8: in the sums it is as it is, else they would not check.
        _write(into / "index.json", json.dumps(index, indent=2, ensure_ascii=False).encode(errors="replace"))
        _write(into / "index.html", _page(subject, self._rows).encode(errors="replace"))
        _write(into / CERTIFICATE_NAME, self._signer.certificate_pem)
        names = self._sum(into, ["index.html", "index.json", CERTIFICATE_NAME])
        lines = (f"{sha256}  {name}\n" for name, sha256 in sorted(self._sha256s.items()))
        sums = os.fsencode("".join(lines))
        _write(into / SUMS_NAME, sums)
        signature = self._signer.sign_bytes(sums, signing_time_utc_s=subject.made_utc_s)
        _write(into / f"{SUMS_NAME}.p7s", signature)
        return [*names, SUMS_NAME, f"{SUMS_NAME}.p7s"]

    def _sum(self, into: Path, names: Sequence[str]) -> list[str]:
        self._sha256s |= {name: sha256_file(into / name)[0] for name in names}
        return list(names)


def _export(store: Store, entry: Entry, into: Path) -> None:
    root = store.root
    store.export(entry.path, into)
    proof = export_inclusion(
        root, entry.recorder_id, recording_id=entry.id, manifest_sha256=entry.manifest_sha256, out=into
    )
    stamps = [(path, into / Path(path).name) for path in stamps_of_group(store, entry.path)]
    for _ in export_renewals(root, [*stamps, *proof.stamps]):
        pass


def _row(
    found: Found, place: Path, names: Sequence[str], annotations: Annotations, audit: AuditLog
) -> dict[str, Any]:
    entry = found.entry
    told = ("id", "recorder_id", "started_at", "duration_s", "direction", "caller", "callee", "extension")
    return {
        **{name: getattr(entry, name) for name in (*told, "queue", "trunk", "state", "archived_at")},
        "retention_class": found.retention_class,
        "erased_on": found.due,
        "holds": list(found.holds),
        "folder": place.as_posix(),
        "files": list(names),
        "tags": list(annotations.tags(entry.row_id)),
        "notes": [
            {"at": note.at, "by": note.who, "text": note.text} for note in annotations.notes(entry.row_id)
        ],
        "accesses": [
            {"at": row.at, "by": row.who, "what": row.what, "outcome": row.outcome}
            for row in _accesses(entry, audit)
        ],
    }


def _accesses(entry: Entry, audit: AuditLog) -> list[AuditRow]:
    """Give what was done with a recording, newest first; the page and shares name its recorder as well."""
    names = entry.id, f"{entry.recorder_id}/{entry.id}"
    rows = [row for name in names for row in audit.rows(AuditFilter(subject=name), limit=_ACCESSES_MAX)]
    return sorted(rows, key=lambda row: row.number, reverse=True)[:_ACCESSES_MAX]


def _page(subject: Subject, rows: Sequence[dict[str, Any]]) -> str:
    head = (
        "begun (UTC)",
        "seconds",
        "from",
        "to",
        "direction",
        "kept until",
        "what there is",
        "notes",
        "seen by",
    )
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(subject.number)}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Recordings with {escape(subject.number)}</h1>",
        f"<p>{len(rows)} recordings, by archive {escape(subject.archive_id)}, {escape(subject.made_at)}, "
        f"made by {escape(subject.by)}: {escape(subject.reason)}</p>",
        f"<p>Looked for among {escape(subject.scope)}.</p>",
        f"<p>Is this what the archive gave out? <code>{escape(CHECK)}</code></p>",
        "<table><tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>",
    ]
    for row in rows:
        kept = f"on hold ({', '.join(map(str, row['holds']))})" if row["holds"] else row["erased_on"]
        notes = "<br>".join(escape(f"{note['at']} {note['by']}: {note['text']}") for note in row["notes"])
        seen = "<br>".join(escape(f"{one['at']} {one['by']}: {one['what']}") for one in row["accesses"])
        plain = (row["started_at"], row["duration_s"], row["caller"], row["callee"], row["direction"], kept)
        cells = [escape(str(value)) for value in plain]
        cells += [_files(row), notes, seen]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</table></body></html>", ""])


def _files(row: dict[str, Any]) -> str:
    parts = []
    for name in row["files"]:
        address = escape(f"{row['folder']}/{name}", quote=True)
        if name.endswith(_AUDIO):
            parts.append(f'<audio controls src="{address}"></audio>')
        parts.append(f'<a href="{address}">{escape(name)}</a>')
    return "<br>".join(parts)


def _write(path: Path, content: bytes) -> None:
    durable.create(path, content)


def _clear(partial: Path) -> None:
    for path in sorted(partial.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    partial.rmdir()
