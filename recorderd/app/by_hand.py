"""How to check a recording by hand: the openssl and sha256sum commands, for that very recording.

Contract: what is printed is a shell script that stops at the first thing that does not hold, and needs
nothing of ours: sh, openssl, sha256sum and grep.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from recorderd.archive.verdicts import BundleVerdict
from recorderd.wire.manifest import GENESIS_SHA256, Manifest, manifest_name, signature_name
from recorderd.wire.names import CHECKPOINT_ROLES, signed_name

VERIFY: Final = "openssl cms -verify -binary -cades -inform DER"
OPTIONS: Final = "-purpose any -partial_chain"


def script(
    folder: Path, verdict: BundleVerdict, manifest: Manifest, *, ca: Path | None, previous: Path | None
) -> Iterator[str]:
    """Write the commands for one recording; ``ca`` are the certificates that the reader trusts.

    ``previous`` is the manifest that stands before it in the chain, where it is at hand.
    """
    recording_id = manifest.recording_id
    yield f"# recording {recording_id} of {manifest.recorder_id}, number {manifest.sequence} of its chain"
    yield "set -e"
    yield f"cd {shlex.quote(str(folder.resolve()))}"
    trusted = ca.resolve() if ca is not None else Path(f"{recording_id}.signer.pem")
    if ca is None:
        yield "# The certificate from beside the recording shows that nothing was altered, not who signed:"
        yield "# put one in its place that you have from whom you trust."
    at = f" -attime {verdict.signed_utc_s}" if verdict.signed_utc_s is not None else ""
    if at:
        yield "# -attime is the signing time, for a certificate that has expired since; see it with:"
        p7s = shlex.quote(signature_name(manifest_name(recording_id)))
        yield f"#   openssl cms -cmsout -print -inform DER -in {p7s}"
    audio = manifest.audio
    names = [manifest_name(recording_id)]
    names += [signed_name(audio.name)] if audio is not None else []
    for name in names:
        what = f"-in {shlex.quote(signature_name(name))} -content {shlex.quote(name)}"
        line = f"{VERIFY} {what} -CAfile {shlex.quote(str(trusted))} {OPTIONS}{at} -out /dev/null"
        if audio is not None and name != audio.name and name in names[1:]:
            yield "# The audio is encrypted; when its recipient has opened it (`recorderctl open`):"
            line = f"#   {line}"
        yield line
    checkpoint = [entry.name for entry in manifest.files if entry.role in CHECKPOINT_ROLES]
    if len(checkpoint) > 1:
        yield "# A crash cut the recording; this was signed of its beginning while the call went on:"
        content, signature = map(shlex.quote, checkpoint[:2])
        what = f"-in {signature} -content {content} -CAfile {shlex.quote(str(trusted))}"
        yield f"{VERIFY} {what} {OPTIONS}{at} -out /dev/null"
    if manifest.files:
        yield "# Each digest stands in the signed manifest, and the file has it:"
    for entry in manifest.files:
        yield f'grep -qF \'"sha256":"{entry.sha256}"\' {shlex.quote(manifest_name(recording_id))}'
        yield f"echo '{entry.sha256}  {entry.name}' | sha256sum -c -"
    yield from _chain_place(manifest, previous)


def _chain_place(manifest: Manifest, previous: Path | None) -> Iterator[str]:
    name, named = shlex.quote(manifest_name(manifest.recording_id)), manifest.previous_manifest_sha256
    if named == GENESIS_SHA256:
        yield "# It is the first of its chain: it names no manifest before it."
    else:
        yield "# It follows the manifest with this digest:"
    yield f'grep -qF \'"previous_manifest_sha256":"{named}"\' {name}'
    if previous is not None:
        yield f"echo {shlex.quote(f'{named}  {previous.resolve()}')} | sha256sum -c -"
