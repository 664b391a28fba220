"""recorderctl open: decrypts recordings for whoever holds a recipient's key, on his own machine.

Contract: what opens stands whole under its own name in ``--out``, or not at all; nothing is overwritten. A
draft that a crash left is opened as far as it goes: what is damaged or destroyed in it reads as silence, is
named, and the exit code says so. Its WAV header is made to tell of what there is. Where a manifest lies
beside envelopes, what was opened is compared with what it tells; CBC proves nothing by itself.
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from recorderd import durable
from recorderd.app.draft_proof import Proved, prove_opened
from recorderd.app.shown_names import shown_names
from recorderd.core.errors import EnvelopeUnopened, ExportBlocked, FormatError, KeyUnusable, RecorderError
from recorderd.evidence.draft_cipher import KEY_BYTES, BlockOpener
from recorderd.evidence.draft_container import ContainerReader
from recorderd.evidence.opening import Opener, open_envelope
from recorderd.record.vault import vault_name, wrapped_key_name
from recorderd.record.wav_file import close_data
from recorderd.wire.manifest import manifest_name, parse_manifest
from recorderd.wire.names import index_name, opened_name
from recorderd.wire.recording_index import parse_index
from recorderd.wire.wav import parse_wav

EXIT_DAMAGED: Final = 65
_PART: Final = re.compile(r"(.+)\.(\d{3})\.p7m")
_DRAFT: Final = vault_name("")
_DRAFT_KEY: Final = wrapped_key_name("", suffix="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file that was opened, and what was not right about it."""

    path: str
    sha256: str
    size_bytes: int
    findings: tuple[str, ...] = ()
    proved_samples: int | None = None  # of a draft: the beginning that was signed while the call went on
    shown: dict[str, str] = field(default_factory=dict)  # what hides in its manifest


def add_command(commands: Any) -> None:
    """Add ``open`` to the commands of ``recorderctl``."""
    parser = commands.add_parser("open", help="decrypt recordings with a recipient's private key")
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="X.p7m, X.001.p7m (all parts), X.draft, or a folder",
    )
    parser.add_argument("--key", type=Path, metavar="F", help="the recipient's private key, PEM")
    parser.add_argument("--certificate", type=Path, metavar="F", help="the recipient's certificate, PEM")
    parser.add_argument(
        "--draft-key", type=Path, metavar="F", help="a draft's key that gpg or openssl opened"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Open what was named.

    Errors: EnvelopeUnopened; KeyUnusable; ExportBlocked.
    """
    opener = _opener(arguments.key, arguments.certificate)
    durable.make_dir(arguments.out)
    rows, failed = [], 0
    for name, paths in _groups(arguments.paths).items():
        try:
            if paths[0].name.endswith(_DRAFT):
                key = _draft_key(paths[0], opener, arguments.draft_key)
                rows.append(_open_draft(paths[0], key, arguments.out / name))
            else:
                rows.append(_open_parts(paths, _wanted(opener), arguments.out / name))
        except (RecorderError, OSError) as problem:
            failed += 1
            print(f"recorderctl: {problem}", file=sys.stderr)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    for row in rows if not arguments.json else []:
        print(f"{row.sha256}  {row.path}")
        for finding in row.findings:
            print(f"            {finding}")
        if row.proved_samples:
            print(f"            the first {row.proved_samples} samples are what was signed during the call")
        for hidden, text in row.shown.items():
            print(f"            {text} is {hidden}")
    if not rows and not failed:
        print("recorderctl: nothing encrypted found there", file=sys.stderr)
    return 0 if rows and not failed and not any(row.findings for row in rows) else EXIT_DAMAGED


def _groups(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Say which files make one: its name, and its parts in order."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        entries = sorted(path.rglob("*")) if path.is_dir() else [path]
        for entry in entries:
            part = _PART.fullmatch(entry.name)
            if part is not None:
                siblings = sorted(entry.parent.glob(f"{part[1]}.[0-9][0-9][0-9].p7m"))
                found[part[1]] = siblings
            elif entry.name.endswith(_DRAFT):
                found[entry.name.removesuffix(_DRAFT)] = [entry]
            elif entry.suffix == ".p7m" and not entry.stem.endswith(_DRAFT_KEY):
                found[entry.stem] = [entry]
            elif not path.is_dir():
                raise EnvelopeUnopened(subject=entry, reason="is neither .p7m nor .draft; for .gpg take gpg")
    return found


def _opener(key_file: Path | None, certificate_file: Path | None) -> Opener | None:
    if key_file is None or certificate_file is None:
        if key_file is not certificate_file:
            raise KeyUnusable(path=key_file or certificate_file, reason="--key and --certificate go together")
        return None
    try:
        return Opener.from_files(key_file=key_file, certificate_file=certificate_file)
    except KeyUnusable:
        if not sys.stdin.isatty():
            raise
    passphrase = getpass.getpass(f"Passphrase of {key_file}: ").encode()
    return Opener.from_files(key_file=key_file, certificate_file=certificate_file, passphrase=passphrase)


def _wanted(opener: Opener | None) -> Opener:
    if opener is None:
        raise KeyUnusable(path="of a recipient", reason="name it with --key and --certificate")
    return opener


def _draft_key(container: Path, opener: Opener | None, opened: Path | None) -> BlockOpener:
    if opened is not None:
        content = opened.read_bytes()
    else:
        audio = container.name.removesuffix(_DRAFT)
        wrapped = container.with_name(wrapped_key_name(audio, suffix=".p7m"))
        if not wrapped.exists():
            reason = f"no {wrapped.name} beside it; open the one that is there and name it with --draft-key"
            raise EnvelopeUnopened(subject=container.name, reason=reason)
        with wrapped.open("rb") as stream:
            content = b"".join(open_envelope(stream, _wanted(opener), subject=wrapped.name))
    if len(content) != KEY_BYTES:
        raise EnvelopeUnopened(subject=container.name, reason=f"a key of {len(content)} octets is none of it")
    return BlockOpener(content)


def _open_parts(paths: Sequence[Path], opener: Opener, target: Path) -> Opened:
    numbers = [int(part[2]) for path in paths if (part := _PART.fullmatch(path.name)) is not None]
    if numbers and numbers != list(range(1, len(numbers) + 1)):
        raise EnvelopeUnopened(subject=target.name, reason=f"parts {numbers} are not all of them in order")

    def blocks() -> Iterator[bytes]:
        for path in paths:
            with path.open("rb") as stream:
                yield from open_envelope(stream, opener, subject=path.name)

    digest = _publish(target, blocks())
    findings = tuple(_differences(paths, digest))
    return Opened(path=str(target), sha256=digest, size_bytes=target.stat().st_size, findings=findings)


def _differences(paths: Sequence[Path], sha256_hex: str) -> Iterator[str]:
    """Compare what was opened with what stands beside it tells; whose that is, `verify` says."""
    folder, names = paths[0].parent, [path.name for path in paths]
    for path in sorted([*folder.glob(f"*{manifest_name('')}"), *folder.glob(f"*{index_name('')}")]):
        try:
            raw = path.read_bytes()
            files = (parse_index(raw) if path.name.endswith(index_name("")) else parse_manifest(raw)).files
        except FormatError as problem:
            yield f"{path.name}: {problem}"
            continue
        named = next((entry for entry in files if entry.name in names and entry.content_sha256), None)
        if named is None:
            continue
        told = [entry for entry in files if opened_name(entry.name) == opened_name(named.name)]
        if [entry.name for entry in told] != names:
            yield f"{path.name} tells of {len(told)} parts, not of {len(paths)}"
        elif named.content_sha256 != sha256_hex:
            yield f"{path.name} tells of another content, {named.content_sha256}"


def _open_draft(path: Path, key: BlockOpener, target: Path) -> Opened:
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        size_bytes = path.stat().st_size
        reader = ContainerReader(_reader(stream), key, size_bytes=size_bytes, subject=path.name, salvage=True)

        def repair(half: Path) -> None:
            descriptor = os.open(half, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            layout = parse_wav(reader.head, file_bytes=reader.plain_bytes)
            close_data(descriptor, layout, frames=layout.held_frames)
            proved.append(prove_opened(path, key, descriptor, layout))

        proved: list[Proved] = []
        digest = _publish(target, reader.plain(), repair=repair)
    return Opened(
        path=str(target),
        sha256=digest,
        size_bytes=target.stat().st_size,
        findings=(*reader.findings, *(row.problem for row in proved if row.problem)),
        proved_samples=next((row.samples for row in proved), None),
        shown=shown_names(path, key.veil, beside=target.parent),
    )


def _reader(stream: BinaryIO) -> Callable[[int, int], bytes]:
    def read(position: int, size_bytes: int) -> bytes:
        return os.pread(stream.fileno(), size_bytes, position)

    return read


def _publish(target: Path, blocks: Iterable[bytes], *, repair: Callable[[Path], None] | None = None) -> str:
    """Write a file whole or not at all; returns its SHA-256."""
    if target.exists():
        raise ExportBlocked(path=target)
    half = target.with_name(f".{target.name}.opening")
    half.unlink(missing_ok=True)
    durable.create_from(half, blocks, mode=0o600)
    try:
        if repair is not None:
            repair(half)
        with half.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        durable.publish(half, target)
    finally:
        half.unlink(missing_ok=True)
    return digest
