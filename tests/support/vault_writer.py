"""Writes an encrypted draft until it is killed; what was synced goes to standard output.

python -m tests.support.vault_writer FOLDER CERTIFICATE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.recipients import load_certificate
from recorderd.record.vault import VaultFile, begin_vault, vault_name
from recorderd.wire.wav import WavEncoding, WavHeader

AUDIO = "r-1.wav"
HEADER = WavHeader(encoding=WavEncoding.PCM16, sample_rate_hz=8000, channels=2)
APPEND_FRAMES = 4000


def main() -> None:
    """Write until the end."""
    folder, certificate = (Path(word) for word in sys.argv[1:])
    recipients = CertificateRecipients(recipients=(load_certificate(certificate),))
    key = begin_vault(folder, AUDIO, recipients=recipients).key
    head = HEADER.encode(data_bytes=0)
    path = folder / vault_name(AUDIO)
    file = VaultFile(path, key=key, recording_id="r-1", head=head, frame_bytes=4, silence=0)
    file.sync()
    while True:
        block = os.urandom(APPEND_FRAMES * HEADER.frame_bytes)
        file.write_at(block, offset_bytes=file.size_bytes)
        file.sync()
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
