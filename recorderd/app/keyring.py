"""The folder of the signing keys: what `recorderctl keys` writes and recorderd reads.

    keys_dir/0001/key.pem          the private key, mode 600; or key.uri, where it lies in a token
                  public.pem       its public half
                  certificate.pem  what vouches for it, then the issuers below the root
                  signer.pem       the certificate alone, for an archive to trust
                  root.pem         the root that the authority's answer led to
                  replaced-*.pem   certificates that were renewed
             0002/...              the next key
             current               the name of the folder in use; without it the first one is

Contract: nothing is overwritten but by a newer certificate for the same key, whose older one is kept first.
Each step is one rename: a cut before it leaves things as they were, and the same command does it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorderd import durable
from recorderd.app.service import FolderLock
from recorderd.core.errors import KeyringRefused, KeyUnusable
from recorderd.evidence.certificates import Answer, CertificateFacts, describe_certificate, key_fingerprint
from recorderd.evidence.signing_key import (
    PublicKey,
    SigningKey,
    kind_name,
    load_key,
    load_public,
    public_to_pem,
)
from recorderd.evidence.token_key import TokenKey
from recorderd.evidence.token_uri import parse_token_uri

KEY_NAME: Final = "key.pem"
URI_NAME: Final = "key.uri"
PUBLIC_NAME: Final = "public.pem"
CERTIFICATE_NAME: Final = "certificate.pem"
SIGNER_NAME: Final = "signer.pem"
ROOT_NAME: Final = "root.pem"
REPLACED: Final = "replaced-"
CURRENT_NAME: Final = "current"
LOCK_NAME: Final = ".lock"
_HALF_NAME: Final = ".new"
_SECRET_MODE, _PUBLIC_MODE = 0o600, 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One key with what belongs to it."""

    folder: Path

    @property
    def name(self) -> str:
        """Its number."""
        return self.folder.name

    @property
    def certificate_file(self) -> Path:
        """Where its certificate is, or will be."""
        return self.folder / CERTIFICATE_NAME

    @property
    def has_certificate(self) -> bool:
        """Tell whether somebody vouches for it."""
        return self.certificate_file.exists()

    @property
    def key_file(self) -> Path | None:
        """Where its private key is, if it is in a file."""
        path = self.folder / KEY_NAME
        return path if path.exists() else None

    @property
    def uri(self) -> str:
        """Where its private key is, if it is in a token."""
        path = self.folder / URI_NAME
        return path.read_text().strip() if path.exists() else ""

    @property
    def public(self) -> PublicKey:
        """Its public half.

        Errors: KeyUnusable.
        """
        path = self.folder / PUBLIC_NAME
        return load_public(path.read_bytes(), name=path)

    def key(self) -> SigningKey:
        """Open its private key.

        Errors: KeyUnusable, KeyUnavailable.
        """
        if uri := self.uri:
            key = TokenKey(parse_token_uri(uri), self.public)
            key.open()
            return key
        return load_key(self.folder / KEY_NAME)

    def certificates(self) -> list[CertificateFacts]:
        """Read what has vouched for it, the newest first."""
        paths = [*self.folder.glob(f"{REPLACED}*.pem")]
        if self.has_certificate:
            paths.append(self.certificate_file)
        found = {facts.sha256: facts for facts in (describe_certificate(path.read_bytes()) for path in paths)}
        return sorted(found.values(), key=lambda facts: facts.valid_to, reverse=True)

    def describe(self) -> str:
        """Name it for people: number, kind, fingerprint."""
        public = self.public
        return f"{self.name} ({kind_name(public)}, key {key_fingerprint(public)[:16]})"


class Keyring:
    """All keys of a recorder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def generations(self) -> tuple[Generation, ...]:
        """List all keys, the oldest first."""
        if not self.folder.is_dir():
            return ()
        rows = sorted(path for path in self.folder.iterdir() if re.fullmatch(r"\d{4}", path.name))
        return tuple(Generation(folder=path) for path in rows)

    def current(self) -> Generation | None:
        """Give the key in use, if one has a certificate.

        Errors: KeyUnusable when the one that is named is not there.
        """
        path = self.folder / CURRENT_NAME
        if path.exists():
            name = path.read_text().strip()
            found = next((entry for entry in self.generations() if entry.name == name), None)
            if found is None:
                raise KeyUnusable(path=path, reason=f"names {name!r}, which is not there")
            return found
        first = next(iter(self.generations()), None)
        return first if first is not None and first.has_certificate else None

    def following(self) -> Generation | None:
        """Give the key that is not in use yet."""
        current = self.current()
        rows = self.generations()
        last = rows[-1] if rows else None
        return last if last is not None and (current is None or last.name > current.name) else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other commands away; root acts as the folder's owner: recorderd must read what comes.

        Errors: AlreadyRunning.
        """
        durable.make_dir(self.folder)
        with _owner_of(self.folder):
            lock = FolderLock(self.folder / LOCK_NAME)
            try:
                yield
            finally:
                lock.close()

    def add(
        self, public: PublicKey, *, secret: bytes, in_token: bool, certificate_pem: bytes = b""
    ) -> Generation:
        """Add a key; ``secret`` is the private key in PEM, or its URI in a token.

        Durable: one rename; before it nothing of the key counts, after it all of it.
        """
        half = self.folder / _HALF_NAME
        if half.exists():  # of a command that was cut: nobody has seen its key
            durable.remove_tree(half)
        half.mkdir(mode=0o700)
        name = URI_NAME if in_token else KEY_NAME
        contents = {name: secret, PUBLIC_NAME: public_to_pem(public)}
        if certificate_pem:
            contents |= {SIGNER_NAME: certificate_pem, CERTIFICATE_NAME: certificate_pem}
        for entry, content in contents.items():
            durable.create(half / entry, content, mode=_SECRET_MODE if entry == name else _PUBLIC_MODE)
        rows = self.generations()
        target = self.folder / f"{int(rows[-1].name) + 1 if rows else 1:04}"
        durable.publish(half, target)
        return Generation(folder=target)

    def install(self, answer: Answer) -> Generation:
        """Put an authority's answer beside its key; the certificate that it renews is kept.

        Durable: one rename for each file, the certificate's own the last.
        Errors: KeyringRefused when no key in use or to come is meant.
        """
        current, following = self.current(), self.following()
        meant = [entry for entry in (current, following) if entry is not None]
        found = next((e for e in meant if key_fingerprint(e.public) == answer.key_sha256), None)
        if found is None:
            raise KeyringRefused(
                path=self.folder, reason="the certificate is for a key that is no longer in use"
            )
        if found.has_certificate:
            older = found.certificate_file.read_bytes()
            if older == answer.chain_pem:
                return found
            kept = found.folder / f"{REPLACED}{describe_certificate(older).sha256[:16]}.pem"
            durable.replace(kept, older, mode=_PUBLIC_MODE)
        durable.replace(found.folder / ROOT_NAME, answer.root_pem, mode=_PUBLIC_MODE)
        durable.replace(found.folder / SIGNER_NAME, answer.leaf_pem, mode=_PUBLIC_MODE)
        durable.replace(found.certificate_file, answer.chain_pem, mode=_PUBLIC_MODE)
        return found

    def switch(self) -> Generation:
        """Let the key that follows sign from now on.

        Durable: one rename.
        Errors: KeyringRefused when none is ready.
        """
        following = self.following()
        if following is None:
            raise KeyringRefused(path=self.folder, reason="no key waits to be used")
        if not following.has_certificate:
            raise KeyringRefused(path=self.folder, reason=f"{following.describe()} has no certificate yet")
        durable.replace(self.folder / CURRENT_NAME, following.name.encode() + b"\n", mode=_PUBLIC_MODE)
        return following


@contextmanager
def _owner_of(folder: Path) -> Iterator[None]:
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
