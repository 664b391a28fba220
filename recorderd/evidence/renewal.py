"""Stamps outlive their authority's certificate by being stamped again in time.

Contract: the renewal of `N.tsr` is `N.tsr.tsr`, an ordinary stamp over the octets of `N.tsr`, or over the
root of a Merkle tree in which the SHA-256 of `N.tsr` is a leaf; made while the older one's certificate was
valid. A row of them proves what the first proves for as long as the last holds. No I/O, no clock.
Source: RFC 4998 section 5.2 (time stamp renewal), with files in place of an evidence record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import TimestampInvalid
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.merkle import verify_inclusion
from recorderd.evidence.timestamp import Stamp, inspect_timestamp, verify_timestamp
from recorderd.evidence.verify import TrustStore

RENEW_BEFORE_S: Final = 90 * 24 * 3600  # a quarter to notice, to find another authority, and to do it
RENEWALS_LIMIT: Final = 16  # certificates for stamping last 3 to 15 years


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRenewal:
    """A stamp that renews many: over the root of a tree; the way from one older stamp to that root."""

    tsr: bytes
    stamp_sha256: str  # of the older stamp
    leaf_index: int
    tree_leaves: int
    path: tuple[str, ...]
    root_sha256: str

    def holds(self) -> bool:
        """Tell whether the way leads to the root."""
        return verify_inclusion(
            bytes.fromhex(self.stamp_sha256),
            index=self.leaf_index,
            size_leaves=self.tree_leaves,
            path=[bytes.fromhex(node) for node in self.path],
            root=bytes.fromhex(self.root_sha256),
        )


def renewal_reasons(stamp: Stamp, *, now_utc_s: int, renew_before_s: int = RENEW_BEFORE_S) -> tuple[str, ...]:
    """Say why a stamp is to be renewed; empty while it is good for longer."""
    left_s = stamp.certificate_ends_utc_s - now_utc_s
    reasons = [f"weak: {weakness}" for weakness in stamp.weaknesses]
    if left_s < 0:
        reasons.insert(0, "its certificate has expired: too late for a renewal to be beyond doubt")
    elif left_s < renew_before_s:
        reasons.insert(0, f"its certificate ends in {left_s // 86_400} days")
    return tuple(reasons)


def verify_renewals(
    row: Sequence[bytes | TreeRenewal], *, sha256_hex: str, trust: TrustStore | None, subject: str
) -> tuple[Stamp, ...]:
    """Check a stamp with its renewals, the oldest first; each must fall into the life of the one before.

    Without ``trust`` all is checked but who stamped.

    Errors: TimestampInvalid, also when there is none; AuthorityUnknown.
    """
    if not 1 <= len(row) <= RENEWALS_LIMIT:
        raise TimestampInvalid(subject=subject, reason=f"{len(row)} stamps in a row")
    stamps: list[Stamp] = []
    digest = sha256_hex
    for number, entry in enumerate(row):
        name = subject + ".tsr" * number
        tsr = entry.tsr if isinstance(entry, TreeRenewal) else entry
        if isinstance(entry, TreeRenewal):
            digest = _root(entry, digest, subject=name)
        if trust is None:
            stamp = inspect_timestamp(tsr, sha256_hex=digest, subject=name)
        else:
            stamp = verify_timestamp(tsr, sha256_hex=digest, trust=trust, subject=name)
        if stamps and stamp.gen_time_utc_ns > stamps[-1].certificate_ends_utc_s * NS_PER_S:
            raise TimestampInvalid(subject=name, reason="renewed after the certificate before it had expired")
        if stamps and stamp.gen_time_utc_ns < stamps[-1].gen_time_utc_ns:
            raise TimestampInvalid(subject=name, reason="is older than what it renews")
        stamps.append(stamp)
        digest = sha256_bytes(tsr)
    return tuple(stamps)


def _root(entry: TreeRenewal, sha256_hex: str, *, subject: str) -> str:
    if entry.stamp_sha256 != sha256_hex:
        raise TimestampInvalid(subject=subject, reason="the proof is of another stamp")
    if not entry.holds():
        raise TimestampInvalid(subject=subject, reason="the proof does not lead to the root")
    return entry.root_sha256
