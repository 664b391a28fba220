"""OpenPGP recipients: encrypted through the gpg program, as a stream, to keys that were looked at before.

Contract: ``load_pgp_recipients`` gives recipients or RecipientUnusable; ``encrypt`` gives what every OpenPGP
program opens: an integrity protected packet of version 1 (MDC), to exactly these keys, or EncryptionFailed.
gpg has a home of its own for one run: no keyring, no agent, no options of anybody's; it gets content by its
standard input and public keys by file. What it writes is looked at before the first octet is handed on.
Source: RFC 4880 sections 4.2, 5.1 and 5.13; GnuPG's doc/DETAILS (colon listings).
"""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from recorderd.core.errors import EncryptionFailed, RecipientUnusable
from recorderd.evidence.envelope import RECIPIENTS_MAX
from recorderd.evidence.recipients import RecipientFacts, read_public
from recorderd.evidence.strength import RSA_MIN_BITS

STALL_LIMIT_S: Final = 60.0
_PIPE_BYTES: Final = 1 << 16
_START_MAX_BYTES: Final = 1 << 20  # of the packets before the content
_SESSION_KEY_PACKET, _PROTECTED_PACKET = 1, 18
_PACKET_HEAD_MAX_BYTES, _MDC_VERSION = 7, 1  # with the first octet of its body
_RSA: Final = ("1", "2")
_ECDH: Final = "18"
_FLAWS: Final = {"e": "has expired", "r": "was revoked", "i": "is not valid", "d": "is disabled"}
_AS_OF_THEN: Final = ("--ignore-time-conflict", "--ignore-valid-from")
_COMMON: Final = ("gpg", "--batch", "--no-options", "--no-tty", "--no-autostart", "--no-auto-check-trustdb")


@dataclass(frozen=True, slots=True, kw_only=True)
class PgpRecipient:
    """An OpenPGP key whose holder will be able to open a recording."""

    key: bytes
    fingerprint: str
    expires_utc_s: int | None

    @property
    def name(self) -> str:
        """Whose key it is, for people: what a key says of its holder nobody has confirmed."""
        return f"OpenPGP {self.fingerprint}"

    @property
    def expires_at(self) -> datetime | None:
        """When the key ends; None = never."""
        return None if self.expires_utc_s is None else datetime.fromtimestamp(self.expires_utc_s, tz=UTC)

    def facts(self) -> RecipientFacts:
        """Tell of it."""
        return RecipientFacts(kind="pgp", name="", fingerprint=self.fingerprint, expires_at=self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PgpRecipients:
    """Everybody who is to open what is encrypted, by OpenPGP key."""

    recipients: tuple[PgpRecipient, ...]
    valid_utc_s: int  # when all of them were valid, but for those that came later
    kind: Literal["pgp"] = "pgp"
    suffix: Literal[".gpg"] = ".gpg"
    left_out: tuple[PgpRecipient, ...] = ()  # they have ended, and others have not

    def facts(self) -> tuple[RecipientFacts, ...]:
        """Tell of those to whom it is encrypted."""
        return tuple(recipient.facts() for recipient in self.recipients)

    def encrypt(self, blocks: Iterable[bytes | memoryview], *, content_bytes: int) -> Iterator[bytes]:
        """Encrypt a stream of ``content_bytes`` into one message.

        Errors: EncryptionFailed: gpg is missing, refuses, stands still, or writes another form than this;
        the stream is of another length.
        """
        if not 1 <= len(self.recipients) <= RECIPIENTS_MAX:
            reason = f"{len(self.recipients)} recipients; 1 to {RECIPIENTS_MAX} are possible"
            raise EncryptionFailed(subject="content", reason=reason)
        with _home() as home:
            names = []
            for number, recipient in enumerate(self.recipients):
                (home / f"{number}.key").write_bytes(recipient.key)
                names += ["--recipient-file", str(home / f"{number}.key")]
            # One that has ended must not cost a recording: gpg is asked as of when all were valid. A younger
            # key than that is none to it unless told.
            moment = ["--faked-system-time", f"{self.valid_utc_s}!", *_AS_OF_THEN]
            how = [
                "--rfc4880",
                "--cipher-algo",
                "AES256",
                "--compress-algo",
                "none",
                "--trust-model",
                "always",
            ]
            command = [*_COMMON, *moment, *how, *names, "--output", "-", "--encrypt"]
            yield from _checked(
                _through(command, home, blocks, content_bytes=content_bytes), len(self.recipients)
            )


def load_pgp_recipients(paths: Sequence[Path], *, now_utc_s: int | None = None) -> PgpRecipients:
    """Read OpenPGP public keys, one per file, and look whether they may be encrypted to.

    Keys that have ended are left out while another one is valid; if none is, all of them are taken.

    Errors: RecipientUnusable: unreadable, several or private keys in a file, nothing to encrypt with, weak or
    revoked; gpg is missing.
    """
    moment = int(time.time()) if now_utc_s is None else now_utc_s
    rows = [_load(path, moment) for path in paths]
    ended = [row for row in rows if row.expires_utc_s is not None and row.expires_utc_s <= moment]
    valid = [row for row in rows if row not in ended]
    last = [row.expires_utc_s - 1 for row in ended if row.expires_utc_s is not None]
    return PgpRecipients(
        recipients=tuple(valid or ended),
        valid_utc_s=moment if valid else min(last),
        left_out=tuple(ended if valid else ()),
    )


def _load(path: Path, moment: int) -> PgpRecipient:
    key = read_public(path)
    rows = _listed(path, key, moment)
    reason, ends_utc_s = _flaw(rows), _end(rows)
    if reason and ends_utc_s is not None and ends_utc_s <= moment:
        reason = _flaw(_listed(path, key, ends_utc_s - 1)) or _revoked(rows)  # what else is wrong with it
    if reason:
        raise RecipientUnusable(path=path, reason=reason)
    fingerprint = next(row[9] for row in rows if row[0] == "fpr")
    return PgpRecipient(key=key, fingerprint=fingerprint, expires_utc_s=ends_utc_s)


def _listed(path: Path, key: bytes, moment: int) -> list[list[str]]:
    """Let gpg say what it sees in a key at a moment."""
    with _home() as home:
        command = [*_COMMON, "--faked-system-time", f"{moment}!", "--with-colons", "--show-keys"]
        try:
            done = subprocess.run(
                command,
                env=_environment(home),
                input=key,
                capture_output=True,
                check=False,
                timeout=STALL_LIMIT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise RecipientUnusable(path=path, reason=f"gpg: {problem}") from None
    rows = [line.split(":") for line in done.stdout.decode(errors="replace").splitlines()]
    return [[*row, *([""] * 21)] for row in rows if row[0] in ("pub", "sub", "sec", "ssb", "fpr")]


def _end(rows: Sequence[Sequence[str]]) -> int | None:
    """Say when a key, or the last of its subkeys for encryption, ends; None = never."""
    primary = [int(row[6]) for row in rows if row[0] == "pub" and row[6].isdigit()]
    parts = [row[6] for row in rows if row[0] in ("pub", "sub") and "e" in row[11] and row[1] != "r"]
    last = [max(map(int, parts))] if parts and all(text.isdigit() for text in parts) else []
    return min([*primary, *last], default=None)


def _revoked(rows: Sequence[Sequence[str]]) -> str:
    usable = [row for row in rows if row[0] in ("pub", "sub") and "e" in row[11] and row[1] != "r"]
    return "" if usable and all(row[1] != "r" for row in rows if row[0] == "pub") else _FLAWS["r"]


def _flaw(rows: Sequence[Sequence[str]]) -> str:
    """Say why a key may not be encrypted to; rows are of gpg's colon listing."""
    rows = [row for row in rows if row[0] != "fpr"]
    primaries = [row for row in rows if row[0] in ("pub", "sec")]
    if any(row[0] in ("sec", "ssb") for row in rows):
        return "holds a private key, which must not lie on a recorder"
    if len(primaries) != 1:
        return f"holds {len(primaries)} OpenPGP keys; give each recipient a file with only its own"
    if flaw := _FLAWS.get(primaries[0][1]):
        return flaw
    if "D" in primaries[0][11]:
        return _FLAWS["d"]
    usable = [row for row in rows if "e" in row[11] and row[1] not in _FLAWS]
    if not usable:
        return "has no key for encryption that is valid"
    for row in usable:
        if row[3] in _RSA and int(row[2]) < RSA_MIN_BITS:
            return f"RSA of {row[2]} bits, {RSA_MIN_BITS} are needed"
        if row[3] not in (*_RSA, _ECDH):
            return "encrypts with neither RSA nor ECDH"
    return ""


@contextmanager
def _home() -> Iterator[Path]:
    """Give gpg a folder for one run; only public keys are ever in it."""
    with tempfile.TemporaryDirectory(prefix="recorderd-gpg-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _environment(home: Path) -> dict[str, str]:
    return {"GNUPGHOME": str(home), "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _through(
    command: Sequence[str], home: Path, blocks: Iterable[bytes | memoryview], *, content_bytes: int
) -> Iterator[bytes]:
    """Run a program with a stream as its input and give its output. Errors: EncryptionFailed."""
    with tempfile.TemporaryFile() as said:
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(
                command, env=_environment(home), stdin=pipe, stdout=pipe, stderr=said, bufsize=0
            )
        except OSError as problem:
            raise EncryptionFailed(subject="content", reason=f"gpg: {problem.strerror}") from None
        try:
            whole = yield from _pumped(process, _measured(blocks, content_bytes))
            if process.wait(timeout=STALL_LIMIT_S) != 0 or not whole:
                said.seek(0)
                words = said.read(4096).decode(errors="replace").strip().splitlines()
                raise EncryptionFailed(subject="content", reason=words[-1] if words else "gpg failed")
        except subprocess.TimeoutExpired:
            raise EncryptionFailed(subject="content", reason="gpg does not end") from None
        finally:
            process.kill()
            for pipe_end in (process.stdin, process.stdout):
                if pipe_end is not None:
                    pipe_end.close()
            process.wait()


def _measured(blocks: Iterable[bytes | memoryview], content_bytes: int) -> Iterator[memoryview]:
    left_bytes = content_bytes
    for block in blocks:
        left_bytes -= len(block)
        if len(block):
            yield memoryview(block)
    if left_bytes:
        raise EncryptionFailed(subject="content", reason=f"is {left_bytes} octets away from what was said")


def _pumped(process: subprocess.Popen[bytes], blocks: Iterator[memoryview]) -> Generator[bytes, None, bool]:
    """Feed a program and read it at once, so that neither waits for the other; tell whether it took all."""
    source, sink = process.stdin, process.stdout
    if source is None or sink is None:
        raise RuntimeError("a program without pipes")
    os.set_blocking(source.fileno(), False)
    took_all, waiting = True, memoryview(b"")
    with selectors.DefaultSelector() as ready:
        ready.register(sink, selectors.EVENT_READ)
        ready.register(source, selectors.EVENT_WRITE)
        while ready.get_map():
            events = ready.select(timeout=STALL_LIMIT_S)
            if not events:
                raise EncryptionFailed(subject="content", reason="gpg stands still")
            for key, _ in events:
                if key.fileobj is sink:
                    if octets := os.read(sink.fileno(), _PIPE_BYTES):
                        yield octets
                    else:
                        ready.unregister(sink)
                    continue
                waiting = waiting or next(blocks, waiting)
                try:
                    waiting = waiting[os.write(source.fileno(), waiting[:_PIPE_BYTES]) :]
                except BrokenPipeError:
                    took_all, waiting = False, waiting[:0]
                if not waiting and (not took_all or not (waiting := next(blocks, waiting))):
                    ready.unregister(source)
                    source.close()
    return took_all


def _checked(octets: Iterator[bytes], recipients: int) -> Iterator[bytes]:
    """Hand on a message whose beginning is as it should be. Errors: EncryptionFailed."""
    start = b""
    for block in octets:
        start += block
        if _is_protected(start, recipients):
            break
        if len(start) > _START_MAX_BYTES:
            raise EncryptionFailed(subject="content", reason="gpg writes no end of recipients")
    else:
        raise EncryptionFailed(subject="content", reason="gpg wrote no whole message")
    yield start
    yield from octets


def _is_protected(start: bytes, recipients: int) -> bool:
    """Tell whether a message begins with so many recipients and a protected packet; no while it is too short.

    Errors: EncryptionFailed when it is another message.
    """
    at = found = 0
    while at + _PACKET_HEAD_MAX_BYTES <= len(start):
        tag, body_at, length = _packet(start, at)
        if tag == _SESSION_KEY_PACKET and length is not None:
            found, at = found + 1, body_at + length
        elif tag == _PROTECTED_PACKET and found == recipients and start[body_at] == _MDC_VERSION:
            return True
        else:
            reason = f"gpg wrote packet {tag} behind {found} recipients, not one protected by MDC"
            raise EncryptionFailed(subject="content", reason=reason)
    return False


def _packet(start: bytes, at: int) -> tuple[int, int, int | None]:
    """Read a packet's tag, where its body begins, and its length if that is known at once."""
    first, size = start[at], start[at + 1]
    if not first & 0x80:
        raise EncryptionFailed(subject="content", reason="gpg wrote no OpenPGP packet")
    if not first & 0x40:  # old format
        count = (1, 2, 4, 0)[first & 3]
        length = int.from_bytes(start[at + 1 : at + 1 + count]) if count else None
        return first >> 2 & 0x0F, at + 1 + count, length
    if size < 192:
        return first & 0x3F, at + 2, size
    if size < 224:
        return first & 0x3F, at + 3, (size - 192 << 8) + start[at + 2] + 192
    if size == 255:
        return first & 0x3F, at + 6, int.from_bytes(start[at + 2 : at + 6])
    return first & 0x3F, at + 2, None  # partial
