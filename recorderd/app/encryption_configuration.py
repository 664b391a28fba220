"""The part of recorderd.toml that says to whom recordings are encrypted; the recipients are looked at there.

``recipients_of`` reads them; ``encryption_problems`` finds those that do not do, before the first call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recorderd.app.checks import safe_id
from recorderd.app.schema import Problem, option
from recorderd.core.errors import RecipientUnusable
from recorderd.evidence.envelope import CertificateRecipients, Cipher
from recorderd.evidence.loading import load_recipients
from recorderd.evidence.openpgp import PgpRecipients

if TYPE_CHECKING:
    from recorderd.app.recorder_configuration import RecorderConfiguration


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionSection:
    """[encryption.NAME]"""

    recipients: tuple[Path, ...] = option(
        "Files with one public key each: certificates in PEM, or OpenPGP keys; each of them opens everything."
    )
    cipher: Cipher = option(
        "For certificates: aes-256-gcm, or aes-256-cbc for older programs.", default=Cipher.AES_256_GCM
    )
    metadata: bool = option(
        "Encrypt manifest and offers too; names, numbers and search are then the recipients' only.",
        default=False,
    )


def recipients_of(
    configuration: RecorderConfiguration,
) -> dict[str, CertificateRecipients | PgpRecipients]:
    """Read the recipients of every section.

    Errors: RecipientUnusable.
    """
    return {
        name: load_recipients(row.recipients, cipher=row.cipher)
        for name, row in configuration.encryption.items()
    }


def encryption_problems(configuration: RecorderConfiguration) -> Iterator[Problem]:
    """Find recipients that do not do, and rules that name none."""
    for name, row in configuration.encryption.items():
        key = f"encryption.{name}"
        if (remedy := safe_id(name)) is not None:
            yield Problem(key=key, reason=f"{name!r} is not right", remedy=remedy)
        try:
            load_recipients(row.recipients, cipher=row.cipher)
        except RecipientUnusable as problem:
            yield Problem(key=f"{key}.recipients", reason=str(problem).rstrip("."), remedy=problem.hint)
    known = ", ".join(sorted(configuration.encryption)) or "there is none"
    for number, rule in enumerate(configuration.rules):
        if rule.encrypt and rule.encrypt not in configuration.encryption:
            yield Problem(
                key=f"rules[{number}].encrypt",
                reason=f"there is no [encryption.{rule.encrypt}]",
                remedy=f"name one of: {known}",
            )
