"""Is a recording whose manifest is encrypted whole and unaltered? By its index, and against its manifest.

Rule: without a recipient's key everything is judged that the signed index tells: files, digests, signatures,
the place in the chain. What only the manifest or the audio tells is ``encrypted``: cannot tell, never good.
Where somebody has opened the manifest beside its envelope, all is judged as of any other recording, and the
index must say what the manifest says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from recorderd.archive.judgement import (
    check_certificate_file,
    check_files,
    check_stamps,
    found,
    verify_signatures,
)
from recorderd.archive.stamp_checks import names_of_renewals, names_of_stamps
from recorderd.archive.verdicts import Bundle, BundleVerdict, Check, Finding, Verdict
from recorderd.core.errors import FormatError
from recorderd.evidence.verify import SignerIdentity, TrustStore
from recorderd.wire.manifest import Manifest
from recorderd.wire.names import index_name, manifest_name, signed_name
from recorderd.wire.recording_index import RecordingIndex, index_of, opened_files, parse_index

_INDEX_ENDING: Final = index_name("")


def sealed_id_of(names: set[str]) -> str:
    """Find whose files these are by the one index among them; empty where a manifest can be read."""
    ids = [name.removesuffix(_INDEX_ENDING) for name in names if name.endswith(_INDEX_ENDING)]
    readable = any(name.endswith(manifest_name("")) for name in names)
    return ids[0] if len(ids) == 1 and not readable else ""


def judge_index(
    bundle: Bundle, trust: TrustStore, *, authorities: TrustStore | None = None, at_utc_s: int | None = None
) -> BundleVerdict:
    """Check a recording that nobody here can read; whatever is wrong is a finding."""
    findings, names = found(bundle)
    recording_id = sealed_id_of(names)
    checked = {Check.FILES, Check.READABLE, Check.INDEX}
    index = _read(bundle, recording_id, findings)
    identities: dict[str, SignerIdentity] = {}
    if index is not None:
        identities = verify_signatures(bundle, _signed(index, bundle), trust, findings)
        check_certificate_file(bundle, recording_id, identities, findings)
        check_files(index, bundle, names, findings)
        _check_names(index, bundle, names, findings)
        findings += _untold(index)
        checked |= {Check.SIGNATURE, Check.CERTIFICATE, Check.SIGNER, Check.DIGEST, Check.ENCRYPTED}
        checked |= check_stamps(
            bundle,
            names,
            findings,
            recording_id=recording_id,
            manifest_sha256=index.manifest_sha256,
            authorities=authorities,
            at_utc_s=at_utc_s,
        )
    signer = identities.get(index_name(recording_id))
    return BundleVerdict(
        recording_id=recording_id,
        manifest=None,
        manifest_sha256=index.manifest_sha256 if index is not None else "",
        sha256s=dict(bundle.sha256s),
        size_bytes=sum(bundle.sizes_bytes.values()),
        signers=tuple(str(identity) for identity in identities.values()),
        findings=tuple(dict.fromkeys(findings)),
        signed_utc_s=signer.signing_time_utc_s if signer else None,
        checked=frozenset(checked),
        index=index,
    )


def with_index(verdict: BundleVerdict, bundle: Bundle, trust: TrustStore) -> BundleVerdict:
    """Judge the index beside a manifest that somebody opened; of any other recording there is none."""
    manifest, recording_id = verdict.manifest, verdict.recording_id
    names = set(bundle.sha256s) | set(bundle.unreadable)
    sealed = manifest.metadata_encrypted if manifest is not None else index_name(recording_id) in names
    if not sealed:
        return verdict
    findings: list[Finding] = []
    index = _read(bundle, recording_id, findings)
    if index is not None:
        own = index_name(index.recording_id)
        signed = {own: bundle.sha256s[own]} if own in bundle.sha256s else {}
        identities = verify_signatures(bundle, signed, trust, findings)
        check_certificate_file(bundle, index.recording_id, identities, findings)
        check_files(index, bundle, names, findings)
        _check_names(index, bundle, names, findings)
        findings += _differences(index, manifest, verdict.manifest_sha256) if manifest is not None else []
    return replace(
        verdict,
        index=index,
        findings=tuple(dict.fromkeys((*verdict.findings, *findings))),
        checked=verdict.checked | {Check.INDEX},
    )


def _read(bundle: Bundle, recording_id: str, findings: list[Finding]) -> RecordingIndex | None:
    name = index_name(recording_id)
    if name not in bundle.contents:
        if name not in bundle.unreadable:
            findings.append(Finding(code=Check.FILES, reason=f"{name} is missing"))
        return None
    try:
        index = parse_index(bundle.contents[name])
    except (FormatError, UnicodeError) as problem:
        findings.append(Finding(code=Check.INDEX, reason=str(problem)))
        return None
    if index.recording_id != recording_id:
        findings.append(Finding(code=Check.INDEX, reason=f"is of recording {index.recording_id}"))
    return index


def _signed(index: RecordingIndex, bundle: Bundle) -> dict[str, str]:
    """Say which digest each signature must be over: the index's own, and what it tells of the others."""
    own = index_name(index.recording_id)
    digests = {manifest_name(index.recording_id): index.manifest_sha256}
    if own in bundle.sha256s:
        digests[own] = bundle.sha256s[own]
    if index.audio is not None:
        digests[signed_name(index.audio.name)] = index.audio.content_sha256 or index.audio.sha256
    return digests


def _check_names(index: RecordingIndex, bundle: Bundle, names: set[str], findings: list[Finding]) -> None:
    required = set(index.required_names())
    listed = {entry.name for entry in index.files}  # of these ``check_files`` has said so
    missing = sorted(required - names - listed)
    if missing:
        findings.append(Finding(code=Check.FILES, reason=f"{', '.join(missing)} is missing"))
    stamps = names_of_stamps(index.recording_id, required)
    known = required | stamps | names_of_renewals(stamps, bundle.contents) | set(opened_files(index))
    known |= {manifest_name(index.recording_id), f"{index.recording_id}.xml"}  # once somebody has opened it
    if names - known:
        unlisted = ", ".join(sorted(names - known))
        findings.append(Finding(code=Check.FILES, reason=f"{unlisted} is not in the index"))


def _differences(index: RecordingIndex, manifest: Manifest, manifest_sha256: str) -> Iterator[Finding]:
    """Compare the index with what it should say of a manifest."""
    if index.manifest_sha256 != manifest_sha256:
        reason = f"tells of a manifest {index.manifest_sha256}, here is {manifest_sha256}"
        yield Finding(code=Check.INDEX, reason=reason)
        return
    due = index_of(manifest, index.manifest)
    for name in RecordingIndex.__dataclass_fields__:
        if getattr(index, name) != getattr(due, name):
            yield Finding(code=Check.INDEX, reason=f"{name} is not what the manifest says")


def _untold(index: RecordingIndex) -> Iterator[Finding]:
    """Say what cannot be told without a recipient's key, and who has one."""
    who = " or ".join(entry.name or f"OpenPGP {entry.fingerprint}" for entry in index.recipients)
    parts = ["manifest, gaps, clock: who spoke, when, and what was lost"]
    parts += ["wav, proof: the audio"] if index.audio is not None else []
    for part in parts:
        reason = f"{part}: only {who} can open {index.manifest.name}"
        yield Finding(code=Check.ENCRYPTED, reason=reason, verdict=Verdict.UNKNOWN)
