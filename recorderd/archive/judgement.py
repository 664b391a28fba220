"""Is this a whole, unaltered recording? The core: names, digests and small contents in, verdicts out; no I/O.

Rule: a check is good only when it was made and passed. Bad is what contradicts itself or a signature; cannot
tell is what lacks the means: a signer whom nobody vouches for, a file that cannot be read, a clock that went
back. Whoever reads the files is ``verification``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from recorderd.archive.checkpoint_checks import checkpoint_problems
from recorderd.archive.stamp_checks import names_of_renewals, names_of_stamps, stamp_problems
from recorderd.archive.structure import gap_problems, is_utc_time, time_problems, wav_problems
from recorderd.archive.verdicts import AudioTree, Bundle, BundleVerdict, Check, Finding, Verdict
from recorderd.core.errors import CertificateUnfit, FormatError, RecorderError, SignerUnknown
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import SignerIdentity, TrustStore, certificate_sha256s, verify_detached
from recorderd.wire.manifest import MANIFEST_LIMIT_BYTES, Manifest, parse_manifest
from recorderd.wire.manifest_xml import render_manifest, rendering_name
from recorderd.wire.names import (
    audio_among,
    index_names,
    manifest_name,
    opened_name,
    required_names,
    signature_name,
    signed_name,
    signer_name,
)
from recorderd.wire.recording_index import RecordingIndex, opened_files

CLOCK_SLACK_S: Final = 2  # a signing time has whole seconds, and a clock may be slewed
_MANIFEST_ENDING: Final = manifest_name("")


def judge(
    bundle: Bundle,
    trust: TrustStore,
    *,
    authorities: TrustStore | None = None,
    at_utc_s: int | None = None,
) -> BundleVerdict:
    """Check one recording: manifest, signatures, every digest and size, nothing unlisted, WAV, gaps, clock.

    At ``at_utc_s`` stamps must still be carried by a valid certificate, their own or a renewal's.
    Whatever is wrong is a finding; nothing is raised.
    """
    findings, names = found(bundle)
    recording_id = recording_id_of(names)
    manifest = None
    checked = {Check.FILES, Check.READABLE}
    if recording_id and manifest_name(recording_id) in bundle.contents:
        checked.add(Check.MANIFEST)
        manifest = _read_manifest(bundle.contents[manifest_name(recording_id)], findings)
    audio = _audio_of(manifest, names, recording_id)
    missing = sorted(set(required_names(recording_id, audio=audio)) - names) if recording_id else []
    if missing or not recording_id:
        reason = f"{', '.join(missing) or 'the manifest'} is missing"
        findings.append(Finding(code=Check.FILES, reason=reason))
    identities: dict[str, SignerIdentity] = {}
    if Check.MANIFEST in checked:
        signed = _signed(manifest, bundle, recording_id, audio)
        identities = verify_signatures(bundle, signed, trust, findings)
        check_certificate_file(bundle, recording_id, identities, findings)
        checked |= {Check.SIGNATURE, Check.CERTIFICATE, Check.SIGNER}
    if manifest is not None:
        checked |= _check_said(manifest, recording_id, bundle, trust=trust, findings=findings)
        _check_clock(manifest, identities.values(), findings)
    manifest_sha256 = bundle.sha256s.get(manifest_name(recording_id), "")
    checked |= check_stamps(
        bundle,
        names,
        findings,
        recording_id=recording_id,
        manifest_sha256=manifest_sha256,
        authorities=authorities,
        at_utc_s=at_utc_s,
    )
    signer = identities.get(manifest_name(recording_id))
    return BundleVerdict(
        recording_id=recording_id,
        manifest=manifest,
        manifest_sha256=manifest_sha256,
        sha256s=dict(bundle.sha256s),
        size_bytes=sum(bundle.sizes_bytes.values()),
        signers=tuple(str(identity) for identity in identities.values()),
        findings=tuple(dict.fromkeys(findings)),
        signed_utc_s=signer.signing_time_utc_s if signer else None,
        checked=frozenset(checked),
    )


def _check_said(
    manifest: Manifest, recording_id: str, bundle: Bundle, *, trust: TrustStore, findings: list[Finding]
) -> set[Check]:
    """Hold what a manifest says against the files; tell what was checked by it."""
    names = set(bundle.sha256s) | set(bundle.unreadable)
    checked = {Check.DIGEST, Check.GAPS, Check.CLOCK}
    _check_manifest(manifest, recording_id, bundle, findings)
    check_files(manifest, bundle, names, findings)
    if rendering_name(manifest) in names:
        checked.add(Check.RENDERING)
        _check_rendering(manifest, bundle, findings)
    findings += [Finding(code=Check.GAPS, reason=reason) for reason in gap_problems(manifest)]
    findings += [Finding(code=Check.GAPS, reason=reason) for reason in time_problems(manifest)]
    plain = plain_audio(manifest)
    if plain in bundle.sha256s:
        checked.add(Check.WAV)
        problems = wav_problems(manifest, bundle.audio_head, file_bytes=bundle.sizes_bytes[plain])
        findings += [Finding(code=Check.WAV, reason=reason) for reason in problems]
        if manifest.proof.leaves:
            checked.add(Check.PROOF)
            _check_proof(manifest, bundle.audio_tree, findings)
    tree = bundle.audio_tree
    for flaw in checkpoint_problems(
        manifest,
        bundle.contents,
        trust=trust,
        frame_bytes=tree.frame_bytes if tree else 0,
        leaf_hashes=tree.leaf_hashes if tree else None,
    ):
        verdict = Verdict.UNKNOWN if flaw.is_doubt else Verdict.BAD
        findings.append(Finding(code=Check.PROOF, reason=flaw.reason, verdict=verdict))
    return checked


def found(bundle: Bundle) -> tuple[list[Finding], set[str]]:
    """Say what of a folder is no file or cannot be read, and how everything in it is called."""
    findings = [Finding(code=Check.FILES, reason=f"{name} is no regular file") for name in bundle.irregular]
    findings += [
        Finding(code=Check.READABLE, reason=f"{name} cannot be read: {why}", verdict=Verdict.UNKNOWN)
        for name, why in bundle.unreadable.items()
    ]
    return findings, set(bundle.sha256s) | set(bundle.unreadable)


def check_stamps(
    bundle: Bundle,
    names: set[str],
    findings: list[Finding],
    *,
    recording_id: str,
    manifest_sha256: str,
    authorities: TrustStore | None,
    at_utc_s: int | None,
) -> set[Check]:
    """Judge time stamps with their renewals; give the check, if there was one to judge."""
    stamps = names_of_stamps(recording_id, names)
    if not names & (stamps | names_of_renewals(stamps, bundle.contents)):
        return set()
    for problem in stamp_problems(
        bundle.contents,
        bundle.sha256s,
        recording_id=recording_id,
        manifest_sha256=manifest_sha256,
        authorities=authorities,
        at_utc_s=at_utc_s,
    ):
        verdict = Verdict.UNKNOWN if problem.is_doubt else Verdict.BAD
        findings.append(Finding(code=Check.TIMESTAMP, reason=problem.reason, verdict=verdict))
    return {Check.TIMESTAMP}


def plain_audio(manifest: Manifest) -> str:
    """Name the WAV that can be looked into, if it is there; empty where there can be none."""
    if manifest.audio is None:
        return ""
    entry = manifest.audio
    return opened_name(entry.name) if entry.content_sha256 else "" if entry.encryption else entry.name


def recording_id_of(names: set[str]) -> str:
    """Find whose files these are by the one manifest among them; empty when there is not exactly one."""
    ids = [name.removesuffix(_MANIFEST_ENDING) for name in names if name.endswith(_MANIFEST_ENDING)]
    return ids[0] if len(ids) == 1 else ""


def _audio_of(manifest: Manifest | None, names: set[str], recording_id: str) -> str:
    """Say how the audio is called: by the manifest, or where none can be read, as it seems; empty = none."""
    if manifest is not None:
        return manifest.audio.name if manifest.audio is not None else ""
    return (*audio_among(names, recording_id), "")[0]


def _read_manifest(raw: bytes, findings: list[Finding]) -> Manifest | None:
    if len(raw) > MANIFEST_LIMIT_BYTES:
        findings.append(Finding(code=Check.MANIFEST, reason="too large for a manifest"))
        return None
    try:
        return parse_manifest(raw)
    except (FormatError, UnicodeError) as problem:
        findings.append(Finding(code=Check.MANIFEST, reason=str(problem)))
        return None


def _signed(manifest: Manifest | None, bundle: Bundle, recording_id: str, audio: str) -> dict[str, str]:
    """Say which digest each signature must be over; what is missing is left out.

    An encrypted WAV's is over the plain one, whose digest the manifest tells.
    """
    name = manifest_name(recording_id)
    digests = {name: bundle.sha256s[name]} if name in bundle.sha256s else {}
    entry = manifest.audio if manifest is not None else None
    sha256_hex = (entry.content_sha256 if entry is not None else "") or bundle.sha256s.get(audio, "")
    return digests | ({signed_name(audio): sha256_hex} if sha256_hex else {})


def verify_signatures(
    bundle: Bundle, signed: Mapping[str, str], trust: TrustStore, findings: list[Finding]
) -> dict[str, SignerIdentity]:
    """Verify both signatures, over these digests; return who made them, vouched for or not."""
    signers: dict[str, SignerIdentity] = {}
    for name, sha256_hex in signed.items():
        signature = bundle.contents.get(signature_name(name))
        if signature is None:
            continue  # missing, which is a finding of its own
        try:
            signers[name] = verify_detached(signature, sha256_hex=sha256_hex, trust=trust, subject=name)
        except SignerUnknown as problem:
            signer = problem.fields["signer"]
            if isinstance(signer, SignerIdentity):
                signers[name] = signer
            findings.append(Finding(code=Check.SIGNER, reason=str(problem), verdict=Verdict.UNKNOWN))
        except CertificateUnfit as problem:
            findings.append(Finding(code=Check.CERTIFICATE, reason=str(problem)))
        except RecorderError as problem:
            findings.append(Finding(code=Check.SIGNATURE, reason=str(problem)))
    return signers


def check_certificate_file(
    bundle: Bundle, recording_id: str, identities: Mapping[str, SignerIdentity], findings: list[Finding]
) -> None:
    """The certificate beside a recording, which no signature covers, is that of whoever signed."""
    pem = bundle.contents.get(signer_name(recording_id))
    if pem is None:
        return  # which is a finding of its own
    known = certificate_sha256s(pem)[:1]
    if any(identity.certificate_sha256 not in known for identity in identities.values()):
        reason = f"{signer_name(recording_id)} is not the certificate that signed"
        findings.append(Finding(code=Check.CERTIFICATE, reason=reason))


def _check_manifest(manifest: Manifest, recording_id: str, bundle: Bundle, findings: list[Finding]) -> None:
    names = set(bundle.sha256s) | set(bundle.unreadable)
    if manifest.recording_id != recording_id:
        findings.append(Finding(code=Check.MANIFEST, reason=f"is of recording {manifest.recording_id}"))
    audio = manifest.audio.name if manifest.audio is not None else ""
    required = set(required_names(recording_id, audio=audio))
    if not is_utc_time(manifest.started_at):
        findings.append(Finding(code=Check.MANIFEST, reason="started_at is no RFC 3339 time in UTC"))
    known = {*required, *(entry.name for entry in manifest.files), rendering_name(manifest)}
    stamps = names_of_stamps(recording_id, required)
    known |= {*stamps, *names_of_renewals(stamps, bundle.contents), *opened_files(manifest)}
    if manifest.metadata_encrypted:
        known |= set(index_names(recording_id))  # ``index_judgement`` looks at them
    if names - known:
        unlisted = ", ".join(sorted(names - known))
        findings.append(Finding(code=Check.FILES, reason=f"{unlisted} is not in the manifest"))


def _check_rendering(manifest: Manifest, bundle: Bundle, findings: list[Finding]) -> None:
    """Make the XML again; nobody signs it, so it may say nothing of its own."""
    name, digest = rendering_name(manifest), bundle.sha256s[manifest_name(manifest.recording_id)]
    if name in bundle.sha256s:
        rendered = sha256_bytes(render_manifest(manifest, manifest_sha256=digest))
        if rendered != bundle.sha256s[name]:
            reason = f"{name} does not say what the manifest says"
            findings.append(Finding(code=Check.RENDERING, reason=reason))


def check_files(
    stated: Manifest | RecordingIndex, bundle: Bundle, names: set[str], findings: list[Finding]
) -> None:
    """Check that every file is there and is what the manifest, or the index, says."""
    for entry in stated.files:
        actual = bundle.sha256s.get(entry.name)
        if actual is None:
            if entry.name not in names:
                findings.append(Finding(code=Check.FILES, reason=f"{entry.name} is missing"))
        elif actual != entry.sha256 or bundle.sizes_bytes[entry.name] != entry.size_bytes:
            reason = f"{entry.name} is {actual} ({bundle.sizes_bytes[entry.name]} bytes), "
            reason += f"the manifest says {entry.sha256} ({entry.size_bytes} bytes)"
            findings.append(Finding(code=Check.DIGEST, reason=reason))
    for name, content_sha256 in opened_files(stated).items():
        if name in bundle.sha256s and content_sha256 != bundle.sha256s[name]:
            reason = f"{name} is {bundle.sha256s[name]}, what is in its envelope {content_sha256}"
            findings.append(Finding(code=Check.DIGEST, reason=reason))


def _check_proof(manifest: Manifest, tree: AudioTree | None, findings: list[Finding]) -> None:
    proof = manifest.proof
    told = AudioTree(leaf_samples=proof.leaf_samples, leaves=proof.leaves, root_sha256=proof.root_sha256)
    if tree != told:
        found = f"{tree.leaves} leaves, root {tree.root_sha256}" if tree is not None else "not to be read"
        reason = (
            f"the audio's tree is {found}; the manifest says {told.leaves} leaves, root {told.root_sha256}"
        )
        findings.append(Finding(code=Check.PROOF, reason=reason))


def _check_clock(manifest: Manifest, signers: Iterable[SignerIdentity], findings: list[Finding]) -> None:
    """A recording is signed after it ended; if not, the clock was set back between."""
    try:
        ended_utc_s = datetime.fromisoformat(manifest.ended_at).timestamp()
    except ValueError:
        return  # ``time_problems`` has said so
    times = [identity.signing_time_utc_s for identity in signers]
    if times and min(times) + CLOCK_SLACK_S < ended_utc_s:
        reason = f"signed {ended_utc_s - min(times):.0f} s before its end: the clock went back meanwhile"
        findings.append(Finding(code=Check.CLOCK, reason=reason, verdict=Verdict.UNKNOWN))
