"""A stamp with its renewals, as files give it: read, judged, told when its time is over. Pure.

Rule: whatever lies in a row must hold: a renewal that was altered is a finding, though the first stamp may
still be good without it. A row whose newest certificate has ended proves nothing any more on its own: that is
doubt, not a contradiction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recorderd.core.clock import NS_PER_S, utc_text
from recorderd.core.errors import StampFormatError, TimestampInvalid
from recorderd.evidence.renewal import RENEWALS_LIMIT, TreeRenewal, verify_renewals
from recorderd.evidence.timestamp import Stamp
from recorderd.evidence.verify import TrustStore
from recorderd.wire.stamp_batch import parse_renewal_proof, renewal_names

Read = Callable[[str], bytes | None]  # by name; None when there is no such file


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalFiles:
    """One renewal: the stamp, and the proof when it renews many."""

    names: tuple[str, ...]
    tsr: bytes
    proof: bytes | None


def renewals_of(stamp: str, read: Read) -> Iterator[RenewalFiles]:
    """Read the renewals of a stamp, the oldest first, up to the first that is not there."""
    for number in range(1, RENEWALS_LIMIT):
        proof_name, tsr_name = renewal_names(stamp, number)
        if (tsr := read(tsr_name)) is None:
            return
        proof = read(proof_name)
        names = (tsr_name,) if proof is None else (proof_name, tsr_name)
        yield RenewalFiles(names=names, tsr=tsr, proof=proof)


def judge_row(
    tsr: bytes,
    renewals: tuple[RenewalFiles, ...],
    *,
    sha256_hex: str,
    trust: TrustStore | None,
    subject: str,
) -> Stamp:
    """Check a stamp and its renewals, and give the newest; without ``trust`` all but who stamped.

    Errors: TimestampInvalid; AuthorityUnknown.
    """
    row: list[bytes | TreeRenewal] = [tsr]
    row += [_entry(renewal) for renewal in renewals]
    return verify_renewals(row, sha256_hex=sha256_hex, trust=trust, subject=subject)[-1]


def ended(newest: Stamp, *, at_utc_s: int) -> str:
    """Say that a row's time is over; empty while it is not."""
    if newest.certificate_ends_utc_s >= at_utc_s:
        return ""
    day = utc_text(newest.certificate_ends_utc_s * NS_PER_S)[:10]
    return f"the certificate of {newest.authority} ended on {day}, and no renewal carries the stamp on"


def _entry(renewal: RenewalFiles) -> bytes | TreeRenewal:
    if renewal.proof is None:
        return renewal.tsr
    try:
        proof = parse_renewal_proof(renewal.proof)
    except StampFormatError as problem:
        raise TimestampInvalid(subject=renewal.names[0], reason=str(problem)) from None
    return TreeRenewal(
        tsr=renewal.tsr,
        stamp_sha256=proof.stamp_sha256,
        leaf_index=proof.leaf_index,
        tree_leaves=proof.tree_leaves,
        path=proof.path,
        root_sha256=proof.root_sha256,
    )
