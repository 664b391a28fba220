"""The container in which a draft rests encrypted: its form, its key, and how it is read. No I/O here.

Contract: plain octets are held in blocks, each sealed with AES-256-GCM under the recording's content key,
which exists in memory only and, wrapped to the recipients, beside the container. What a block is and where it
belongs stands before it in clear, so that whoever has no key can still tell whole blocks from a torn one and
destroy those that must not stay; nobody without the key can read, alter, move or exchange one unnoticed.

    container    heading (128 octets), two slots for the head of the plain file, blocks in order of writing
    heading      magic, version, recording id, container id, prefix of nonces, length of the head,
                 octets of a frame, the octet that silence is made of, CRC-32
    block        40 octets: mark, length, plain offset, number, serial, flags, CRC-32; cipher text; tag (16)
    nonce        4 octets of the recording's random prefix, 8 of the block's serial
    associated   SHA-256 of the heading, the block's 36 octets before its CRC, its position in the container

A serial is used once per key: one counter serves all containers of a recording, each process that goes on
with a key (``DraftKey.go_on``) has a range of its own, and a key that was read back from an envelope opens
but never seals. Blocks count in the order of their serials: a later one stands for what an earlier one
said of the same octets; one with ENDS says that the plain file ends behind it. What is destroyed keeps its
40 octets, with the mark GONE, before zeros. The head has two slots, written in turn, so that one is always
whole. What no block tells reads as silence.
Source: NIST SP 800-38D section 8.2.1 (nonces of fixed and counter field).
"""

from __future__ import annotations

import functools
import hmac
import itertools
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recorderd.core.errors import EnvelopeUnopened
from recorderd.evidence.name_veil import NameVeil

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
HEADING_BYTES: Final = 128
BLOCK_HEAD_BYTES: Final = 40
BLOCK_MAX_BYTES: Final = 1 << 16  # two seconds of 16-bit stereo at 8 kHz
HEAD_SLOTS: Final = 2
ENDS: Final = 1
_MAGIC: Final = b"RECDRAFT"
_VERSION: Final = 1
_TURN_BITS: Final = 40  # serials of one process: a block each 0.2 s would last it 6,900 years
_NOTE_LABEL: Final = b"recorderd note"
_PROOF_LABEL: Final = b"recorderd running proof"
_VEIL_LABEL: Final = b"recorderd names"
_BLOCK: Final = b"BLCK"
_GONE: Final = b"GONE"
_HEADING: Final = struct.Struct(">8sHHB3xI4s16s64s20x")
_BLOCK_HEAD: Final = struct.Struct(">4sIQQQI")
_CRC: Final = struct.Struct(">I")


class Encrypts(Protocol):
    """Recipients, by certificate or by OpenPGP key."""

    def encrypt(self, blocks: Iterable[bytes | memoryview], *, content_bytes: int) -> Iterator[bytes]:
        """Encrypt a stream into one envelope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What a container begins with."""

    recording_id: str
    container_id: bytes
    nonce_prefix: bytes
    head_bytes: int  # of the plain file; kept in the slots
    frame_bytes: int
    silence: int

    def encode(self) -> bytes:
        """Write it. Errors: ValueError when a field does not fit."""
        try:
            name = self.recording_id.encode("ascii")
            fixed = _HEADING.pack(
                _MAGIC,
                _VERSION,
                self.frame_bytes,
                self.silence,
                self.head_bytes,
                self.nonce_prefix,
                self.container_id,
                name,
            )
        except struct.error as problem:
            raise ValueError(str(problem)) from None
        if len(name) > 64 or len(self.nonce_prefix) != 4 or len(self.container_id) != 16:
            raise ValueError("a field of another length")
        return fixed + _CRC.pack(zlib.crc32(fixed))

    @property
    def slot_bytes(self) -> int:
        """Octets of one of the head's slots."""
        return BLOCK_HEAD_BYTES + self.head_bytes + TAG_BYTES

    @property
    def blocks_at(self) -> int:
        """Where the first block behind the slots stands."""
        return HEADING_BYTES + HEAD_SLOTS * self.slot_bytes


def parse_heading(octets: bytes, *, subject: str) -> Heading:
    """Read what a container begins with.

    Errors: EnvelopeUnopened when it is none of ours.
    """
    try:
        fields = _HEADING.unpack(octets[: _HEADING.size])
        heading = Heading(
            recording_id=fields[7].rstrip(b"\0").decode("ascii"),
            container_id=fields[6],
            nonce_prefix=fields[5],
            head_bytes=fields[4],
            frame_bytes=fields[2],
            silence=fields[3],
        )
        whole = heading.encode()
    except (struct.error, ValueError):
        whole = b""
    if not whole or whole != octets[:HEADING_BYTES]:
        raise EnvelopeUnopened(subject=subject, reason="does not begin as a draft's container of version 1")
    return heading


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What stands before a block in clear, and where in the container it stands."""

    position: int
    offset: int  # of its plain octets in the plain file
    length: int
    number: int  # in the container; the slots have 0 and 1
    serial: int
    flags: int = 0
    is_gone: bool = False

    @property
    def end(self) -> int:
        """Where its plain octets end."""
        return self.offset + self.length

    @property
    def total_bytes(self) -> int:
        """Octets that it takes in the container."""
        return BLOCK_HEAD_BYTES + self.length + TAG_BYTES

    def encode(self) -> bytes:
        """Write the 40 octets."""
        fixed = self._fixed()
        return fixed + _CRC.pack(zlib.crc32(fixed))

    def destroyed(self) -> bytes:
        """Write what takes a block's place when it must not stay."""
        return replace(self, is_gone=True).encode() + bytes(self.length + TAG_BYTES)

    def associated(self, heading_digest: bytes) -> bytes:
        """Give the octets that are sealed with the content."""
        return heading_digest + self._fixed() + struct.pack(">Q", self.position)

    def _fixed(self) -> bytes:
        mark = _GONE if self.is_gone else _BLOCK
        return _BLOCK_HEAD.pack(mark, self.length, self.offset, self.number, self.serial, self.flags)


def parse_block(octets: bytes, *, position: int) -> Block | None:
    """Read what stands before a block; None when nothing does, or only a part."""
    if len(octets) < BLOCK_HEAD_BYTES:
        return None
    mark, length, offset, number, serial, flags = _BLOCK_HEAD.unpack_from(octets)
    block = Block(
        position=position,
        offset=offset,
        length=length,
        number=number,
        serial=serial,
        flags=flags,
        is_gone=mark == _GONE,
    )
    return block if octets[:BLOCK_HEAD_BYTES] == block.encode() else None


@functools.lru_cache(maxsize=4096)
def _digest(heading: Heading) -> bytes:
    return sha256(heading.encode()).digest()


class BlockOpener:
    """A content key that opens blocks.

    Thread: any.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {len(key)} octets")
        self._cipher = AESGCM(key)
        self.proof_key = hmac.digest(key, _PROOF_LABEL, "sha256")  # of the running proof's leaves
        self.veil = NameVeil(hmac.digest(key, _VEIL_LABEL, "sha512"))  # of the draft's journal

    def open(self, heading: Heading, block: Block, sealed: bytes) -> bytes:
        """Decrypt a block.

        Errors: EnvelopeUnopened when key, heading, block or place are not those it was sealed with.
        """
        nonce = heading.nonce_prefix + struct.pack(">Q", block.serial)
        try:
            return self._cipher.decrypt(nonce, sealed, block.associated(_digest(heading)))
        except (InvalidTag, ValueError):
            subject = f"block {block.number} of the draft {heading.recording_id}"
            raise EnvelopeUnopened(subject=subject, reason="another key, or it was altered") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptKey:
    """What a process must know to go on with a key; for its memory only."""

    key: bytes = field(repr=False)
    nonce_prefix: bytes
    turn: int = 0  # how many processes had it before


class DraftKey(BlockOpener):
    """The content key of one recording's draft; made here, never written to a disk but wrapped.

    Thread: any.
    """

    def __init__(self, recipients: Encrypts) -> None:
        key = os.urandom(KEY_BYTES)
        super().__init__(key)
        self.wrapped = b"".join(recipients.encrypt([key], content_bytes=KEY_BYTES))
        self._begin(KeptKey(key=key, nonce_prefix=os.urandom(4)))

    @classmethod
    def go_on(cls, kept: KeptKey) -> DraftKey:
        """Go on with a key that another process has left; ``turn`` is one that no process had before.

        It stands wrapped already. Errors: ValueError when it is none.
        """
        draft_key = cls.__new__(cls)
        BlockOpener.__init__(draft_key, kept.key)
        draft_key.wrapped = b""
        draft_key._begin(kept)
        return draft_key

    def _begin(self, kept: KeptKey) -> None:
        self.kept = kept
        self._nonce_prefix = kept.nonce_prefix
        self._serials = itertools.count((kept.turn << _TURN_BITS) + 1)

    def heading(self, *, recording_id: str, head_bytes: int, frame_bytes: int, silence: int) -> Heading:
        """Begin a container; each has an id of its own."""
        return Heading(
            recording_id=recording_id,
            container_id=os.urandom(16),
            nonce_prefix=self._nonce_prefix,
            head_bytes=head_bytes,
            frame_bytes=frame_bytes,
            silence=silence,
        )

    def seal(
        self, heading: Heading, block: Block, plain: bytes | bytearray | memoryview
    ) -> tuple[Block, bytes]:
        """Encrypt a block's content under a serial of its own; the block as it is now, and all its octets.

        Errors: ValueError when the content is not as long as the block says.
        """
        if len(plain) != block.length or heading.nonce_prefix != self._nonce_prefix:
            raise ValueError("another length, or another recording's heading")
        block = replace(block, serial=next(self._serials))
        nonce = heading.nonce_prefix + struct.pack(">Q", block.serial)
        associated = block.associated(_digest(heading))
        return block, block.encode() + self._cipher.encrypt(nonce, bytes(plain), associated)

    def seal_note(self, plain: bytes, *, about: bytes) -> bytes:
        """Encrypt what a process that goes on with the key is to know; it opens beside ``about`` only."""
        serial = struct.pack(">Q", next(self._serials))
        return serial + self._cipher.encrypt(self._nonce_prefix + serial, plain, _NOTE_LABEL + about)

    def open_note(self, sealed: bytes, *, about: bytes) -> bytes:
        """Decrypt a note. Errors: EnvelopeUnopened."""
        try:
            nonce = self._nonce_prefix + sealed[:8]
            return self._cipher.decrypt(nonce, sealed[8:], _NOTE_LABEL + about)
        except (InvalidTag, ValueError):
            raise EnvelopeUnopened(subject="a note", reason="another key, or it was altered") from None
