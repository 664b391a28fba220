"""One bucket of an object store, spoken to by boto3; its answers become our errors here.

Contract: every failure is an OSError; what is not there is a FileNotFoundError, what the server forbids a
PermissionError. A secret stands in no error. Nothing is taken from the environment but the clock.
Source: Amazon S3 API reference; Ceph's radosgw 16 as it answers.
"""

from __future__ import annotations

import errno
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import Any, Final

SHA256_NAME: Final = "sha256"  # of the metadata that is kept with an object
CONNECT_S: Final = 10
ANSWER_S: Final = 60
ATTEMPTS: Final = 3
CONNECTIONS: Final = 16
_MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NoSuchUpload", "NotFound"})
_NO_LOCK: Final = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"})
_FORBIDDEN: Final = frozenset(
    {"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)
_NO_CONDITIONS: Final = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSettings:
    """Where a bucket is, and how it is spoken to."""

    name: str
    prefix: str = ""  # of every key; empty, or ends with a slash
    endpoint: str = ""  # empty = the one of the region
    region: str = "us-east-1"
    path_style: bool = True
    access_key: str = ""
    secret_key: str = ""
    ca_file: Path | None = None
    encryption: str = ""  # x-amz-server-side-encryption, and which key of the server's
    encryption_key: str = ""
    lock: str = ""  # GOVERNANCE or COMPLIANCE; empty = no Object Lock

    def __repr__(self) -> str:
        """Name the bucket, never a secret."""
        return f"BucketSettings({self.name!r}, {self.prefix!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What a server says of an object."""

    size_bytes: int
    sha256: str  # as it was stated when it was put
    etag: str
    encryption: str = ""
    locked_until_utc_s: int = 0  # 0 = not at all, or the server does not tell it here


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObject:
    """One object of a list."""

    key: str
    size_bytes: int
    changed_utc_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """How an object is locked."""

    mode: str = ""  # empty = not at all
    until_utc_s: int = 0
    is_held: bool = False


class Bucket:
    """The objects under one prefix of a bucket; keys are without it.

    Thread: any.
    """

    def __init__(self, settings: BucketSettings) -> None:
        self.settings = settings
        import boto3  # slow, and needed with an object store only
        from botocore.config import Config

        self._has_conditions = True
        self._client: Any = boto3.session.Session(
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            region_name=settings.region,
        ).client(
            "s3",
            endpoint_url=settings.endpoint or None,
            verify=_authorities(settings.ca_file),
            config=Config(
                signature_version="s3v4",
                s3={
                    "addressing_style": "path" if settings.path_style else "virtual",
                    "payload_signing_enabled": True,  # the server compares what came with the digest
                },
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_S,
                read_timeout=ANSWER_S,
                max_pool_connections=CONNECTIONS,
                retries={"mode": "standard", "max_attempts": ATTEMPTS},
            ),
        )

    def check(self) -> None:
        """See that the bucket is there, and can do what is asked of it."""
        self._ask("head_bucket", "")
        if self.settings.lock:
            answer = self._ask("get_object_lock_configuration", "")
            if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
                raise OSError(errno.EINVAL, f"bucket {self.settings.name} has no Object Lock")

    def head(self, key: str) -> StoredObject | None:
        """Ask after an object; None when there is none."""
        try:
            answer = self._ask("head_object", key)
        except FileNotFoundError:
            return None
        return StoredObject(
            size_bytes=int(answer["ContentLength"]),
            sha256=answer.get("Metadata", {}).get(SHA256_NAME, ""),
            etag=answer.get("ETag", "").strip('"'),
            encryption=answer.get("ServerSideEncryption", ""),
            locked_until_utc_s=_utc_s(answer.get("ObjectLockRetainUntilDate")),
        )

    def put(
        self, key: str, content: bytes, *, sha256: str, lock_until_utc_s: int = 0, replace: bool = False
    ) -> None:
        """Put a whole object; the server compares it with the digests that are sent along.

        Errors: FileExistsError when there is one already, from a server that can tell.
        """
        more = self._stated(sha256) | self._lock_words(lock_until_utc_s)
        more |= {"Body": content, "ContentMD5": _md5_base64(content)}
        if not replace and self._has_conditions:
            try:
                self._ask("put_object", key, IfNoneMatch="*", **more)
                return
            except OSError as problem:
                if problem.errno != errno.ENOSYS:
                    raise
            self._ask("put_object", key, **more)  # whoever asks has looked before
            self._has_conditions = False  # an older server
            return
        self._ask("put_object", key, **more)

    def read(self, key: str, *, offset_bytes: int, size_bytes: int) -> bytes:
        """Read a stretch of an object."""
        if size_bytes <= 0:
            return b""
        answer = self._ask("get_object", key, Range=f"bytes={offset_bytes}-{offset_bytes + size_bytes - 1}")
        octets: bytes = _told(key, answer["Body"].read)
        return octets

    def listed(self, prefix: str) -> Iterator[ListedObject]:
        """List objects whose keys begin so, in order."""
        for page in self._pages("list_objects_v2", prefix):
            for row in page.get("Contents", ()):
                yield ListedObject(
                    key=self._own(row["Key"]),
                    size_bytes=int(row["Size"]),
                    changed_utc_s=int(row["LastModified"].timestamp()),
                )

    def folders(self, prefix: str) -> list[str]:
        """List what stands between a prefix and the next slash, in order."""
        pages = self._pages("list_objects_v2", prefix, Delimiter="/")
        rows = (row for page in pages for row in page.get("CommonPrefixes", ()))
        return sorted(self._own(row["Prefix"]).rstrip("/") for row in rows)

    def remove(self, key: str, *, bypass: bool) -> None:
        """Remove every version of an object, and what marks it as removed.

        Errors: PermissionError while one is locked.
        """
        more = {"BypassGovernanceRetention": True} if bypass else {}
        for page in list(self._pages("list_object_versions", key)):
            for row in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if self._own(row["Key"]) == key:
                    self._ask("delete_object", key, VersionId=row["VersionId"], **more)
        if self.head(key) is not None:
            raise PermissionError(errno.EPERM, f"{key} is still there")

    # --- in parts ------------------------------------------------------------------------------------

    def begin_parts(self, key: str, *, sha256: str, lock_until_utc_s: int = 0) -> str:
        """Begin an object that comes in parts; gives the upload's id."""
        more = self._stated(sha256) | self._lock_words(lock_until_utc_s)
        return str(self._ask("create_multipart_upload", key, **more)["UploadId"])

    def put_part(self, key: str, upload_id: str, number: int, content: bytes) -> str:
        """Put a part; gives its tag. The server compares it with the digests that are sent along."""
        more = {"UploadId": upload_id, "PartNumber": number, "Body": content}
        more["ContentMD5"] = _md5_base64(content)
        return str(self._ask("upload_part", key, **more)["ETag"])

    def parts(self, key: str, upload_id: str) -> dict[int, tuple[str, int]]:
        """List the parts that an upload has: number -> tag, size.

        Errors: FileNotFoundError when there is no such upload any more.
        """
        found: dict[int, tuple[str, int]] = {}
        for page in self._pages("list_parts", key, "Key", UploadId=upload_id):
            for row in page.get("Parts", ()):
                found[int(row["PartNumber"])] = str(row["ETag"]), int(row["Size"])
        return found

    def finish_parts(self, key: str, upload_id: str, tags: Mapping[int, str]) -> None:
        """Make the object of its parts."""
        rows = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(tags.items())]
        self._ask("complete_multipart_upload", key, UploadId=upload_id, MultipartUpload={"Parts": rows})

    def abort_parts(self, key: str, upload_id: str) -> None:
        """Forget an upload and its parts, if there is one."""
        try:
            self._ask("abort_multipart_upload", key, UploadId=upload_id)
        except FileNotFoundError:
            return

    def uploads(self, prefix: str) -> Iterator[tuple[str, str, int]]:
        """List uploads that were begun: key, id, when."""
        for page in self._pages("list_multipart_uploads", prefix):
            for row in page.get("Uploads", ()):
                yield self._own(row["Key"]), row["UploadId"], int(row["Initiated"].timestamp())

    # --- locks ---------------------------------------------------------------------------------------

    def lock_of(self, key: str) -> Lock:
        """Ask how an object is locked."""
        mode, until_utc_s = self.locked_until(key)
        hold = self._lock_answer("get_object_legal_hold", key).get("LegalHold", {})
        return Lock(mode=mode, until_utc_s=until_utc_s, is_held=hold.get("Status") == "ON")

    def locked_until(self, key: str) -> tuple[str, int]:
        """Ask in which mode, and until when, an object is locked."""
        retention = self._lock_answer("get_object_retention", key).get("Retention", {})
        return retention.get("Mode", ""), _utc_s(retention.get("RetainUntilDate"))

    def lock(self, key: str, *, until_utc_s: int) -> None:
        """Lock an object until then; a lock is only ever lengthened."""
        retention = {"Mode": self.settings.lock, "RetainUntilDate": _utc(until_utc_s)}
        self._ask("put_object_retention", key, Retention=retention)

    def hold(self, key: str, *, is_held: bool) -> None:
        """Put an object on legal hold, or take it off."""
        self._ask("put_object_legal_hold", key, LegalHold={"Status": "ON" if is_held else "OFF"})

    # --- asking --------------------------------------------------------------------------------------

    def _stated(self, sha256: str) -> dict[str, Any]:
        words: dict[str, Any] = {"Metadata": {SHA256_NAME: sha256}}
        if self.settings.encryption:
            words["ServerSideEncryption"] = self.settings.encryption
        if self.settings.encryption_key:
            words["SSEKMSKeyId"] = self.settings.encryption_key
        return words

    def _lock_words(self, until_utc_s: int) -> dict[str, Any]:
        if not (self.settings.lock and until_utc_s):
            return {}
        return {"ObjectLockMode": self.settings.lock, "ObjectLockRetainUntilDate": _utc(until_utc_s)}

    def _lock_answer(self, call: str, key: str) -> Mapping[str, Any]:
        try:
            return self._ask(call, key)
        except _NotLocked:
            return {}

    def _ask(self, call: str, key: str, **words: Any) -> Mapping[str, Any]:
        if key:
            words["Key"] = self.settings.prefix + key
        words["Bucket"] = self.settings.name
        answer: Mapping[str, Any] = _told(
            key or self.settings.name, lambda: getattr(self._client, call)(**words)
        )
        return answer

    def _pages(
        self, call: str, prefix: str, word: str = "Prefix", **words: Any
    ) -> Iterator[Mapping[str, Any]]:
        words |= {"Bucket": self.settings.name, word: self.settings.prefix + prefix}
        pages = iter(self._client.get_paginator(call).paginate(**words))
        while True:
            page = _told(prefix, lambda: next(pages, None))
            if page is None:
                return
            yield page

    def _own(self, key: str) -> str:
        return key.removeprefix(self.settings.prefix)


class _NotLocked(OSError):
    """The object has no lock of the kind that was asked for."""


def _told(subject: str, ask: Callable[[], Any]) -> Any:
    """Ask, and tell what went wrong in our words."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        return ask()
    except ClientError as problem:
        answer = problem.response.get("Error", {})
        code, message = str(answer.get("Code", "")), str(answer.get("Message") or "")
        reason = f"{subject}: {code} {message}".rstrip()
        if code in _NO_LOCK:
            raise _NotLocked(errno.ENODATA, reason) from None
        if code in _MISSING:
            raise FileNotFoundError(errno.ENOENT, reason) from None
        if code == "PreconditionFailed":
            raise FileExistsError(errno.EEXIST, reason) from None
        if code in _FORBIDDEN:
            raise PermissionError(errno.EACCES, reason) from None
        if code in _NO_CONDITIONS:
            raise OSError(errno.ENOSYS, reason) from None
        raise OSError(errno.EIO, reason) from None
    except BotoCoreError as problem:
        raise OSError(errno.EIO, f"{subject}: {problem}") from None
    except HTTPError as problem:  # within an object's octets boto3 passes some of them on
        raise OSError(errno.EIO, f"{subject}: {type(problem).__name__}: {problem}") from None


def _authorities(ca_file: Path | None) -> str | bool:
    """Name the file of those who may vouch for the server: the configured one, or the system's."""
    return str(ca_file) if ca_file is not None else ssl.get_default_verify_paths().cafile or True


def _utc_s(at: datetime | None) -> int:
    return int(at.timestamp()) if at is not None else 0


def _utc(utc_s: int) -> datetime:
    return datetime.fromtimestamp(utc_s, UTC)


def _md5_base64(content: bytes) -> str:
    return b64encode(md5(content, usedforsecurity=False).digest()).decode()
