"""recorderctl verify: check recordings, their places in the chain, and how to do so by hand.

Exit codes: 0 everything is good, 65 something is bad, 69 something cannot be told.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recorderd.app import by_hand
from recorderd.app.by_hand_sealed import sealed_script
from recorderd.app.progress import SlowWork
from recorderd.archive.heads import read_heads
from recorderd.archive.lineage import Break, Place, judge_chains
from recorderd.archive.tombstone_checks import JudgedStone, judge_exported
from recorderd.archive.verdicts import BundleVerdict, Verdict
from recorderd.archive.verification import is_listening_folder, verify_bundle
from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.errors import EvidenceError, KeyUnusable
from recorderd.evidence.verify import TrustStore
from recorderd.wire.chain_head import HEAD_ENDING, HeadBody
from recorderd.wire.manifest import manifest_name
from recorderd.wire.names import LISTENING_FOLDER, index_name
from recorderd.wire.tombstone import TOMBSTONE_ENDING

EXIT_BAD: Final = 65
EXIT_CANNOT_TELL: Final = 69
EXIT_OF: Final = {Verdict.GOOD: 0, Verdict.BAD: EXIT_BAD, Verdict.UNKNOWN: EXIT_CANNOT_TELL}
WORD_OF: Final = {Verdict.GOOD: "verified", Verdict.BAD: "BAD", Verdict.UNKNOWN: "cannot tell"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One recording's folder and what came of it."""

    folder: Path
    verdict: BundleVerdict


def add_command(commands: Any) -> None:
    """Add the command to recorderctl's."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "verify", help="check recordings: signatures, digests, structure, chain"
    )
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="a recording's folder, or one of many"
    )
    parser.add_argument("--ca", type=Path, metavar="F", help="certificates that you trust, PEM")
    parser.add_argument("--tsa", type=Path, metavar="F", help="roots of time-stamp authorities, PEM")
    parser.add_argument(
        "--chain",
        action="store_true",
        help="also find recordings that are missing, doubled, out of order or altered; signed heads "
        f"(*{HEAD_ENDING}) that lie there are taken into account",
    )
    parser.add_argument(
        "--explain", action="store_true", help="print the openssl and sha256sum commands that do the same"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify what was named.

    Errors: KeyUnusable, EvidenceError when the trusted certificates cannot be read.
    """
    stones = _tombstones(arguments.paths, arguments.ca)
    folders = [
        folder
        for folder in recording_folders(arguments.paths)
        if folder not in {stone.path.parent for stone in stones}
    ]
    if not folders and not stones:
        print("recorderctl: no recording found there", file=sys.stderr)
        return EXIT_CANNOT_TELL
    judged = _judge_all(folders, arguments.ca, arguments.tsa)
    if arguments.explain:
        return _explain(judged, arguments.ca)
    breaks: tuple[Break, ...] = ()
    if arguments.chain:
        heads, problems = _heads(arguments.paths, folders, arguments.ca)
        places = [*places_of(judged), *(stone.place for stone in stones if stone.place is not None)]
        breaks = (*problems, *judge_chains(places, heads))
    if arguments.json:
        print(json.dumps(_as_json(judged, stones, breaks, arguments), indent=2))
    else:
        _show(judged, stones, breaks, arguments)
    verdicts = {row.verdict.verdict for row in judged} | {row.verdict for row in breaks}
    verdicts |= {verdict_of(stone) for stone in stones}
    return next(EXIT_OF[v] for v in (Verdict.BAD, Verdict.UNKNOWN, Verdict.GOOD) if v in verdicts)


def recording_folders(paths: Sequence[Path]) -> list[Path]:
    """Find the folders of recordings at and below the paths."""
    roots = [path.parent if path.is_file() else path for path in paths]
    endings = (manifest_name(""), index_name(""))
    return sorted({found.parent for root in roots for end in endings for found in root.rglob(f"*{end}")})


def _tombstones(paths: Sequence[Path], ca: Path | None) -> list[JudgedStone]:
    """Judge the tombstones at and below the paths; without --ca nobody vouches for who signed."""
    roots = [path.parent if path.is_file() else path for path in paths]
    files = sorted({found for root in roots for found in root.rglob(f"*{TOMBSTONE_ENDING}")})
    trust = TrustStore.from_files([ca]) if ca is not None else TrustStore([])
    return [judge_exported(path, trust) for path in files]


def verdict_of(stone: JudgedStone) -> Verdict:
    """Give the worst that was found of a tombstone."""
    verdicts = {flaw.verdict for flaw in stone.flaws}
    return next((one for one in (Verdict.BAD, Verdict.UNKNOWN) if one in verdicts), Verdict.GOOD)


def places_of(judged: Iterable[Judged]) -> list[Place]:
    """Tell the places in the chain; a recording without a readable manifest has none."""
    return [
        Place.of_manifest(
            row.verdict.stated,
            manifest_sha256=row.verdict.manifest_sha256,
            signed_utc_s=row.verdict.signed_utc_s,
        )
        for row in judged
        if row.verdict.stated is not None
    ]


def _judge_all(folders: Sequence[Path], ca: Path | None, tsa: Path | None) -> list[Judged]:
    given = TrustStore.from_files([ca]) if ca is not None else None
    authorities = TrustStore.from_files([tsa]) if tsa is not None else None
    at_utc_s = SystemClock().utc_ns() // NS_PER_S
    total_bytes = sum(path.lstat().st_size for folder in folders for path in folder.iterdir())
    with SlowWork("verifying", total_bytes=total_bytes) as work:
        return [
            Judged(
                folder=folder,
                verdict=verify_bundle(
                    folder,
                    given or _own(folder),
                    advance=work.advance,
                    authorities=authorities,
                    exported=True,
                    at_utc_s=at_utc_s,
                ),
            )
            for folder in folders
        ]


def _own(folder: Path) -> TrustStore:
    """Trust the certificate beside a recording; one that cannot be read vouches for nobody."""
    try:
        return TrustStore.from_files(sorted(folder.glob("*.signer.pem")))
    except (EvidenceError, KeyUnusable):
        return TrustStore([])


def _heads(
    paths: Sequence[Path], folders: Sequence[Path], ca: Path | None
) -> tuple[list[HeadBody], list[Break]]:
    """Read the signed heads at and below the paths; without --ca the recordings' own certificates count."""
    files = {path for path in paths if path.is_file() and path.name.endswith(HEAD_ENDING)}
    files |= {found for path in paths for found in path.rglob(f"*{HEAD_ENDING}")}
    if not files:
        return [], []
    trusts = [TrustStore.from_files([ca])] if ca is not None else [_own(folder) for folder in folders]
    known = {certificate for trust in trusts for certificate in trust.certificates}
    return read_heads(sorted(files), TrustStore(known))


def _explain(judged: Sequence[Judged], ca: Path | None) -> int:
    manifests = {row.verdict.manifest_sha256: row for row in judged if row.verdict.manifest is not None}
    code = 0
    for row in judged:
        manifest, index = row.verdict.manifest, row.verdict.index
        if manifest is None and index is not None:
            for line in sealed_script(row.folder, row.verdict, index, ca=ca):
                print(line)
            continue
        if manifest is None:
            print(f"# {shlex.quote(str(row.folder))}: no manifest that can be read", file=sys.stderr)
            code = EXIT_CANNOT_TELL
            continue
        before = manifests.get(manifest.previous_manifest_sha256)
        previous = before.folder / manifest_name(before.verdict.recording_id) if before is not None else None
        for line in by_hand.script(row.folder, row.verdict, manifest, ca=ca, previous=previous):
            print(line)
    return code


def _as_json(
    judged: Sequence[Judged],
    stones: Sequence[JudgedStone],
    breaks: Sequence[Break],
    arguments: argparse.Namespace,
) -> Any:
    rows = [_row(row, by_own_certificate=arguments.ca is None) for row in judged]
    rows += [
        {
            "path": str(stone.path.parent),
            "recording_id": stone.recording_id,
            "verdict": WORD_OF[verdict_of(stone)],
            "tombstone": True,
            "findings": [f"{flaw.code}: {flaw.reason}" for flaw in stone.flaws],
        }
        for stone in stones
    ]
    if not arguments.chain:
        return rows
    chain = [
        {
            "recorder_id": row.recorder_id,
            "sequence": row.sequence,
            "code": row.code,
            "verdict": row.verdict.value,
            "reason": row.reason,
        }
        for row in breaks
    ]
    return {"recordings": rows, "chain": chain}


def _row(row: Judged, *, by_own_certificate: bool) -> dict[str, Any]:
    verdict, stated = row.verdict, row.verdict.stated
    return {
        "path": str(row.folder),
        "recording_id": verdict.recording_id,
        "verdict": WORD_OF[verdict.verdict],
        "trust": "own certificate" if by_own_certificate else "given certificates",
        "sequence": stated.sequence if stated is not None else None,
        "signers": list(verdict.signers),
        "checks": {check.value: result.value for check, result in verdict.by_check().items()},
        "findings": [f"{finding.code.value}: {finding.reason}" for finding in verdict.findings],
        "no_evidence": _no_evidence(row.folder),
    }


def _no_evidence(folder: Path) -> list[str]:
    """Name what lies beside an exported recording and was not checked."""
    beside = folder / LISTENING_FOLDER
    if not is_listening_folder(beside):
        return []
    return [f"{LISTENING_FOLDER}/{path.name}" for path in sorted(beside.iterdir())] or [LISTENING_FOLDER]


def _show(
    judged: Sequence[Judged],
    stones: Sequence[JudgedStone],
    breaks: Sequence[Break],
    arguments: argparse.Namespace,
) -> None:
    for stone in stones:
        print(f"{WORD_OF[verdict_of(stone)]:<11} {stone.recording_id}: tombstone")
        for flaw in stone.flaws:
            print(f"            {flaw.code}: {flaw.reason}")
    for row in judged:
        verdict = row.verdict
        print(f"{WORD_OF[verdict.verdict]:<11} {verdict.recording_id or row.folder}")
        for finding in verdict.findings:
            print(f"            {finding.code.value}: {finding.reason}")
        for name in _no_evidence(row.folder):
            print(f"            not checked: {name} is for listening, no evidence")
    for entry in breaks:
        where = f"chain of {entry.recorder_id} at {entry.sequence}"
        print(f"{WORD_OF[entry.verdict]:<11} {where}: {entry.code}: {entry.reason}")
    if arguments.chain and not breaks:
        recorders = sorted({place.recorder_id for place in places_of(judged)})
        entries = len(judged) + len(stones)
        print(f"{'verified':<11} chain of {', '.join(recorders) or 'nobody'}: {entries} entries")
    if arguments.ca is None:
        print("(signatures checked against the certificate in each folder; --ca F checks who signed)")
