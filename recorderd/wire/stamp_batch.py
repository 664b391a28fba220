"""Files of batched time stamps: the batch that was stamped, and the proof that one recording was in it.

`stamps/<utc>.json` is a batch: manifest hashes in order, and the root of the Merkle tree whose leaves are
those hashes as 32 octets. `<utc>.tsr` beside it stamps the root (the root is the stamped digest itself), so
that the short proof of one recording needs nothing of the others. Canonical JSON: each octet has its meaning.
The renewal of a stamp `N.tsr` is `N.tsr.tsr`: over the octets of `N.tsr`, or where `N.tsr.inclusion.json`
lies beside it, over the root of a tree in which the SHA-256 of `N.tsr` is a leaf: one stamp renews many.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from recorderd.core.errors import StampFormatError
from recorderd.wire.canonical import JsonReader, canonical_json
from recorderd.wire.manifest import signature_name

BATCH_VERSION: Final = 1
PROOF_VERSION: Final = 1
LEAVES_LIMIT: Final = 50_000  # of one batch: 3.4 MB, below what a deposit may carry
BATCH_LIMIT_BYTES: Final = 4 << 20
PROOF_LIMIT_BYTES: Final = 16 << 10
PATH_LIMIT: Final = 64
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StampBatch:
    """What was stamped at once; the root is not checked here."""

    leaves: tuple[str, ...]  # manifests' SHA-256, in the order of the tree
    root_sha256: str
    batch_version: int = BATCH_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """That one manifest was in a batch; not checked here."""

    manifest_sha256: str
    leaf_index: int
    tree_leaves: int
    path: tuple[str, ...]  # from the leaf's neighbour up
    root_sha256: str
    proof_version: int = PROOF_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalProof:
    """That one stamp was in a tree that another stamps; not checked here."""

    stamp_sha256: str
    leaf_index: int
    tree_leaves: int
    path: tuple[str, ...]  # from the leaf's neighbour up
    root_sha256: str
    renewal_version: int = PROOF_VERSION


def stamp_name(name: str) -> str:
    """Name the time stamp of a file; a stamp's own stamp is its renewal."""
    return f"{name}.tsr"


def stamps_of(names: Iterable[str]) -> tuple[str, ...]:
    """Name the stamps that may stand beside the signatures among ``names``; none is required."""
    return tuple(stamp_name(name) for name in names if name.endswith(signature_name("")))


def stamped_name(stamp: str) -> str:
    """Name the file that a stamp is over."""
    return stamp.removesuffix(stamp_name(""))


def inclusion_names(recording_id: str) -> tuple[str, str]:
    """Name the proof that a recording is in a batch, and the stamp of the batch's root; exports have them."""
    return f"{recording_id}.inclusion.json", f"{recording_id}.inclusion.tsr"


def renewal_names(stamp: str, number: int) -> tuple[str, str]:
    """Name the ``number``-th renewal of a stamp, from 1: its proof (only one of many has it), and it."""
    renewed = stamp + stamp_name("") * (number - 1)
    return f"{renewed}.inclusion.json", stamp_name(renewed)


def encode_batch(batch: StampBatch) -> bytes:
    """Write a batch."""
    return canonical_json(asdict(batch))


def parse_batch(raw: bytes) -> StampBatch:
    """Read a batch.

    Errors: StampFormatError, also when the bytes are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=StampFormatError, limit_bytes=BATCH_LIMIT_BYTES)
    _version(reader, "batch_version", BATCH_VERSION)
    batch = StampBatch(
        leaves=_hashes(reader, "leaves", limit=LEAVES_LIMIT), root_sha256=reader.sha256("root_sha256")
    )
    reader.done()
    if not batch.leaves:
        raise reader.bad("leaves", "none")
    _canonical(reader, raw, encode_batch(batch))
    return batch


def encode_proof(proof: InclusionProof | RenewalProof) -> bytes:
    """Write a proof."""
    return canonical_json(asdict(proof))


def parse_proof(raw: bytes) -> InclusionProof:
    """Read a proof.

    Errors: StampFormatError, also when the bytes are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=StampFormatError, limit_bytes=PROOF_LIMIT_BYTES)
    _version(reader, "proof_version", PROOF_VERSION)
    proof = InclusionProof(
        manifest_sha256=reader.sha256("manifest_sha256"),
        leaf_index=reader.integer("leaf_index"),
        tree_leaves=reader.integer("tree_leaves", minimum=1),
        path=_hashes(reader, "path", limit=PATH_LIMIT),
        root_sha256=reader.sha256("root_sha256"),
    )
    reader.done()
    _canonical(reader, raw, encode_proof(proof))
    return proof


def parse_renewal_proof(raw: bytes) -> RenewalProof:
    """Read a renewal's proof.

    Errors: StampFormatError, also when the bytes are not in canonical form.
    """
    reader = JsonReader.parse(raw, error=StampFormatError, limit_bytes=PROOF_LIMIT_BYTES)
    _version(reader, "renewal_version", PROOF_VERSION)
    proof = RenewalProof(
        stamp_sha256=reader.sha256("stamp_sha256"),
        leaf_index=reader.integer("leaf_index"),
        tree_leaves=reader.integer("tree_leaves", minimum=1),
        path=_hashes(reader, "path", limit=PATH_LIMIT),
        root_sha256=reader.sha256("root_sha256"),
    )
    reader.done()
    _canonical(reader, raw, encode_proof(proof))
    return proof


def _version(reader: JsonReader, key: str, wanted: int) -> None:
    if (version := reader.integer(key)) != wanted:
        raise reader.bad(key, f"{version} is not {wanted}")


def _hashes(reader: JsonReader, key: str, *, limit: int) -> tuple[str, ...]:
    rows: Sequence[str] = reader.texts(key, limit=limit)
    if not all(_SHA256.fullmatch(row) for row in rows):
        raise reader.bad(key, "not a list of 64 hexadecimal digits each")
    return tuple(rows)


def _canonical(reader: JsonReader, raw: bytes, again: bytes) -> None:
    if raw != again:
        raise reader.bad("document", "not in canonical form")
