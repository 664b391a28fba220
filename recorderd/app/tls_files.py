"""The files of a TLS server, looked at before anybody connects: later calls would be refused one by one.

Contract: what is good here makes a server; a key that others may read is refused whatever is in it.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from recorderd.core.errors import CertificateUnreadable, KeyUnusable, SecretUnusable
from recorderd.evidence.secret_files import read_secret


def check_tls_files(*, certificate_file: Path, key_file: Path, ca_file: Path | None = None) -> None:
    """See that key and certificate belong together, and that the authorities can be read.

    Errors: KeyUnusable.
    """
    try:
        read_secret(key_file)
    except KeyUnusable as problem:  # whose hint speaks of a certificate
        raise SecretUnusable(**problem.fields) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        certificate_file.read_bytes()
        context.load_cert_chain(certificate_file, key_file, password="")
    except OSError as problem:  # an SSLError too
        raise KeyUnusable(path=certificate_file, reason=_why(problem)) from None
    if ca_file is not None:
        check_authorities(ca_file)


def check_authorities(ca_file: Path) -> None:
    """See that the certificates of those who may vouch for the other end can be read.

    Errors: KeyUnusable.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except OSError as problem:
        raise CertificateUnreadable(path=ca_file, reason=_why(problem)) from None


def _why(problem: OSError) -> str:
    if isinstance(problem, ssl.SSLError):
        return f"TLS refuses it: {problem.reason or problem}"
    return str(problem.strerror or problem)
