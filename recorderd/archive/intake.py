"""One upload at the archive: a table and a reducer, no I/O.

Rule: only this table moves an upload. Files come in the order of the offer, each from its first missing
byte; a chunk that does not fit changes nothing. A broken one is answered with where we stand; of a run of
displaced ones only the first is, for they are one window in flight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from recorderd.core.errors import RecorderError
from recorderd.wire.frames import OfferedFile


class State(Enum):
    """Where an upload stands."""

    OFFERED = "offered"
    RECEIVING = "receiving"
    VERIFYING = "verifying"
    ARCHIVED = "archived"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsFound:
    """What stands on disk already, per offered file."""

    sizes_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRepeated:
    """The recorder asks where we stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkArrived:
    """A chunk came; ``intact`` tells whether its payload has the digest it names."""

    name: str
    offset_bytes: int
    size_bytes: int
    intact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMatched:
    """The current file is whole and has the offered digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDiffers:
    """The current file is whole and has another digest."""

    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllFilesMatched:
    """Every offered file is whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleArchived:
    """Verified, published and committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRefused:
    """The upload is not to be archived."""

    code: str
    reason: str
    retryable: bool


Event = (
    PartsFound
    | OfferRepeated
    | ChunkArrived
    | FileMatched
    | FileDiffers
    | AllFilesMatched
    | BundleArchived
    | BundleRefused
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPart:
    """Begin or resume a file; what stands of it is hashed again before it counts."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteChunk:
    """Append the chunk that just arrived."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFile:
    """Compare the current file's digest with the offered one; of the last file, once all were read back."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPart:
    """Empty the current part: what stood on disk was not what it should be."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveCredit:
    """Tell the recorder where we stand."""

    name: str
    offset_bytes: int
    rewind: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Verify the bundle; then publish, commit, and send the receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Tell the recorder no; set the upload aside unless it may be offered again."""

    code: str
    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteMalformed:
    """Count and log a chunk that does not fit."""

    reason: str


Effect = OpenPart | WriteChunk | CheckFile | RestartPart | GiveCredit | Verify | Refuse | NoteMalformed

EDGES: Final[dict[tuple[State, type[Event]], State]] = {
    (State.OFFERED, PartsFound): State.RECEIVING,
    (State.RECEIVING, OfferRepeated): State.RECEIVING,
    (State.RECEIVING, ChunkArrived): State.RECEIVING,
    (State.RECEIVING, FileMatched): State.RECEIVING,
    (State.RECEIVING, FileDiffers): State.RECEIVING,
    (State.RECEIVING, AllFilesMatched): State.VERIFYING,
    (State.RECEIVING, BundleRefused): State.REJECTED,
    (State.VERIFYING, OfferRepeated): State.VERIFYING,
    (State.VERIFYING, ChunkArrived): State.VERIFYING,  # came twice
    (State.VERIFYING, BundleRefused): State.REJECTED,
    (State.VERIFYING, BundleArchived): State.ARCHIVED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """One upload."""

    recording_id: str
    files: tuple[OfferedFile, ...]
    state: State = State.OFFERED
    found_bytes: tuple[int, ...] = ()  # of each file, when the upload was taken up
    position: int = 0  # of the current file
    offset_bytes: int = 0  # how much of it stands
    resumed: bool = False  # a part of the current file was found on disk
    rewind_told: bool = False  # since the last chunk that fitted

    @property
    def current(self) -> OfferedFile:
        """The file that is being received."""
        return self.files[self.position]


def step(intake: Intake, event: Event) -> tuple[Intake, tuple[Effect, ...]]:
    """Move an upload by one event.

    Errors: RecorderError when the table has no such edge, which is a fault of this program.
    """
    target = EDGES.get((intake.state, type(event)))
    if target is None:
        raise RecorderError(reason=f"upload in {intake.state.value} met {type(event).__name__}")
    moved = replace(intake, state=target)
    match event:
        case PartsFound(sizes_bytes=sizes_bytes):
            return _begin(replace(moved, found_bytes=sizes_bytes), 0)
        case OfferRepeated():
            return moved, (_credit(moved, rewind=intake.state is State.RECEIVING),)
        case ChunkArrived():
            return _take(moved, event) if intake.state is State.RECEIVING else (moved, ())
        case FileMatched():
            if intake.position + 1 == len(intake.files):
                return step(moved, AllFilesMatched())
            return _begin(moved, intake.position + 1)
        case FileDiffers(sha256=sha256):
            return _differs(moved, sha256)
        case AllFilesMatched():
            return moved, (_credit(moved, rewind=False), Verify())
        case BundleRefused(code=code, reason=reason, retryable=retryable):
            return moved, (Refuse(code=code, reason=reason, retryable=retryable),)
        case BundleArchived():
            return moved, ()


def _begin(intake: Intake, position: int) -> tuple[Intake, tuple[Effect, ...]]:
    """Turn to a file; one that is whole already is checked at once.

    Where nothing of it stands, what is sent beyond its beginning by now is on its way.
    """
    entry, found_bytes = intake.files[position], intake.found_bytes[position]
    too_long = found_bytes > entry.size_bytes
    offset_bytes = 0 if too_long else found_bytes
    begun = replace(
        intake,
        position=position,
        offset_bytes=offset_bytes,
        resumed=offset_bytes > 0,
        rewind_told=False,
    )
    opening: tuple[Effect, ...] = (OpenPart(name=entry.name),)
    if too_long:
        opening = (*opening, RestartPart(name=entry.name))
    if offset_bytes == entry.size_bytes:
        return begun, (*opening, CheckFile(name=entry.name, sha256=entry.sha256))
    return begun, (*opening, _credit(begun, rewind=found_bytes > 0 or position == 0))


def _take(intake: Intake, chunk: ChunkArrived) -> tuple[Intake, tuple[Effect, ...]]:
    entry = intake.current
    if chunk.name != entry.name:
        names = [row.name for row in intake.files]
        if chunk.name in names[: intake.position]:
            return intake, ()  # came twice
        other = chunk.name if chunk.name in names else "a file never offered"
        return _displaced(intake, f"{entry.name} is due, not {other}")
    end_bytes = chunk.offset_bytes + chunk.size_bytes
    if end_bytes > entry.size_bytes or chunk.size_bytes == 0:
        piece = f"{chunk.offset_bytes} to {end_bytes} of {entry.size_bytes} bytes"
        return _broken(intake, f"{chunk.name}: {piece}")
    if not chunk.intact:
        return _broken(intake, f"{chunk.name}: the chunk at {chunk.offset_bytes} is not what it says")
    if end_bytes <= intake.offset_bytes:
        return intake, ()  # came twice
    if chunk.offset_bytes != intake.offset_bytes:
        return _displaced(intake, f"{chunk.name}: {intake.offset_bytes} is due, not {chunk.offset_bytes}")
    taken = replace(intake, offset_bytes=end_bytes, rewind_told=False)
    if end_bytes == entry.size_bytes:
        return taken, (WriteChunk(), CheckFile(name=entry.name, sha256=entry.sha256))
    return taken, (WriteChunk(), _credit(taken, rewind=False))


def _broken(intake: Intake, reason: str) -> tuple[Intake, tuple[Effect, ...]]:
    return replace(intake, rewind_told=True), (NoteMalformed(reason=reason), _credit(intake, rewind=True))


def _displaced(intake: Intake, reason: str) -> tuple[Intake, tuple[Effect, ...]]:
    if intake.rewind_told:
        return intake, (NoteMalformed(reason=reason),)
    return _broken(intake, reason)


def _differs(intake: Intake, sha256: str) -> tuple[Intake, tuple[Effect, ...]]:
    entry = intake.current
    if not intake.resumed:
        reason = f"{entry.name} has digest {sha256}, the offer says {entry.sha256}"
        return step(intake, BundleRefused(code="digest", reason=reason, retryable=False))
    fresh = replace(intake, offset_bytes=0, resumed=False)
    return fresh, (RestartPart(name=entry.name), _credit(fresh, rewind=True))


def _credit(intake: Intake, *, rewind: bool) -> GiveCredit:
    return GiveCredit(name=intake.current.name, offset_bytes=intake.offset_bytes, rewind=rewind)
