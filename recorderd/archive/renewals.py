"""Which of the archive's time stamps are to be renewed, because their certificate ends or they grow weak.

Contract: reads every stamp that stands published, changes nothing. A stamp that does not hold is told as
such: a renewal would not mend it. Renewals lie outside the published folders, which never change:
`renewals/<path of the stamp>.tsr`, and `.tsr` once more for each that follows (``evidence.renewal``). A stamp
that renews many lies there once for each of them, with the proof that this one is among them: so each row of
files stands alone, and the next renewal takes all that share a stamp as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.archive.deposits import FOLDER_NAME
from recorderd.archive.groups import sha256_of
from recorderd.archive.inclusion import checked_root
from recorderd.archive.renewal_rows import RenewalFiles, ended, judge_row, renewals_of
from recorderd.archive.store import Store
from recorderd.core.errors import AuthorityUnknown, EvidenceError, ExportBlocked, StampFormatError
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.renewal import renewal_reasons
from recorderd.evidence.timestamp import TIMESTAMP_MAX_BYTES, Stamp
from recorderd.evidence.verify import TrustStore
from recorderd.wire.stamp_batch import (
    PROOF_LIMIT_BYTES,
    RenewalProof,
    encode_proof,
    parse_batch,
    renewal_names,
)

RENEWALS_NAME: Final = "renewals"
_STAMP: Final = ".tsr"
_LIMIT_BYTES: Final = max(TIMESTAMP_MAX_BYTES, PROOF_LIMIT_BYTES) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StampState:
    """One stamp with its renewals, judged by the newest."""

    path: str  # of the first stamp, from the archive's folder
    renewals: int
    newest_sha256: str  # of the newest stamp's octets: what a renewal is over
    stamp: Stamp | None  # the newest; None when one does not hold
    reasons: tuple[str, ...]  # why it is to be renewed, or what is wrong; empty = good for longer
    too_late: bool = False  # its certificate has expired: no renewal brings back what it proved


@dataclass(frozen=True, slots=True, kw_only=True)
class RowProblem:
    """What is wrong with a stamp or its renewals; ``is_doubt`` when nothing contradicts."""

    path: str
    reason: str
    is_doubt: bool


def stamp_states(store: Store, *, now_utc_s: int, renew_before_s: int) -> Iterator[StampState]:
    """Look at every stamp of an archive.

    Errors: OSError when a file cannot be read.
    """
    for name in _stamps(store):
        renewals = _renewals(store.root, name)
        newest = sha256_bytes(renewals[-1].tsr if renewals else _stamp(store, name) or b"")
        try:
            stamp = _judge(store, name, renewals, trust=None)
        except (EvidenceError, StampFormatError, FileNotFoundError) as problem:
            yield StampState(
                path=name,
                renewals=len(renewals),
                newest_sha256=newest,
                stamp=None,
                reasons=(str(problem),),
            )
        else:
            yield StampState(
                path=name,
                renewals=len(renewals),
                newest_sha256=newest,
                stamp=stamp,
                reasons=renewal_reasons(stamp, now_utc_s=now_utc_s, renew_before_s=renew_before_s),
                too_late=stamp.certificate_ends_utc_s < now_utc_s,
            )


def row_problems(store: Store, *, trust: TrustStore | None, now_utc_s: int) -> Iterator[RowProblem]:
    """Look at every stamp with its renewals, and for renewals of nothing; name what does not hold.

    Errors: OSError when a file cannot be read.
    """
    known, root = set(), store.root
    for name in _stamps(store):
        renewals = _renewals(root, name)
        known |= {_beside(root, name, entry) for renewal in renewals for entry in renewal.names}
        try:
            stamp = _judge(store, name, renewals, trust=trust)
        except (EvidenceError, StampFormatError, FileNotFoundError) as problem:
            is_doubt = isinstance(problem, AuthorityUnknown)
            yield RowProblem(path=name, reason=str(problem), is_doubt=is_doubt)
            continue
        if reason := ended(stamp, at_utc_s=now_utc_s):
            yield RowProblem(path=name, reason=reason, is_doubt=True)
    for path in sorted((root / RENEWALS_NAME).rglob("*.tsr")):
        if path not in known:
            reason = "renews a stamp that is not there"
            yield RowProblem(path=str(path.relative_to(root)), reason=reason, is_doubt=False)


def keep_renewal(root: Path, state: StampState, tsr: bytes, proof: RenewalProof | None) -> None:
    """Put a renewal beside those that a stamp has.

    Durable: after return it survives; a cut before leaves at most a proof that counts for nothing.
    """
    proof_name, tsr_name = renewal_names(Path(state.path).name, state.renewals + 1)
    folder = _beside(root, state.path, proof_name).parent
    durable.make_dir(folder)
    if proof is not None:
        durable.replace(folder / proof_name, encode_proof(proof))
    else:
        durable.discard(folder / proof_name)
    durable.replace(folder / tsr_name, tsr)


def export_renewals(root: Path, stamps: Iterable[tuple[str, Path]]) -> Iterator[Path]:
    """Copy renewals beside exported stamps, which are given with their path in the archive.

    Errors: ExportBlocked when a file of that name holds something else; OSError.
    """
    for stamp, copy in stamps:
        for number, renewal in enumerate(_renewals(root, stamp), start=1):
            contents = {renewal_names(copy.name, number)[1]: renewal.tsr}
            if renewal.proof is not None:
                contents[renewal_names(copy.name, number)[0]] = renewal.proof
            for name, content in contents.items():
                target = copy.with_name(name)
                if not target.exists():
                    durable.replace(target, content)
                elif target.read_bytes() != content:
                    raise ExportBlocked(path=target)
                yield target


def stamps_of_group(store: Store, path: str) -> list[str]:
    """List the paths of the time stamps that a published recording has."""
    return [f"{path}/{name}" for name in store.group(path).names() if name.endswith(_STAMP)]


def _stamps(store: Store) -> Iterator[str]:
    """List every first stamp: those of recordings, then the batches'."""
    for day in store.published.days():
        yield from (name for name in store.published.files_of(day) if name.endswith(f".p7s{_STAMP}"))
    deposits = store.root.glob(f"{FOLDER_NAME}/*/*{_STAMP}")
    yield from sorted(path.relative_to(store.root).as_posix() for path in deposits)


def _judge(store: Store, name: str, renewals: tuple[RenewalFiles, ...], *, trust: TrustStore | None) -> Stamp:
    digest, tsr = _stamped_sha256(store, name), _stamp(store, name) or b""
    subject = Path(name).stem
    return judge_row(tsr, renewals, sha256_hex=digest, trust=trust, subject=subject)


def _beside(root: Path, stamp: str, name: str) -> Path:
    return (root / RENEWALS_NAME / stamp).with_name(name)


def _renewals(root: Path, stamp: str) -> tuple[RenewalFiles, ...]:
    return tuple(renewals_of(Path(stamp).name, lambda name: _read(_beside(root, stamp, name))))


def _stamped_sha256(store: Store, stamp: str) -> str:
    """Say what a published stamp must be over: a signature file, or a batch's root."""
    if stamp.startswith(f"{FOLDER_NAME}/"):
        batch = (store.root / stamp).with_suffix(".json")
        return checked_root(parse_batch(batch.read_bytes()), subject=batch.name)
    path, _, name = stamp.rpartition("/")
    return sha256_of(store.group(path), name.removesuffix(_STAMP))[0]


def _stamp(store: Store, stamp: str) -> bytes | None:
    """Read a first stamp; one that is too long is cut, and does not hold."""
    if stamp.startswith(f"{FOLDER_NAME}/"):
        return _read(store.root / stamp)
    path, _, name = stamp.rpartition("/")
    try:
        return store.group(path).read(name, limit_bytes=_LIMIT_BYTES)
    except FileNotFoundError:
        return None


def _read(path: Path) -> bytes | None:
    """Read a stamp or proof; one that is too long is cut, and does not hold."""
    try:
        with path.open("rb") as stream:
            return stream.read(_LIMIT_BYTES)
    except FileNotFoundError:
        return None
