"""What recorder and archive tell each other on the flush link.

Rule: every message may be lost or come twice; none of them means anything without the state on disk.

    recorder                         archive
    Hello          ──────────────▶
                   ◀──────────────   Welcome | Unwelcome
    Offer          ──────────────▶
                   ◀──────────────   Credit (where to begin, how many chunks) | ReceiptMessage | Refused
    Chunk+payload  ──────────────▶
                   ◀──────────────   Credit (how far it stands; `rewind` = send again from there)
                   ◀──────────────   ReceiptMessage+payload | Refused
    HeadOffer+payload ───────────▶
                   ◀──────────────   HeadAnswer
    Deposit+payload ─────────────▶
                   ◀──────────────   Deposited (held, or why not)
    Ping           ──────────────▶
                   ◀──────────────   Pong

Version 2 knows heads; an archive still welcomes version 1, so upgrade the archive first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from recorderd.wire.names import manifest_name

PROTOCOL_VERSION: Final = 2
PROTOCOLS: Final = (1, 2)  # that an archive welcomes
HEADS_SINCE: Final = 2
CHUNK_LIMIT_BYTES: Final = 4 << 20  # the largest archive.chunk_bytes that a configuration may name
FILES_LIMIT: Final = (
    10_007  # what a manifest may list (10,000), itself, two signatures, a certificate, stamps
)
HEADER_LIMIT_BYTES: Final = 4 << 20  # an offer of FILES_LIMIT files with the longest names takes 3 MiB
RECEIPT_LIMIT_BYTES: Final = 4 << 20  # a receipt lists the files of an offer once more
DEPOSIT_LIMIT_BYTES: Final = 4 << 20  # a batch of LEAVES_LIMIT hashes
MESSAGE_LIMIT_BYTES: Final = CHUNK_LIMIT_BYTES  # of one frame, for the socket's own limit
WINDOW_LIMIT_CHUNKS: Final = 1024  # 4 GiB in flight of the largest chunks; nobody needs more
REASON_LIMIT: Final = 1000  # characters of a refusal's reason; people read it
DEPOSIT_NAME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z(-[0-9]{1,4})?\.(json|tsr)")  # a batch, its stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The recorder introduces itself once the encrypted link stands."""

    recorder_id: str
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The archive will take offers."""

    archive_id: str
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwelcome:
    """The archive will not take offers on this link."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedFile:
    """One file of an offered recording."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A sealed recording waits; the files come in this order."""

    recording_id: str
    files: tuple[OfferedFile, ...]

    @property
    def manifest_sha256(self) -> str:
        """Digest of the offered manifest."""
        wanted = manifest_name(self.recording_id)
        return next(entry.sha256 for entry in self.files if entry.name == wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """The archive holds ``name`` up to ``offset_bytes`` and takes ``window_chunks`` more from there.

    It is no promise of durability: only a receipt is.
    """

    recording_id: str
    name: str
    offset_bytes: int
    window_chunks: int
    rewind: bool  # what was sent beyond offset_bytes is lost: send it again


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of one file."""

    recording_id: str
    name: str
    offset_bytes: int
    sha256: str  # of the payload
    payload: bytes | memoryview = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptMessage:
    """The recording is archived; ``receipt`` is the signed document (see wire/receipt.py)."""

    recording_id: str
    receipt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The archive does not take a recording, for now or for good."""

    recording_id: str
    code: str
    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOffer:
    """A signed head of the recorder's chain (see wire/chain_head.py)."""

    document: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAnswer:
    """Whether the archive keeps the head with this digest of its document; if not, it may be sent again."""

    sha256: str
    kept: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """A small file of the recorder's that belongs to no single recording: a batch of time stamps.

    An archive that is older than this message does not answer; the recorder keeps the file and asks again.
    """

    name: str
    sha256: str  # of the payload
    payload: bytes | memoryview = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposited:
    """The archive holds that very file; or not, and why."""

    name: str
    sha256: str
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Are you there?"""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """I am."""

    number: int


FlushMessage = (
    Hello
    | Welcome
    | Unwelcome
    | Offer
    | Credit
    | Chunk
    | ReceiptMessage
    | Refused
    | HeadOffer
    | HeadAnswer
    | Deposit
    | Deposited
    | Ping
    | Pong
)
