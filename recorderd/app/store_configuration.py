"""Where published recordings lie, in archive.toml; ``archive_store`` opens it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from recorderd.app.schema import Problem, option

FILE_URL: Final = "file:"
_BUCKET: Final = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_PREFIX: Final = r"(/[A-Za-z0-9_.-]+)*/?"


class LockMode(StrEnum):
    """What the object store's Object Lock lets happen before a date."""

    NONE = "none"
    GOVERNANCE = "governance"
    COMPLIANCE = "compliance"


class LockDate(StrEnum):
    """Which date of a recording's class it is."""

    MINIMUM = "minimum"
    DUE = "due"


class Encryption(StrEnum):
    """How the object store is asked to encrypt."""

    NONE = "none"
    AES256 = "AES256"
    KMS = "aws:kms"


def _store_url(value: Any) -> str | None:
    fits = value == FILE_URL or re.fullmatch(rf"s3://{_BUCKET}{_PREFIX}", value)
    return None if fits else 'give "file:", or s3://BUCKET or s3://BUCKET/PREFIX'


def _endpoint(value: Any) -> str | None:
    fits = re.fullmatch(r"(https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?/?)?", value)
    return None if fits else "give https://HOST:PORT"


def _mirror_url(value: Any) -> str | None:
    fits = re.fullmatch(rf"file:///.+|s3://{_BUCKET}{_PREFIX}", value)
    return None if fits else "give file:///FOLDER, or s3://BUCKET or s3://BUCKET/PREFIX"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStoreSection:
    """What [store] and [mirror] share."""

    url: str = FILE_URL
    endpoint: str = option(
        "https://HOST:PORT of the object store; empty = Amazon's of the region.", default="", check=_endpoint
    )
    region: str = option("Region that requests are signed for.", default="us-east-1")
    path_style: bool = option(
        "Name the bucket in the path, as servers of one's own want it; false = in the host's name.",
        default=True,
    )
    access_key: str = option("Id of the access key.", default="")
    secret_key_file: Path | None = option("File with the secret access key, mode 600.", default=None)
    tls_ca_file: Path | None = option(
        "Who may vouch for the server, PEM; absent = the system's.", default=None
    )
    encryption: Encryption = option(
        "Server-side encryption that every object must have: none, AES256 or aws:kms.",
        default=Encryption.NONE,
    )
    encryption_key: str = option("The server's key for aws:kms; empty = its default.", default="")
    connections: int = option(
        "Files that are sent at once, and recordings that `fsck` reads at once.",
        default=8,
        minimum=1,
        maximum=64,
    )

    @property
    def is_s3(self) -> bool:
        """Tell whether it is an object store."""
        return self.url.startswith("s3://")

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        """What every key begins with; empty, or ends with a slash."""
        words = self.url.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{words}/" if words else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSection(ObjectStoreSection):
    """[store]"""

    url: str = option(
        'Where published recordings lie: "file:" in archive.data_dir, or s3://BUCKET/PREFIX.',
        default=FILE_URL,
        check=_store_url,
    )
    lock: LockMode = option(
        "Object Lock: none, governance (what [retention] permits goes), compliance (nobody removes anything "
        "before its date).",
        default=LockMode.NONE,
    )
    lock_until: LockDate = option(
        "Until when objects are locked: minimum (nobody erases by hand before), or due (the sweep erases).",
        default=LockDate.DUE,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSection(ObjectStoreSection):
    """[mirror]"""

    url: str = option(
        "Where every recording lies once more: file:///FOLDER of another disk or host, or s3://BUCKET/PREFIX.",
        check=_mirror_url,
    )
    required: bool = option(
        "A recorder gets its receipt only when this has the recording, too.", default=False
    )

    @property
    def folder(self) -> Path:
        """The folder, where it is one."""
        return Path(self.url.removeprefix("file://"))


def store_problems(store: StoreSection, mirror: MirrorSection | None) -> Iterator[Problem]:
    """Find what is wrong between keys that are right by themselves."""
    yield from _object_store_problems(store, "store")
    if store.lock is not LockMode.NONE and not store.is_s3:
        yield Problem(key="store.lock", reason="is for an object store", remedy="give s3://BUCKET as url")
    if mirror is not None:
        yield from _object_store_problems(mirror, "mirror")
        if mirror.is_s3 and (mirror.url, mirror.endpoint) == (store.url, store.endpoint):
            yield Problem(key="mirror.url", reason="is the store itself", remedy="give another place")


def _object_store_problems(store: ObjectStoreSection, key: str) -> Iterator[Problem]:
    if store.is_s3 and not (store.access_key and store.secret_key_file):
        remedy = "give access_key and secret_key_file"
        yield Problem(key=f"{key}.access_key", reason="goes with an object store", remedy=remedy)
    if not store.is_s3 and (store.access_key or store.secret_key_file or store.endpoint):
        yield Problem(
            key=f"{key}.url", reason="is a folder", remedy="give s3://BUCKET, or leave out what is for one"
        )
    if store.tls_ca_file and not store.endpoint.startswith("https://"):
        yield Problem(key=f"{key}.tls_ca_file", reason="without TLS", remedy="use https or leave it out")
    if store.encryption_key and store.encryption is not Encryption.KMS:
        yield Problem(key=f"{key}.encryption_key", reason="goes with aws:kms", remedy="give both or none")
