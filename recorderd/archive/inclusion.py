"""Which batch of time stamps a recording is in, and the short proof of it.

Contract: a proof with its stamp says: a manifest with this hash existed when the stamp was made. Both fail
closed. Finding reads the recorder's deposits; checking reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recorderd import durable
from recorderd.archive.deposits import FOLDER_NAME, deposits_of
from recorderd.archive.renewal_rows import RenewalFiles, judge_row
from recorderd.core.errors import StampFormatError, TimestampInvalid
from recorderd.evidence.merkle import inclusion_path, merkle_root, verify_inclusion
from recorderd.evidence.timestamp import Stamp, inspect_timestamp
from recorderd.evidence.verify import TrustStore
from recorderd.wire.stamp_batch import (
    InclusionProof,
    StampBatch,
    encode_proof,
    inclusion_names,
    parse_batch,
    parse_proof,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """A proof, and the stamp of its root."""

    proof: InclusionProof
    tsr: bytes
    path: Path  # of the stamp, in the archive


def checked_root(batch: StampBatch, *, subject: str) -> str:
    """Give the root of a batch.

    Errors: TimestampInvalid when it is not that of its leaves.
    """
    if merkle_root(bytes.fromhex(leaf) for leaf in batch.leaves).hex() != batch.root_sha256:
        raise TimestampInvalid(subject=subject, reason="its root is not that of its leaves")
    return batch.root_sha256


def deposit_problems(root: Path) -> Iterator[tuple[str, str]]:
    """Look at every batch that recorders deposited; name what does not hold, with the reason.

    Errors: OSError when a file cannot be read.
    """
    files = sorted(root.glob(f"{FOLDER_NAME}/*/*"))
    for path in files:
        name, beside = str(path.relative_to(root)), path.with_suffix(".json")
        if path.suffix == ".json":
            try:
                checked_root(parse_batch(path.read_bytes()), subject=path.name)
            except (StampFormatError, TimestampInvalid) as problem:
                yield name, str(problem)
        elif path.suffix == ".tsr" and beside in files:
            try:
                digest = parse_batch(beside.read_bytes()).root_sha256
                inspect_timestamp(path.read_bytes(), sha256_hex=digest, subject=path.name)
            except StampFormatError:
                continue  # said of the batch
            except TimestampInvalid as problem:
                yield name, str(problem)
        else:
            yield name, "is no batch, nor the stamp of one"


def prove_inclusion(batch: StampBatch, manifest_sha256: str) -> InclusionProof | None:
    """Prove that a manifest is in a batch; None when it is not.

    Errors: TimestampInvalid when the batch's root is not that of its leaves.
    """
    if manifest_sha256 not in batch.leaves:
        return None
    checked_root(batch, subject="a batch")
    leaves = [bytes.fromhex(leaf) for leaf in batch.leaves]
    index = batch.leaves.index(manifest_sha256)
    return InclusionProof(
        manifest_sha256=manifest_sha256,
        leaf_index=index,
        tree_leaves=len(leaves),
        path=tuple(node.hex() for node in inclusion_path(leaves, index)),
        root_sha256=batch.root_sha256,
    )


def find_inclusion(root: Path, recorder_id: str, manifest_sha256: str) -> Inclusion | None:
    """Look for the first stamped batch that a manifest is in, through all that a recorder deposited.

    Errors: TimestampInvalid when the batch that names it does not hold; OSError.
    """
    for path in sorted(deposits_of(root, recorder_id).glob("*.json")):
        stamp, content = path.with_suffix(".tsr"), path.read_bytes()
        if not stamp.exists() or manifest_sha256.encode() not in content:
            continue
        try:
            proof = prove_inclusion(parse_batch(content), manifest_sha256)
        except StampFormatError as problem:
            raise TimestampInvalid(subject=path.name, reason=str(problem)) from None
        if proof is not None:
            return Inclusion(proof=proof, tsr=stamp.read_bytes(), path=stamp)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedInclusion:
    """What was written, and which stamp of the archive stands where."""

    copies: tuple[Path, ...] = ()
    stamps: tuple[tuple[str, Path], ...] = ()


def export_inclusion(
    root: Path, recorder_id: str, *, recording_id: str, manifest_sha256: str, out: Path
) -> ExportedInclusion:
    """Write the proof of a recording and its stamp into ``out``; none when it is in no stamped batch yet.

    Errors: TimestampInvalid when the batch that names it does not hold; OSError.
    """
    inclusion = find_inclusion(root, recorder_id, manifest_sha256)
    if inclusion is None:
        return ExportedInclusion()
    proof, stamp = (out / name for name in inclusion_names(recording_id))
    durable.replace(proof, encode_proof(inclusion.proof))
    durable.replace(stamp, inclusion.tsr)
    return ExportedInclusion(
        copies=(proof, stamp), stamps=((inclusion.path.relative_to(root).as_posix(), stamp),)
    )


def verify_proof(
    raw: bytes,
    tsr: bytes,
    *,
    manifest_sha256: str,
    trust: TrustStore | None,
    subject: str,
    renewals: tuple[RenewalFiles, ...] = (),
) -> Stamp:
    """Check a proof with its stamp for a manifest; without ``trust``, all of it but who stamped.

    Returns the newest of the stamp and its renewals.

    Errors: StampFormatError; TimestampInvalid; AuthorityUnknown.
    """
    proof = parse_proof(raw)
    if proof.manifest_sha256 != manifest_sha256:
        raise TimestampInvalid(subject=subject, reason="the proof is of another manifest")
    holds = verify_inclusion(
        bytes.fromhex(proof.manifest_sha256),
        index=proof.leaf_index,
        size_leaves=proof.tree_leaves,
        path=[bytes.fromhex(node) for node in proof.path],
        root=bytes.fromhex(proof.root_sha256),
    )
    if not holds:
        raise TimestampInvalid(subject=subject, reason="the proof does not lead to the root")
    return judge_row(tsr, renewals, sha256_hex=proof.root_sha256, trust=trust, subject=subject)
