"""Puts together what the HTTP interface needs; apart from its command, for it loads much."""

from __future__ import annotations

from typing import Final

from recorderd import durable
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.call_records_configuration import columns_of
from recorderd.app.http_configuration import HttpSection, OidcSection
from recorderd.app.reconciler import reconciler_of
from recorderd.app.retention_parts import retention_parts
from recorderd.app.web_upkeep import WebUpkeep
from recorderd.archive.accounts import Accounts
from recorderd.archive.annotations import Annotations
from recorderd.archive.call_records import CallRecords
from recorderd.archive.catalogue import Catalogue
from recorderd.archive.criteria import tag_of
from recorderd.archive.database import Database
from recorderd.archive.jobs import Jobs
from recorderd.archive.oidc import Oidc, ProviderSettings
from recorderd.archive.search import Search
from recorderd.archive.shares import Shares
from recorderd.archive.sign_in import SignIn
from recorderd.archive.web.desk import AccessTerms, Calls, Desk, Keeping
from recorderd.archive.web.peaks import Peaks
from recorderd.core.clock import Clock
from recorderd.core.events import EventLog
from recorderd.evidence.secret_files import read_secret_text, resolve_secret

PEAKS_NAME: Final = "peaks"  # in archive.run_dir


def make_desk(
    configuration: ArchiveConfiguration, section: HttpSection, *, clock: Clock, log: EventLog
) -> Desk:
    """Put together what requests need.

    Errors: CatalogueFailed; KeyUnusable when the database's password or the receipt key cannot be read.
    """
    for folder in (configuration.archive.data_dir, configuration.archive.run_dir):
        durable.make_dir(folder)
    parts = retention_parts(configuration, log=log)
    database, audit_log = parts.database, parts.audit
    accounts = Accounts(database, audit_log, clock=clock)
    access, archive = configuration.access, configuration.archive
    return Desk(
        archive_id=archive.id,
        store=parts.store,
        terms=AccessTerms(
            restricted_tags=frozenset(tag_of(tag) for tag in access.restricted_tags),
            restricted_classes=frozenset(access.restricted_classes),
            reason_tags=frozenset(tag_of(tag) for tag in access.reason_tags),
            reason_classes=frozenset(access.reason_classes),
        ),
        database=database,
        catalogue=Catalogue(database, region=configuration.catalogue.region),
        search=Search(database, region=configuration.catalogue.region),
        annotations=Annotations(database),
        keeping=Keeping(book=parts.book, holds=parts.holds, eraser=parts.eraser, sweeper=parts.sweeper),
        calls=Calls(
            columns=columns_of(configuration.call_records),
            records=CallRecords(database, region=configuration.catalogue.region),
            reconciler=reconciler_of(configuration, database, audit_log, clock=clock),
        ),
        accounts=accounts,
        sign_in=SignIn(
            database,
            accounts,
            audit_log,
            clock=clock,
            session_idle_s=section.session_idle_s,
            session_max_s=section.session_max_s,
        ),
        oidc=_oidc(section.oidc, database, clock),
        shares=Shares(database, audit_log, clock=clock),
        jobs=Jobs(database, audit_log, front_end=archive.front_end, clock=clock, log=log),
        upkeep=WebUpkeep(configuration, parts),
        audit_log=audit_log,
        peaks=Peaks(archive.run_dir / PEAKS_NAME),
        signer=parts.signer,
        keep_free_bytes=archive.keep_free_bytes,
        clock=clock,
        log=log,
    )


def _oidc(section: OidcSection | None, database: Database, clock: Clock) -> Oidc | None:
    if section is None:
        return None
    secret = section.client_secret_file
    settings = ProviderSettings(
        issuer=section.issuer,
        client_id=section.client_id,
        client_secret=read_secret_text(resolve_secret(secret)) if secret is not None else "",
        return_url=section.return_url,
        ca_file=section.tls_ca_file,
    )
    return Oidc(database, settings, clock=clock)
