"""From the configuration of time stamps to authorities that can be asked: reads certificates, passwords."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from functools import partial

from recorderd.app.named_files import Look
from recorderd.app.stamps_configuration import AuthoritySection, RenewalSection, TimestampsSection
from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import KeyUnusable
from recorderd.evidence.keys import read_secret_text, resolve_secret
from recorderd.evidence.verify import TrustStore
from recorderd.flush.authority import Authority
from recorderd.flush.stamping import StampingSettings


def stamping_settings(timestamps: TimestampsSection | None) -> StampingSettings | None:
    """Read certificates and passwords, and put the settings together.

    Errors: KeyUnusable, also when a file holds no certificate.
    """
    if timestamps is None:
        return None
    return StampingSettings(
        authorities=authorities(timestamps),
        wait_ns=timestamps.wait_s * NS_PER_S,
        batch_ns=timestamps.batch_s * NS_PER_S,
        apart_limit_ns=timestamps.apart_limit_s * NS_PER_S,
        retry_ns=timestamps.retry_s * NS_PER_S,
    )


def authorities(timestamps: TimestampsSection | RenewalSection | None) -> tuple[Authority, ...]:
    """Read certificates and passwords of the authorities.

    Errors: KeyUnusable, also when a file holds no certificate.
    """
    return tuple(_authority(entry) for entry in timestamps.authorities) if timestamps is not None else ()


def authority_looks(timestamps: TimestampsSection | RenewalSection | None) -> Iterator[Look]:
    """Give what reads the files of each authority, for `check-config`."""
    for number, entry in enumerate(timestamps.authorities if timestamps is not None else ()):
        yield f"timestamps.authorities[{number}]", partial(_authority, entry)


def _authority(entry: AuthoritySection) -> Authority:
    password = ""
    if entry.password_file is not None:
        password = read_secret_text(resolve_secret(entry.password_file)).strip()
    context = None
    if entry.url.startswith("https://"):
        try:
            context = ssl.create_default_context(cafile=entry.tls_ca_file)
        except (OSError, ssl.SSLError) as problem:
            raise KeyUnusable(path=entry.tls_ca_file, reason=problem) from None
    return Authority(
        url=entry.url,
        trust=TrustStore.from_files([entry.ca_file]),
        timeout_s=entry.timeout_s,
        user=entry.user,
        password=password,
        tls=context,
    )
