"""Puts a large file into an object store in parts, and goes on where a former try was cut.

Contract: parts that are there already and are those of this very file are not sent again; an upload of which
a part is another is begun afresh. Whoever calls confirms the whole (``objects``). Of an upload that nobody
goes on with the parts stay on the server until ``Objects.abort_strays``.
"""

from __future__ import annotations

from hashlib import md5
from typing import Final

from recorderd.archive.bucket import Bucket
from recorderd.archive.groups import StoredFile

PART_BYTES: Final = 16 << 20  # servers want 5 MiB at least and 10,000 parts at most: a WAV has 4 GiB


def put_in_parts(bucket: Bucket, key: str, file: StoredFile, *, sha256: str, lock_until_utc_s: int) -> None:
    """Put a file.

    Errors: OSError; what was put stays, and counts the next time.
    """
    begun = sorted((row for row in bucket.uploads(key) if row[0] == key), key=lambda row: row[2])
    count = -(-file.size_bytes // PART_BYTES)
    tags: dict[int, str] = {}
    upload_id = ""
    while begun and not upload_id:
        _, candidate, _ = begun.pop()
        try:
            there = bucket.parts(key, candidate)
        except FileNotFoundError:
            continue
        if all(_is_ours(file, number, row) for number, row in there.items()):
            upload_id, tags = candidate, {number: tag for number, (tag, _) in there.items()}
        else:
            bucket.abort_parts(key, candidate)
    if not upload_id:
        upload_id = bucket.begin_parts(key, sha256=sha256, lock_until_utc_s=lock_until_utc_s)
    for number in range(1, count + 1):
        if number not in tags:
            tags[number] = bucket.put_part(key, upload_id, number, _part(file, number))
    bucket.finish_parts(key, upload_id, tags)


def _part(file: StoredFile, number: int) -> bytes:
    return file.read_at((number - 1) * PART_BYTES, PART_BYTES)


def _is_ours(file: StoredFile, number: int, row: tuple[str, int]) -> bool:
    tag, size_bytes = row
    content = _part(file, number)
    return len(content) == size_bytes and md5(content, usedforsecurity=False).hexdigest() == tag.strip('"')
