"""What recorder-archive reads besides archive.toml, for `check-config`: all of it, and nobody is asked.

Contract: what a start, the interface for people, a delivery or a report would fail by is found here, each
with its key.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.archive_daemon import curve_secret, receipt_signer
from recorderd.app.archive_store import open_objects, open_store
from recorderd.app.delivery_duty import route_of
from recorderd.app.http_configuration import HttpSection
from recorderd.app.named_files import Look, check_named_files
from recorderd.app.power import ups_looks
from recorderd.app.recorder_configuration import load_recorder_configuration
from recorderd.app.service import Service
from recorderd.app.stamp_authorities import authority_looks
from recorderd.app.tls_files import check_authorities, check_tls_files
from recorderd.evidence.secret_files import read_secret_text, resolve_secret
from recorderd.evidence.verify import TrustStore


def check_archive(path: Path, configuration: ArchiveConfiguration) -> None:
    """Read every file that archive.toml names.

    Errors: ConfigurationError with every one that does not do; KeyUnavailable.
    """
    check_named_files(path, _looks(configuration))


def _looks(configuration: ArchiveConfiguration) -> Iterator[Look]:
    yield "archive.secret_key_file", partial(curve_secret, configuration)
    yield "receipt.key_file", partial(receipt_signer, configuration)
    for name, entry in configuration.recorders.items():
        for certificate_file in entry.certificate_files:
            yield f"recorders.{name}.certificate_files", partial(TrustStore.from_files, [certificate_file])
    yield from authority_looks(configuration.timestamps)
    if configuration.catalogue.password_file is not None:
        yield "catalogue.password_file", partial(_read, configuration.catalogue.password_file)
    yield "store", partial(open_store, configuration)
    if configuration.mirror is not None and configuration.mirror.is_s3:
        yield "mirror", partial(open_objects, configuration.mirror)
    for key, place in (("store", configuration.store), ("mirror", configuration.mirror)):
        if place is not None and place.tls_ca_file is not None:
            yield f"{key}.tls_ca_file", partial(check_authorities, place.tls_ca_file)
    for number, route in enumerate(configuration.deliveries):
        yield f"deliveries[{number}].key_file", partial(route_of, route)
    for number, hook in enumerate(configuration.webhooks):
        yield f"webhooks[{number}].secret_file", partial(_read, hook.secret_file)
        if hook.tls_ca_file is not None:
            yield f"webhooks[{number}].tls_ca_file", partial(check_authorities, hook.tls_ca_file)
    if configuration.http is not None:
        yield from _looks_at_http(configuration.http)
    if configuration.call_records.rules_file is not None:
        rules_file = configuration.call_records.rules_file
        yield "call_records.rules_file", partial(load_recorder_configuration, rules_file)
    yield from ups_looks(configuration.power, log=Service(program="recorder-archive").log)


def _looks_at_http(http: HttpSection) -> Iterator[Look]:
    yield "http.key_file", partial(_check_server, http)
    if http.oidc is not None and http.oidc.client_secret_file is not None:
        yield "http.oidc.client_secret_file", partial(_read, http.oidc.client_secret_file)
    if http.oidc is not None and http.oidc.tls_ca_file is not None:
        yield "http.oidc.tls_ca_file", partial(check_authorities, http.oidc.tls_ca_file)


def _check_server(http: HttpSection) -> None:
    check_tls_files(certificate_file=http.certificate_file, key_file=resolve_secret(http.key_file))


def _read(path: Path) -> str:
    return read_secret_text(resolve_secret(path))
