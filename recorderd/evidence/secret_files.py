"""Secrets in files: found, read with suspicion, never shown.

Contract: a file that others may read is refused; root, whose commands act for a daemon's user, may read that
user's. No exception carries a secret, not even in its context.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import Final

from recorderd.core.errors import CredentialMissing, KeyUnusable, SecretUnusable

CREDENTIAL_PREFIX: Final = "credential:"
_SECRET_MAX_BYTES: Final = 64 * 1024
_ACL: Final = "system.posix_acl_access"
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP = 0x02, 0x04, 0x08  # acl(5); in linux/posix_acl.h


def resolve_secret(path: Path) -> Path:
    """Find where a secret lies: `credential:NAME` is one that systemd hands to the unit.

    Errors: CredentialMissing when a credential is asked for outside a unit that has any.
    Source: systemd.exec(5), LoadCredential.
    """
    if not path.name.startswith(CREDENTIAL_PREFIX):
        return path
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise CredentialMissing(path=path.name, reason="systemd gave this process no credentials")
    return Path(folder) / path.name.removeprefix(CREDENTIAL_PREFIX)


def read_secret_text(path: Path) -> str:
    """Read a secret of one line.

    Errors: SecretUnusable.
    """
    try:
        text = read_secret(path).decode(errors="replace")
    except KeyUnusable as problem:  # whose hint speaks of a certificate
        raise SecretUnusable(**problem.fields) from None
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise SecretUnusable(path=path, reason="is not text")
    return text.strip()


def read_secret(path: Path) -> bytes:
    """Read a secret's octets.

    Errors: KeyUnusable: missing, no regular file, open to others, of another user, too long.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            _check_guarded(path, stream.fileno())
            return stream.read(_SECRET_MAX_BYTES)
    except OSError as problem:
        raise KeyUnusable(path=path, reason=problem.strerror) from None


def _check_guarded(path: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise KeyUnusable(path=path, reason="is no regular file")
    if status.st_mode & 0o037 or (status.st_mode & 0o040 and not _only_named_to_us(descriptor)):
        raise KeyUnusable(path=path, reason=f"mode {status.st_mode & 0o777:03o} lets others at it")
    if os.geteuid() not in (0, status.st_uid) and status.st_uid != 0:  # root acts for the key's owner
        raise KeyUnusable(path=path, reason=f"belongs to user {status.st_uid}")
    if status.st_size > _SECRET_MAX_BYTES:
        raise KeyUnusable(path=path, reason=f"is longer than {_SECRET_MAX_BYTES} octets")


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO must not stop us


def _only_named_to_us(descriptor: int) -> bool:
    """Tell whether the group bits are only the mask of an access list that names us and nobody else.

    Source: systemd's exec-credential.c, which leaves a credential root's and names its reader in such a list.
    """
    try:
        entries = os.getxattr(descriptor, _ACL)[4:]
    except OSError:
        return False
    for tag, rights, who in struct.iter_unpack("<HHI", entries):
        if rights and tag in (_ACL_GROUP_OBJ, _ACL_GROUP):
            return False
        if rights and tag == _ACL_USER and who not in (0, os.geteuid()):
            return False
    return True
