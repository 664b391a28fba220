"""What recorder and archive tell each other on the flush link.

Rule: every message may be lost or come twice; none of them means anything without the state on disk.

    recorder                         archive
    Hello          ──────────────▶
                   ◀──────────────   Welcome | Unwelcome
                   ◀──────────────   Allowance (how much it takes at present, and why no more), from 3 on
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
    Farewell       ──────────────▶   (the recorder stops, and why), from 3 on

Version 2 knows heads. Version 3 has one window of octets over all recordings in flight, whose files
follow each other without a question in between; chunks without a digest of their own (the link's cipher
authenticates them, the offer's digests decide), or compressed; and ends that tell each other of power, room
and clock. An archive still welcomes versions 1 and 2, so upgrade the archive first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from recorderd.wire.names import index_name, manifest_name

PROTOCOL_VERSION: Final = 3
PROTOCOLS: Final = (1, 2, 3)  # that an archive welcomes
HEADS_SINCE: Final = 2
WINDOWS_SINCE: Final = 3
CHUNK_LIMIT_BYTES: Final = 4 << 20  # the largest archive.chunk_bytes that a configuration may name
FILES_LIMIT: Final = (
    10_012  # what a manifest may list (10,000), itself, an index, signatures, a certificate, stamps
)
HEADER_LIMIT_BYTES: Final = 4 << 20  # an offer of FILES_LIMIT files with the longest names takes 3 MiB
RECEIPT_LIMIT_BYTES: Final = 4 << 20  # a receipt lists the files of an offer once more
DEPOSIT_LIMIT_BYTES: Final = 4 << 20  # a batch of LEAVES_LIMIT hashes
MESSAGE_LIMIT_BYTES: Final = CHUNK_LIMIT_BYTES  # of one frame, for the socket's own limit
WINDOW_LIMIT_CHUNKS: Final = 1024  # 4 GiB in flight of the largest chunks; nobody needs more
RECORDINGS_LIMIT: Final = 1024  # in flight of one recorder; nobody needs more
WINDOW_LIMIT_BYTES: Final = 1 << 30
PACKINGS_LIMIT: Final = 8
ZSTD: Final = "zstd"  # RFC 8878, one frame per chunk
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
class Allowance:
    """How much the archive takes at present, over all recordings; told anew whenever it changes.

    With ``reason`` it takes nothing for now: what is in flight may end, nothing else is to be offered.
    """

    recordings: int  # in flight at a time
    window_bytes: int  # sent and not yet acknowledged, of all of them
    reason: str = ""
    packings: tuple[str, ...] = ()  # that it can undo


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
    def statement(self) -> OfferedFile:
        """What says of the recording what it is: its manifest, or where that is encrypted, its index."""
        files = {entry.name: entry for entry in self.files}
        index = files.get(index_name(self.recording_id))
        return index or files[manifest_name(self.recording_id)]


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
    sha256: str = ""  # of the payload; always there before version 3
    packing: str = ""  # how the payload is compressed
    size_bytes: int | None = None  # of what is in the packing
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
class HostPower:
    """How a host is fed; ``state`` is one of ``core.conditions.PowerState``."""

    state: int
    reason: str
    runtime_s: int | None = None
    charge_percent: int | None = None
    contact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What one end tells the other of itself."""

    clock_utc_ns: int
    used_permille: int  # of the disk that takes recordings, or of the spool's quota
    power: HostPower | None = None  # when it has a UPS that answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Are you there?"""

    number: int
    host: HostReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """I am."""

    number: int
    host: HostReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Farewell:
    """The recorder is about to stop; nobody answers."""

    reason: str


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
    | Allowance
    | Farewell
)
