"""Time stamps beside a recording: each is over its signature or its manifest's hash. Pure.

Rule: without ``authorities`` a stamp must be whole, over this very signature and by whoever its certificate
names. Whether that is an authority is for ``authorities`` to say: one that they do not know leaves doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from recorderd.archive.inclusion import verify_proof
from recorderd.core.errors import AuthorityUnknown, RecorderError
from recorderd.evidence.timestamp import inspect_timestamp, verify_timestamp
from recorderd.evidence.verify import TrustStore
from recorderd.wire.names import manifest_name
from recorderd.wire.stamp_batch import inclusion_names, stamped_name, stamps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StampProblem:
    """What is wrong with a stamp; ``is_doubt`` when only the trust is missing."""

    reason: str
    is_doubt: bool


def names_of_stamps(recording_id: str, required: Iterable[str]) -> frozenset[str]:
    """Name the files of stamps that may lie beside a recording of these files."""
    return frozenset({*stamps_of(required), *inclusion_names(recording_id)})


def stamp_problems(
    contents: Mapping[str, bytes],
    sha256s: Mapping[str, str],
    *,
    recording_id: str,
    authorities: TrustStore | None,
) -> Iterator[StampProblem]:
    """Judge every stamp that is there."""
    for name in stamps_of(sorted(sha256s)):
        signature = stamped_name(name)
        if name in contents:
            judge = partial(_judge, contents[name], authorities)
            yield from _problem(partial(judge, sha256_hex=sha256s[signature], subject=signature))
    proof, stamp = inclusion_names(recording_id)
    if not {proof, stamp} & set(contents):
        return
    if not {proof, stamp} <= set(contents):
        yield StampProblem(reason=f"of {proof} and {stamp} one is missing", is_doubt=False)
        return
    yield from _problem(
        lambda: verify_proof(
            contents[proof],
            contents[stamp],
            manifest_sha256=sha256s[manifest_name(recording_id)],
            trust=authorities,
            subject=proof,
        )
    )


def _judge(tsr: bytes, authorities: TrustStore | None, *, sha256_hex: str, subject: str) -> None:
    if authorities is None:
        inspect_timestamp(tsr, sha256_hex=sha256_hex, subject=subject)
    else:
        verify_timestamp(tsr, sha256_hex=sha256_hex, trust=authorities, subject=subject)


def _problem(check: Callable[[], object]) -> Iterator[StampProblem]:
    try:
        check()
    except RecorderError as problem:
        yield StampProblem(reason=str(problem), is_doubt=isinstance(problem, AuthorityUnknown))
