"""How one draft rests encrypted: its vault, its journal's veil, its offers' envelopes.

Contract: the wrapped key survives before anything is written under it; where the metadata is encrypted it is
there from the first line of the journal on, else from the first of its audio on that comes to the disk, be it
in the tail.
Thread: the disk's.
"""

from __future__ import annotations

from pathlib import Path

from recorderd.evidence.digest import sha256_file
from recorderd.evidence.draft_cipher import DraftKey
from recorderd.evidence.name_veil import NameVeil
from recorderd.record.draft_keys import DraftKeys
from recorderd.record.encrypting import Recipients
from recorderd.record.sealed_metadata import enclosed, recipient_entries
from recorderd.record.vault import Vault, begin_vault, wrapped_key_name
from recorderd.wire.manifest import FileEntry, RecipientEntry, audio_name


class DraftEncryption:
    """To whom one draft is encrypted, and what of it."""

    def __init__(
        self, recipients: Recipients, *, seals_metadata: bool, keys: DraftKeys | None = None
    ) -> None:
        """Begin; ``keys`` leave the content key to the process that follows."""
        self.recipients = recipients
        self._keys = keys or DraftKeys()
        self.seals_metadata = seals_metadata
        self.kept: dict[str, FileEntry] = {}  # offers that rest in envelopes, by name
        self._vault: Vault | None = None
        self._wrapped_sha256 = b""

    def vault(self, folder: Path) -> Vault:
        """Give what the draft rests in; the first time it is begun.

        Errors: OSError; EncryptionFailed.
        """
        if self._vault is None:
            audio = audio_name(folder.name)
            self._vault = begin_vault(folder, audio, recipients=self.recipients, keys=self._keys)
        return self._vault

    def wrapped_sha256(self, folder: Path) -> bytes:
        """Give the digest of the file with the wrapped key, which was begun. Errors: OSError."""
        if not self._wrapped_sha256:
            name = wrapped_key_name(audio_name(folder.name), suffix=self.recipients.suffix)
            self._wrapped_sha256 = bytes.fromhex(sha256_file(folder / name)[0])
        return self._wrapped_sha256

    def take(self, recording_id: str) -> Vault | None:
        """Take on what another process has let the draft rest in; None when its key is gone."""
        key = self._keys.take(recording_id)
        self._vault = Vault(recording_id=recording_id, key=key) if key is not None else None
        return self._vault

    @property
    def key(self) -> DraftKey | None:
        """The content key, once there is one."""
        return self._vault.key if self._vault is not None else None

    def drop(self, recording_id: str) -> None:
        """Leave the key no more."""
        self._keys.drop(recording_id)

    def veil(self, folder: Path) -> NameVeil | None:
        """Give what hides the journal's texts; None where they rest in clear.

        Errors: OSError; EncryptionFailed.
        """
        return self.vault(folder).key.veil if self.seals_metadata else None

    def entries(self, *, at_utc_ns: int) -> tuple[RecipientEntry, ...]:
        """Tell who will be able to open the draft."""
        return recipient_entries(self.recipients, at_utc_ns=at_utc_ns)

    def enclosed_offer(self, raw: bytes, name: str) -> tuple[FileEntry, bytes]:
        """Put an offer into an envelope. Errors: EncryptionFailed."""
        return enclosed(raw, name=name, role="offer", recipients=self.recipients)
