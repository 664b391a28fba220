"""How to check by hand a recording whose manifest is encrypted: without a recipient's key, and with it.

Contract: what is printed is a shell script that needs nothing of ours: sh, openssl, sha256sum, grep. What
only the holder of a recipient's key can do stands in it as comments, in the order in which he does it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from recorderd.app.by_hand import OPTIONS, VERIFY
from recorderd.archive.verdicts import BundleVerdict
from recorderd.wire.manifest import manifest_name, signature_name
from recorderd.wire.manifest_entries import DRAFT
from recorderd.wire.names import index_name, signed_name
from recorderd.wire.recording_index import RecordingIndex

_OPENED_BY: Final = {
    "cms": "openssl cms -decrypt -inform DER -binary -in {0} -recip RECIPIENT.pem -inkey RECIPIENT.key"
    " -out {1}",
    "pgp": "gpg --output {1} --decrypt {0}",
}


def sealed_script(
    folder: Path, verdict: BundleVerdict, index: RecordingIndex, *, ca: Path | None
) -> Iterator[str]:
    """Write the commands for one recording; ``ca`` are the certificates that the reader trusts."""
    recording_id, own = index.recording_id, index_name(index.recording_id)
    yield f"# recording {recording_id} of {index.recorder_id}, number {index.sequence} of its chain"
    yield "set -e"
    yield f"cd {shlex.quote(str(folder.resolve()))}"
    trusted = ca.resolve() if ca is not None else Path(f"{recording_id}.signer.pem")
    if ca is None:
        yield "# The certificate from beside the recording shows that nothing was altered, not who signed:"
        yield "# put one in its place that you have from whom you trust."
    at = f" -attime {verdict.signed_utc_s}" if verdict.signed_utc_s is not None else ""
    check = f"-CAfile {shlex.quote(str(trusted))} {OPTIONS}{at} -out /dev/null"
    yield "# The manifest is encrypted; its signed index stands in clear:"
    yield f"{VERIFY} {_over(own, own)} {check}"
    yield "# Each digest stands in the signed index, and the file has it:"
    for entry in index.files:
        yield f'grep -qF \'"sha256":"{entry.sha256}"\' {shlex.quote(own)}'
        yield f"echo '{entry.sha256}  {entry.name}' | sha256sum -c -"
    yield "# It follows the manifest with this digest:"
    yield f'grep -qF \'"previous_manifest_sha256":"{index.previous_manifest_sha256}"\' {shlex.quote(own)}'
    yield "# The holder of a recipient's key (RECIPIENT.pem, RECIPIENT.key) goes on:"
    for line in _opened(index):
        yield f"#   {line}"
    yield f"#   echo '{index.manifest_sha256}  {manifest_name(recording_id)}' | sha256sum -c -"
    yield f"#   {VERIFY} {_over(manifest_name(recording_id), manifest_name(recording_id))} {check}"
    if index.audio is not None:
        wav = signed_name(index.audio.name)
        content = index.audio.name if index.audio.encryption == DRAFT else wav
        yield f"#   {VERIFY} {_over(content, wav)} {check}"
    yield f"#   recorderctl verify {shlex.quote(str(folder.resolve()))}"


def _over(content: str, signed: str) -> str:
    return f"-in {shlex.quote(signature_name(signed))} -content {shlex.quote(content)}"


def _opened(index: RecordingIndex) -> Iterator[str]:
    """Say how everything is opened."""
    for entry in index.files:
        if entry.encryption in _OPENED_BY:
            opened = entry.name.removesuffix(".p7m").removesuffix(".gpg")
            yield _OPENED_BY[entry.encryption].format(shlex.quote(entry.name), shlex.quote(opened))
        elif entry.encryption == DRAFT:
            yield f"recorderctl open {shlex.quote(entry.name)} --out .  # a crash has left it"
    audio = [entry.name for entry in index.files if entry.role == "audio"]
    if len(audio) > 1:
        parts = " ".join(shlex.quote(name.removesuffix(".p7m").removesuffix(".gpg")) for name in audio)
        yield f"cat {parts} > {shlex.quote(signed_name(audio[0]))} && rm {parts}"
