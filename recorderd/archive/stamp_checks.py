"""Time stamps beside a recording: each is over its signature or its manifest's hash. Pure.

Rule: without ``authorities`` a stamp must be whole, over this very signature and by whoever its certificate
names. Whether that is an authority is for ``authorities`` to say: one that they do not know leaves doubt. So
does one whose certificate has ended at ``at_utc_s``, unless a renewal beside it was made in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from recorderd.archive.inclusion import verify_proof
from recorderd.archive.renewal_rows import ended, judge_row, renewals_of
from recorderd.core.errors import AuthorityUnknown, RecorderError
from recorderd.evidence.timestamp import Stamp
from recorderd.evidence.verify import TrustStore
from recorderd.wire.stamp_batch import inclusion_names, stamped_name, stamps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StampProblem:
    """What is wrong with a stamp; ``is_doubt`` when only the trust is missing."""

    reason: str
    is_doubt: bool


def names_of_stamps(recording_id: str, required: Iterable[str]) -> frozenset[str]:
    """Name the files of stamps that may lie beside a recording of these files."""
    return frozenset({*stamps_of(required), *inclusion_names(recording_id)})


def names_of_renewals(stamps: Iterable[str], contents: Mapping[str, bytes]) -> frozenset[str]:
    """Name the renewals that lie there, each with its proof; also those of a stamp that is gone."""
    return frozenset(
        name for stamp in stamps for renewal in renewals_of(stamp, contents.get) for name in renewal.names
    )


def stamp_problems(
    contents: Mapping[str, bytes],
    sha256s: Mapping[str, str],
    *,
    recording_id: str,
    manifest_sha256: str,
    authorities: TrustStore | None,
    at_utc_s: int | None,
) -> Iterator[StampProblem]:
    """Judge every stamp that is there."""
    for name in stamps_of(sorted(sha256s)):
        signature = stamped_name(name)
        if name in contents:
            check = partial(
                judge_row,
                contents[name],
                tuple(renewals_of(name, contents.get)),
                sha256_hex=sha256s[signature],
                trust=authorities,
                subject=signature,
            )
            yield from _problem(check, at_utc_s=at_utc_s)
        elif next(renewals_of(name, contents.get), None) is not None:
            yield StampProblem(reason=f"{name} is missing, and its renewals are here", is_doubt=False)
    proof, stamp = inclusion_names(recording_id)
    if not {proof, stamp} & set(contents):
        return
    if not {proof, stamp} <= set(contents):
        yield StampProblem(reason=f"of {proof} and {stamp} one is missing", is_doubt=False)
        return
    check = partial(
        verify_proof,
        contents[proof],
        contents[stamp],
        manifest_sha256=manifest_sha256,
        trust=authorities,
        subject=proof,
        renewals=tuple(renewals_of(stamp, contents.get)),
    )
    yield from _problem(check, at_utc_s=at_utc_s)


def _problem(check: Callable[[], Stamp], *, at_utc_s: int | None) -> Iterator[StampProblem]:
    try:
        newest = check()
    except RecorderError as problem:
        yield StampProblem(reason=str(problem), is_doubt=isinstance(problem, AuthorityUnknown))
        return
    if at_utc_s is not None and (reason := ended(newest, at_utc_s=at_utc_s)):
        yield StampProblem(reason=reason, is_doubt=True)
