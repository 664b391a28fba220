"""Signed chain heads before they count: read, and verified against whom one trusts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from recorderd.archive.lineage import Break
from recorderd.archive.verdicts import Verdict
from recorderd.core.errors import FormatError, RecorderError, SignerUnknown
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.wire.chain_head import HEAD_LIMIT_BYTES, HeadBody, SignedHead, parse_head


def verify_head(head: SignedHead, trust: TrustStore) -> None:
    """Check a head's signature.

    Errors: EvidenceError; SignerUnknown when only the trust is missing.
    """
    subject = f"head {head.body.number} of {head.body.recorder_id}"
    verify_detached(head.signature, sha256_hex=sha256_bytes(head.signed_bytes), trust=trust, subject=subject)


def judge_head(raw: bytes, trust: TrustStore, *, name: str) -> SignedHead | Break:
    """Read and verify one head; what does not hold is a break."""
    try:
        head = parse_head(raw)
    except (FormatError, UnicodeError) as problem:
        return Break(recorder_id="?", sequence=0, code="head", reason=f"{name}: {problem}")
    told = partial(Break, recorder_id=head.body.recorder_id, sequence=head.body.sequence, code="head")
    try:
        verify_head(head, trust)
    except SignerUnknown as problem:
        return told(reason=f"{name}: {problem}", verdict=Verdict.UNKNOWN)
    except RecorderError as problem:
        return told(reason=f"{name}: {problem}")
    return head


def read_heads(files: Iterable[Path], trust: TrustStore) -> tuple[list[HeadBody], list[Break]]:
    """Read and verify head files; those that hold, and what is wrong with the rest."""
    heads: list[HeadBody] = []
    breaks: list[Break] = []
    for path in files:
        try:
            with path.open("rb") as stream:
                judged = judge_head(stream.read(HEAD_LIMIT_BYTES + 1), trust, name=path.name)
        except OSError as problem:
            reason, verdict = f"{path.name} cannot be read: {problem.strerror}", Verdict.UNKNOWN
            judged = Break(recorder_id="?", sequence=0, code="head", reason=reason, verdict=verdict)
        if isinstance(judged, Break):
            breaks.append(judged)
        else:
            heads.append(judged.body)
    return heads, breaks
