"""Recipients from files, of either kind: certificates in PEM, or OpenPGP keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from recorderd.core.errors import RecipientExpired, RecipientUnusable
from recorderd.evidence.envelope import RECIPIENTS_MAX, CertificateRecipients, Cipher
from recorderd.evidence.openpgp import PgpRecipients, load_pgp_recipients
from recorderd.evidence.recipients import load_certificate, read_public


def load_recipients(
    paths: Sequence[Path], *, cipher: Cipher = Cipher.AES_256_GCM, now: datetime | None = None
) -> CertificateRecipients | PgpRecipients:
    """Read all who are to open one class of recordings; they are of one kind.

    Those that have ended are left out while another one is valid; if none is, all of them are taken: a
    recorder that does not start records nothing, and their holder has the key.

    Errors: RecipientUnusable.
    """
    moment = now or datetime.now(tz=UTC)
    if not 1 <= len(paths) <= RECIPIENTS_MAX:
        reason = f"{len(paths)} are named; 1 to {RECIPIENTS_MAX} are possible"
        raise RecipientUnusable(path=paths[-1] if paths else "", reason=reason)
    kinds = {path: b"-----BEGIN CERTIFICATE" in read_public(path) for path in paths}
    if len(set(kinds.values())) > 1:
        odd = next(path for path in paths if kinds[path] != kinds[paths[0]])
        raise RecipientUnusable(path=odd, reason="certificates and OpenPGP keys cannot stand together")
    if not kinds[paths[0]]:
        return load_pgp_recipients(paths, now_utc_s=int(moment.timestamp()))
    valid, ended = [], []
    for path in paths:
        try:
            valid.append(load_certificate(path, now=moment))
        except RecipientExpired:
            ended.append(load_certificate(path, now=moment, may_have_ended=True))
    return CertificateRecipients(
        recipients=tuple(valid or ended), cipher=cipher, left_out=tuple(ended if valid else ())
    )
