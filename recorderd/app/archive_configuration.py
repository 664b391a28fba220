"""Configuration of the archive host: archive.toml.

Secrets are named by file; the content of a secret never stands in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recorderd.app.audit_configuration import AuditSection
from recorderd.app.call_records_configuration import CallRecordsSection, call_records_problems
from recorderd.app.catalogue_configuration import CatalogueSection, catalogue_problems
from recorderd.app.checks import curve_key, safe_id, tcp_endpoint
from recorderd.app.delivery_configuration import DeliverySection, delivery_problems
from recorderd.app.enrolment_configuration import EnrolmentSection
from recorderd.app.http_configuration import AccessSection, HttpSection
from recorderd.app.pairs_configuration import PairSection, pairs_problems
from recorderd.app.power_configuration import PowerSection, power_problems
from recorderd.app.recorder_configuration import LogSection
from recorderd.app.retention_configuration import RetentionSection, retention_problems, unswept
from recorderd.app.schema import Problem, load, option, section
from recorderd.app.scrub_configuration import ScrubSection
from recorderd.app.stamps_configuration import RenewalSection, stamps_problems
from recorderd.app.store_configuration import MirrorSection, StoreSection, store_problems
from recorderd.app.webhooks_configuration import WebhookSection, webhooks_problems
from recorderd.core.ids import is_safe_id

LOCK_NAME: Final = ".archive.lock"  # in archive.data_dir
CONTROL_NAME: Final = "archive.sock"  # in archive.run_dir


def _front_end(value: Any) -> str | None:
    return None if not value or is_safe_id(value) else "give 1 to 64 letters, digits, _ or -"


def _some_files(value: Any) -> str | None:
    return None if value else "name at least one certificate file"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSection:
    """[archive]"""

    id: str = option("Name of this archive in receipts.", check=safe_id)
    bind: str = option("tcp://ADDRESS:PORT to listen on.", check=tcp_endpoint)
    secret_key_file: Path = option("Our CURVE secret key, mode 600.")
    data_dir: Path = option("Folder for uploads, recordings and the catalogue.")
    run_dir: Path = option("Folder for the control socket.")
    keep_free_bytes: int = option(
        "With less free than this nothing is taken.", default=1 << 30, minimum=0, maximum=1 << 50
    )
    front_end: str = option(
        "Name of this front end where several serve one PostgreSQL and one store; empty = it is alone.",
        default="",
        check=_front_end,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptSection:
    """[receipt]"""

    key_file: Path = option("Key that signs receipts, PEM, mode 600.")
    certificate_file: Path = option("Its certificate (chain), PEM; the recorders trust it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderEntry:
    """[recorders.<id>]"""

    curve_public_key: str = option("The recorder's CURVE public key.", check=curve_key)
    certificate_files: tuple[Path, ...] = option(
        "Certificates that its recordings may be signed with, PEM.", check=_some_files
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveConfiguration:
    """The whole of archive.toml."""

    archive: ArchiveSection = section("Who and where this archive is.")
    receipt: ReceiptSection = section("Signing of receipts.")
    recorders: dict[str, RecorderEntry] = section(
        "Recorders that may deliver, beside those that were enrolled.", default_factory=dict
    )
    pairs: tuple[PairSection, ...] = section("Recorders of the same calls.", default=())
    enrolment: EnrolmentSection | None = section("Where recorders join; absent = nowhere.", default=None)
    timestamps: RenewalSection | None = section("Renewal of time stamps; absent = none.", default=None)
    audit: AuditSection = section("The log of who did what.", default_factory=AuditSection)
    http: HttpSection | None = section("The interface for people; absent = none.", default=None)
    webhooks: tuple[WebhookSection, ...] = section("Who is told what happens.", default=())
    access: AccessSection = section("Which recordings are apart.", default_factory=AccessSection)
    catalogue: CatalogueSection = section(
        "Where the catalogue lies; absent = in the data folder.", default_factory=CatalogueSection
    )
    store: StoreSection = section(
        "Where published recordings lie; absent = in the data folder.", default_factory=StoreSection
    )
    mirror: MirrorSection | None = section("The off-site copy; absent = none.", default=None)
    deliveries: tuple[DeliverySection, ...] = section("Whose own servers get recordings.", default=())
    scrub: ScrubSection = section("Reading everything again.", default_factory=ScrubSection)
    call_records: CallRecordsSection = section(
        "How the exchange writes its call detail records.", default_factory=CallRecordsSection
    )
    retention: RetentionSection = section(
        "How long recordings are kept; absent = nothing is erased by itself.", default_factory=unswept
    )
    power: PowerSection | None = section("The UPSes that feed this machine; absent = none.", default=None)
    log: LogSection = section("Logging.", default_factory=LogSection)

    def cross_check(self) -> Iterator[Problem]:
        """Find what is wrong between keys that are right by themselves."""
        yield from catalogue_problems(self.catalogue)
        if self.archive.front_end and not self.catalogue.url:
            remedy = "give catalogue.url of a PostgreSQL database, or leave front_end out"
            yield Problem(key="archive.front_end", reason="an SQLite file has one program", remedy=remedy)
        yield from stamps_problems(self.timestamps)
        yield from power_problems(self.power)
        yield from pairs_problems(self.pairs)
        yield from webhooks_problems(self.webhooks)
        yield from retention_problems(self.retention)
        yield from call_records_problems(self.call_records)
        yield from delivery_problems(self.deliveries)
        yield from store_problems(self.store, self.mirror)
        owners: dict[str, str] = {}
        for name, entry in self.recorders.items():
            if not is_safe_id(name):
                remedy = "give 1 to 64 letters, digits, _ or -"
                yield Problem(key=f"recorders.{name}", reason="is no recorder id", remedy=remedy)
            other = owners.setdefault(entry.curve_public_key, name)
            if other != name:
                yield Problem(
                    key=f"recorders.{name}.curve_public_key",
                    reason=f"is that of {other} too",
                    remedy="give each recorder a key of its own",
                )


def load_archive_configuration(path: Path) -> ArchiveConfiguration:
    """Read archive.toml.

    Errors: ConfigurationError with every problem of the file.
    """
    return load(ArchiveConfiguration, path)
