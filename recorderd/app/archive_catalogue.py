"""Opens the archive's catalogue as archive.toml says."""

from __future__ import annotations

from recorderd import durable
from recorderd.app.archive_configuration import ArchiveConfiguration
from recorderd.archive.catalogue import CATALOGUE_NAME, Catalogue
from recorderd.archive.database import Database
from recorderd.archive.migrations import migrate
from recorderd.core.errors import CatalogueFailed
from recorderd.evidence.keys import read_secret_text, resolve_secret


def open_database(configuration: ArchiveConfiguration, *, read_only: bool = False) -> Database:
    """Open the database in which the catalogue and all that belongs to it lie.

    Errors: CatalogueFailed; KeyUnusable when the password cannot be read.
    """
    section = configuration.catalogue
    if not section.url:
        path = configuration.archive.data_dir / CATALOGUE_NAME
        if read_only and not path.exists():
            raise CatalogueFailed(path=path, reason="there is none")
        return Database.of_file(path, read_only=read_only)
    password = ""
    if section.password_file is not None:
        password = read_secret_text(resolve_secret(section.password_file)).strip()
    return Database(section.url, password=password, read_only=read_only)


def open_to_write(configuration: ArchiveConfiguration) -> Database:
    """Open the database for a command that changes something: with this release's tables.

    Errors: CatalogueFailed; KeyUnusable when the password cannot be read.
    """
    durable.make_dir(configuration.archive.data_dir)
    database = open_database(configuration)
    migrate(database)
    return database


def open_catalogue(configuration: ArchiveConfiguration, *, read_only: bool = False) -> Catalogue:
    """Open the catalogue; to be written, with this release's tables.

    Errors: CatalogueFailed; KeyUnusable when the password cannot be read.
    """
    database = open_database(configuration, read_only=read_only)
    return Catalogue(database, read_only=read_only, region=configuration.catalogue.region)


def is_empty(configuration: ArchiveConfiguration) -> bool:
    """Tell whether there is no catalogue yet: nothing was ever received."""
    return not configuration.catalogue.url and not (configuration.archive.data_dir / CATALOGUE_NAME).exists()
