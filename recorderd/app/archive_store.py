"""Opens the archive's store as archive.toml says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.app.store_configuration import Encryption, LockMode, ObjectStoreSection, StoreSection
from recorderd.archive.bucket import Bucket, BucketSettings
from recorderd.archive.database import Database
from recorderd.archive.folders import Folders
from recorderd.archive.hold_book import HoldBook
from recorderd.archive.locks import LockUntil, ObjectLocks
from recorderd.archive.mirror import Mirror
from recorderd.archive.objects import Objects
from recorderd.archive.retention_book import RetentionBook
from recorderd.archive.store import Store
from recorderd.core.clock import Clock, SystemClock
from recorderd.core.events import EventLog
from recorderd.evidence.secret_files import read_secret_text, resolve_secret

THREADS_NAME: Final = "store"


def open_store(configuration: ArchiveConfiguration) -> Store:
    """Open the store: uploads in the data folder, published recordings there or in an object store.

    Errors: KeyUnusable when the secret key cannot be read.
    """
    section, root = configuration.store, configuration.archive.data_dir
    published = open_objects(section) if section.is_s3 else None
    return Store(root, published, front_end=configuration.archive.front_end)


def open_objects(section: ObjectStoreSection) -> Objects:
    """Open an object store; nothing is asked of it yet.

    Errors: KeyUnusable when the secret key cannot be read.
    """
    secret = section.secret_key_file
    bucket = Bucket(
        BucketSettings(
            name=section.bucket,
            prefix=section.prefix,
            endpoint=section.endpoint,
            region=section.region,
            path_style=section.path_style,
            access_key=section.access_key,
            secret_key=read_secret_text(resolve_secret(secret)).strip() if secret is not None else "",
            ca_file=section.tls_ca_file,
            encryption="" if section.encryption is Encryption.NONE else section.encryption.value,
            encryption_key=section.encryption_key,
            lock=_lock_of(section),
        )
    )
    pool = ThreadPoolExecutor(section.connections, thread_name_prefix=THREADS_NAME)
    return Objects(bucket, pool=pool, clock=SystemClock())


def open_mirror(
    configuration: ArchiveConfiguration, store: Store, database: Database, *, clock: Clock, log: EventLog
) -> Mirror | None:
    """Open the off-site copy, if there is to be one; nothing is asked of it yet.

    Errors: KeyUnusable when the secret key cannot be read.
    """
    section = configuration.mirror
    if section is None:
        return None
    place = open_objects(section) if section.is_s3 else Folders(section.folder)
    return Mirror(store.published, place, database, clock=clock, log=log)


def open_locks(
    configuration: ArchiveConfiguration,
    store: Store,
    database: Database,
    *,
    book: RetentionBook,
    holds: HoldBook,
    clock: Clock,
) -> ObjectLocks | None:
    """Give what keeps Object Lock as our own terms and holds are; None where nothing is locked."""
    section = configuration.store
    if not isinstance(store.published, Objects) or section.lock is LockMode.NONE:
        return None
    return ObjectLocks(
        store.published,
        database,
        book=book,
        holds=holds,
        until=LockUntil(section.lock_until.value),
        clock=clock,
    )


def _lock_of(section: ObjectStoreSection) -> str:
    if not isinstance(section, StoreSection) or section.lock is LockMode.NONE:
        return ""
    return section.lock.value.upper()
