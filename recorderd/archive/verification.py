"""Does a folder hold a whole, unaltered recording? Reads only what was published, trusts nothing.

Rule: a verdict is good only when every check passed; a check that could not be made has failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from recorderd.core.errors import FormatError, RecorderError, SignerUnknown
from recorderd.evidence.digest import sha256_bytes, sha256_file
from recorderd.evidence.verify import TrustStore, verify_detached
from recorderd.wire.manifest import MANIFEST_LIMIT_BYTES, Manifest, parse_manifest
from recorderd.wire.manifest_xml import render_manifest, rendering_name
from recorderd.wire.names import manifest_name, required_names, signature_name, signed_name
from recorderd.wire.receipt import RECEIPT_NAME

SIGNATURE_LIMIT_BYTES: Final = 1 << 20  # a signature with a long chain takes a few KiB
_MANIFEST_ENDING: Final = manifest_name("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that does not hold; ``code`` is a word for programs."""

    code: str  # files | manifest | signature | signer_unknown | digest | rendering
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleVerdict:
    """What came out; ``manifest`` is there once it could be read, whether or not the rest holds."""

    recording_id: str
    manifest: Manifest | None
    manifest_sha256: str
    sha256s: dict[str, str]  # of every file, as it stands
    size_bytes: int
    signers: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Tell whether everything holds."""
        return self.manifest is not None and not self.findings

    @property
    def only_signer_unknown(self) -> bool:
        """Tell whether nothing is wrong but that the signer is not trusted here."""
        return bool(self.findings) and all(finding.code == "signer_unknown" for finding in self.findings)


def verify_bundle(folder: Path, trust: TrustStore) -> BundleVerdict:
    """Check one recording's folder: manifest, both signatures, every digest and size, nothing unlisted.

    The one file that no manifest lists is its own XML, which must be what the manifest is rendered to.

    Errors: OSError when the folder cannot be read; whatever is wrong with its content is a finding.
    """
    findings: list[Finding] = []
    sha256s, sizes_bytes = _read_all(folder, findings)
    recording_id = _recording_id(set(sha256s))
    manifest = None
    if recording_id:
        manifest = _read_manifest(folder / manifest_name(recording_id), sha256s, findings)
    audio = manifest.audio.name if manifest is not None and manifest.audio is not None else ""
    required = set(required_names(recording_id, audio=audio))
    missing = sorted(required - set(sha256s)) if recording_id else ["the manifest"]
    if missing:
        findings.append(Finding(code="files", reason=f"{', '.join(missing)} is missing"))
    signers: tuple[str, ...] = ()
    if not missing:
        signed = {manifest_name(recording_id): sha256s[manifest_name(recording_id)]}
        if manifest is not None and manifest.audio is not None:
            signed[signed_name(audio)] = manifest.audio.content_sha256 or sha256s[audio]
        signers = _verify_signatures(folder, signed, trust, findings)
    if manifest is not None:
        _check_manifest(manifest, recording_id, required, set(sha256s), findings)
        _check_files(manifest, sha256s, sizes_bytes, findings)
        _check_rendering(manifest, recording_id, sha256s, findings)
    return BundleVerdict(
        recording_id=recording_id,
        manifest=manifest,
        manifest_sha256=sha256s.get(manifest_name(recording_id), ""),
        sha256s=sha256s,
        size_bytes=sum(sizes_bytes.values()),
        signers=signers,
        findings=tuple(findings),
    )


def _read_all(folder: Path, findings: list[Finding]) -> tuple[dict[str, str], dict[str, int]]:
    """Hash every file once; all later checks use these digests."""
    sha256s, sizes_bytes = {}, {}
    for path in sorted(folder.iterdir()):
        if path.name == RECEIPT_NAME:
            continue
        if path.is_symlink() or not path.is_file():
            findings.append(Finding(code="files", reason=f"{path.name} is no regular file"))
            continue
        sha256s[path.name], sizes_bytes[path.name] = sha256_file(path)
    return sha256s, sizes_bytes


def _recording_id(names: set[str]) -> str:
    ids = [name.removesuffix(_MANIFEST_ENDING) for name in names if name.endswith(_MANIFEST_ENDING)]
    return ids[0] if len(ids) == 1 else ""


def _read_manifest(path: Path, sha256s: dict[str, str], findings: list[Finding]) -> Manifest | None:
    if path.stat().st_size > MANIFEST_LIMIT_BYTES:
        findings.append(Finding(code="manifest", reason="too large for a manifest"))
        return None
    raw = path.read_bytes()
    if sha256_bytes(raw) != sha256s[path.name]:
        findings.append(Finding(code="manifest", reason="changed while it was read"))
        return None
    try:
        return parse_manifest(raw)
    except (FormatError, UnicodeError) as problem:
        findings.append(Finding(code="manifest", reason=str(problem)))
        return None


def _verify_signatures(
    folder: Path, signed: dict[str, str], trust: TrustStore, findings: list[Finding]
) -> tuple[str, ...]:
    signers = []
    for name, sha256_hex in signed.items():
        with (folder / signature_name(name)).open("rb") as stream:
            signature = stream.read(SIGNATURE_LIMIT_BYTES)  # a longer one is cut, and does not hold
        try:
            identity = verify_detached(signature, sha256_hex=sha256_hex, trust=trust, subject=name)
            signers.append(str(identity))
        except SignerUnknown as problem:
            findings.append(Finding(code="signer_unknown", reason=str(problem)))
        except RecorderError as problem:
            findings.append(Finding(code="signature", reason=str(problem)))
    return tuple(signers)


def _check_manifest(
    manifest: Manifest, recording_id: str, required: set[str], names: set[str], findings: list[Finding]
) -> None:
    if manifest.recording_id != recording_id:
        findings.append(Finding(code="manifest", reason=f"is of recording {manifest.recording_id}"))
    try:
        datetime.fromisoformat(manifest.started_at)
    except ValueError:
        findings.append(Finding(code="manifest", reason="started_at is no RFC 3339 time"))
    known = {*required, *(entry.name for entry in manifest.files), rendering_name(manifest)}
    if names - known:
        unlisted = ", ".join(sorted(names - known))
        findings.append(Finding(code="files", reason=f"{unlisted} is not in the manifest"))


def _check_files(
    manifest: Manifest, sha256s: dict[str, str], sizes_bytes: dict[str, int], findings: list[Finding]
) -> None:
    for entry in manifest.files:
        actual = sha256s.get(entry.name)
        if actual is None:
            findings.append(Finding(code="files", reason=f"{entry.name} is missing"))
        elif actual != entry.sha256 or sizes_bytes[entry.name] != entry.size_bytes:
            reason = f"{entry.name} is {actual} ({sizes_bytes[entry.name]} bytes), "
            reason += f"the manifest says {entry.sha256} ({entry.size_bytes} bytes)"
            findings.append(Finding(code="digest", reason=reason))


def _check_rendering(
    manifest: Manifest, recording_id: str, sha256s: dict[str, str], findings: list[Finding]
) -> None:
    """Make the XML again where there is one; nobody signs it, so it may say nothing of its own."""
    name = rendering_name(manifest)
    if name not in sha256s:
        return
    manifest_sha256 = sha256s[manifest_name(recording_id)]
    if sha256_bytes(render_manifest(manifest, manifest_sha256=manifest_sha256)) != sha256s[name]:
        findings.append(Finding(code="rendering", reason=f"{name} does not say what the manifest says"))
