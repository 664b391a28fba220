"""One recording on its way to the archive: a table and a reducer, no I/O.

Rule: only this table moves a delivery. Only ARCHIVED, which only a verified receipt reaches, permits the
release of the local copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import RecorderError
from recorderd.wire.frames import Credit, OfferedFile

STALL_NS: Final = 30 * NS_PER_S  # the archive hashes a ten-hour recording once more in less than 10 s
REWINDS_LIMIT: Final = 8  # so often without progress, and the recording waits


class State(Enum):
    """Where a claimed recording stands."""

    READY = "ready"
    OFFERED = "offered"
    SENDING = "sending"
    AWAITING = "awaiting"  # everything was acknowledged; the receipt is due
    WAITING = "waiting"  # for the time of the next attempt
    ARCHIVED = "archived"  # a verified receipt is stored; the local grace runs
    RELEASED = "released"
    REJECTED = "rejected"  # to quarantine


ACTIVE: Final = frozenset({State.OFFERED, State.SENDING, State.AWAITING})
OPEN: Final = ACTIVE | {State.READY, State.WAITING}
FINAL: Final = frozenset({State.RELEASED, State.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """It is this recording's turn."""

    windowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditGranted:
    """The archive takes chunks."""

    credit: Credit


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomGiven:
    """The window has room for so much of this recording."""

    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllChunksAcked:
    """The archive holds every byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptVerified:
    """A receipt's signature and digests were checked."""

    receipt: bytes
    keep_ns: int  # how long the local copy stays


@dataclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """Try again later: refused for now, or a receipt that does not hold."""

    retry_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDue:
    """The wait is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedForGood:
    """The archive will never take it, or the local copy is broken."""

    reason: str
    by_archive: bool = False  # others may take it


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLost:
    """The link is gone, or the archive fell silent about this recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraceOver:
    """The local copy is no longer wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectFailed:
    """The disk refused to store the receipt, to release or to quarantine."""

    retry_ns: int


Event = (
    Offered
    | CreditGranted
    | RoomGiven
    | AllChunksAcked
    | ReceiptVerified
    | Postponed
    | RetryDue
    | RejectedForGood
    | LinkLost
    | GraceOver
    | EffectFailed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOffer:
    """Offer it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendChunk:
    """Send a piece of a file."""

    name: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreReceipt:
    """Keep the verified receipt beside the recording."""

    receipt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Delete the local copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Set the recording aside."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """This archive is not to have it; what becomes of it is up to what the others say."""

    reason: str


Effect = SendOffer | SendChunk | StoreReceipt | Release | Quarantine | GiveUp

EDGES: Final[dict[tuple[State, type[Event]], State]] = {
    (State.READY, Offered): State.OFFERED,
    (State.OFFERED, CreditGranted): State.SENDING,
    (State.SENDING, CreditGranted): State.SENDING,
    (State.SENDING, RoomGiven): State.SENDING,
    (State.AWAITING, CreditGranted): State.SENDING,  # the archive lost a part and asks again
    (State.OFFERED, AllChunksAcked): State.AWAITING,
    (State.SENDING, AllChunksAcked): State.AWAITING,
    **{(state, ReceiptVerified): State.ARCHIVED for state in OPEN},  # also one from before a restart
    **{(state, Postponed): State.WAITING for state in OPEN},
    **{(state, RejectedForGood): State.REJECTED for state in OPEN},
    **{(state, LinkLost): State.READY for state in ACTIVE},  # offered again; the archive knows its state
    (State.WAITING, RetryDue): State.READY,
    (State.ARCHIVED, GraceOver): State.RELEASED,
    (State.ARCHIVED, EffectFailed): State.WAITING,  # the archive gives the same receipt once more
    (State.RELEASED, EffectFailed): State.ARCHIVED,
    (State.REJECTED, EffectFailed): State.WAITING,
}
# Late or repeated messages that mean nothing any more.
IGNORED: Final[frozenset[tuple[State, type[Event]]]] = frozenset(
    {
        *((state, CreditGranted) for state in (State.READY, State.WAITING, State.ARCHIVED)),
        *((state, AllChunksAcked) for state in (State.READY, State.WAITING, State.AWAITING, State.ARCHIVED)),
        *((state, LinkLost) for state in (State.READY, State.WAITING, State.ARCHIVED)),
        *((state, EffectFailed) for state in OPEN),  # of an effect that is wanted no more
        *((State.ARCHIVED, kind) for kind in (ReceiptVerified, Postponed, RejectedForGood)),
        *((state, kind) for state in FINAL for kind in (CreditGranted, AllChunksAcked, ReceiptVerified)),
        *((state, kind) for state in FINAL for kind in (Postponed, RejectedForGood, LinkLost)),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One claimed recording."""

    recording_id: str
    files: tuple[OfferedFile, ...]
    chunk_bytes: int
    windowed: bool = False  # chunks go out as the link's window has room, not as each credit says
    state: State = State.READY
    name: str = ""  # the file that is being sent
    acked_bytes: int = 0  # of that file
    next_bytes: int = 0  # where the next chunk begins
    held_bytes: int = 0  # acknowledged of all files, where it is windowed
    sent_bytes: int = 0  # of all files
    rewinds: int = 0  # without progress
    heard_ns: int = 0  # when the archive last spoke of it, or we offered it
    due_ns: int = 0  # of the retry in WAITING, of the release in ARCHIVED

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size_bytes for entry in self.files)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that no chunk was made of yet, where it is windowed."""
        return self.size_bytes - self.sent_bytes


def step(delivery: Delivery, event: Event, *, now_ns: int) -> tuple[Delivery, tuple[Effect, ...]]:
    """Move a delivery by one event.

    Errors: RecorderError when the table has no such edge, which is a fault of this program.
    """
    edge = (delivery.state, type(event))
    if edge in IGNORED:
        return delivery, ()
    target = EDGES.get(edge)
    if target is None:
        raise RecorderError(reason=f"delivery in {delivery.state.value} met {type(event).__name__}")
    moved = replace(delivery, state=target, heard_ns=now_ns)
    match event:
        case Offered(windowed=windowed):
            fresh = replace(moved, name="", acked_bytes=0, next_bytes=0, rewinds=0)
            return replace(fresh, windowed=windowed, held_bytes=0, sent_bytes=0), (SendOffer(),)
        case CreditGranted(credit=credit) if delivery.windowed:
            return _hold(delivery, moved, credit), ()
        case CreditGranted(credit=credit):
            return _send(delivery, moved, credit)
        case RoomGiven(size_bytes=size_bytes):
            return _fill(delivery, moved, size_bytes)
        case ReceiptVerified(receipt=receipt, keep_ns=keep_ns):
            return replace(moved, due_ns=now_ns + keep_ns), (StoreReceipt(receipt=receipt),)
        case Postponed(retry_ns=retry_ns) | EffectFailed(retry_ns=retry_ns):
            return replace(moved, due_ns=now_ns + retry_ns), ()
        case RejectedForGood(reason=reason, by_archive=by_archive):
            return moved, (GiveUp(reason=reason) if by_archive else Quarantine(reason=reason),)
        case GraceOver():
            return moved, (Release(),)
        case _:
            return moved, ()


def is_owed(delivery: Delivery) -> bool:
    """Tell whether the archive is to say something of it; one that waits for room in the window is not."""
    waits = delivery.windowed and delivery.state is State.SENDING
    return delivery.state in ACTIVE and not (waits and delivery.sent_bytes <= delivery.held_bytes)


def due_event(delivery: Delivery, *, now_ns: int) -> Event | None:
    """Tell which event the passing of time has brought, if any."""
    if is_owed(delivery) and now_ns - delivery.heard_ns > STALL_NS:
        return LinkLost()
    if delivery.state is State.WAITING and now_ns >= delivery.due_ns:
        return RetryDue()
    if delivery.state is State.ARCHIVED and now_ns >= delivery.due_ns:
        return GraceOver()
    return None


def credit_event(delivery: Delivery, credit: Credit, *, retry_ns: int) -> Event | None:
    """Tell what a credit means for this delivery; None when it fits no file of it."""
    entry = next((entry for entry in delivery.files if entry.name == credit.name), None)
    if entry is None or credit.offset_bytes > entry.size_bytes:
        return None
    if entry == delivery.files[-1] and credit.offset_bytes == entry.size_bytes:
        return AllChunksAcked()
    if credit.rewind and delivery.rewinds >= REWINDS_LIMIT:
        return Postponed(retry_ns=retry_ns)
    return CreditGranted(credit=credit)


def _hold(before: Delivery, moved: Delivery, credit: Credit) -> Delivery:
    """Note how far the archive stands, over all files."""
    held_bytes = credit.offset_bytes
    for entry in before.files:
        if entry.name == credit.name:
            break
        held_bytes += entry.size_bytes
    progress = before.name == "" or held_bytes > before.held_bytes
    sent_bytes = held_bytes if credit.rewind else max(before.sent_bytes, held_bytes)
    return replace(
        moved,
        name=credit.name,
        acked_bytes=credit.offset_bytes,
        held_bytes=held_bytes if credit.rewind else max(before.held_bytes, held_bytes),
        sent_bytes=sent_bytes,
        rewinds=0 if progress else before.rewinds + credit.rewind,
    )


def _fill(before: Delivery, moved: Delivery, room_bytes: int) -> tuple[Delivery, tuple[Effect, ...]]:
    """Send the next piece, which ends with its file at the latest."""
    begins = 0
    for entry in before.files:
        offset_bytes = before.sent_bytes - begins
        if offset_bytes < entry.size_bytes:
            break
        begins += entry.size_bytes
    else:
        return before, ()
    size_bytes = min(before.chunk_bytes, room_bytes, entry.size_bytes - offset_bytes)
    was_owed = before.sent_bytes > before.held_bytes
    moved = replace(
        moved,
        sent_bytes=before.sent_bytes + size_bytes,
        heard_ns=before.heard_ns if was_owed else moved.heard_ns,  # the wait begins with what is not answered
    )
    return moved, (SendChunk(name=entry.name, offset_bytes=offset_bytes, size_bytes=size_bytes),)


def _send(before: Delivery, moved: Delivery, credit: Credit) -> tuple[Delivery, tuple[Effect, ...]]:
    size_bytes = next(entry.size_bytes for entry in before.files if entry.name == credit.name)
    fresh = credit.name != before.name
    progress = fresh or credit.offset_bytes > before.acked_bytes
    first_bytes = credit.offset_bytes
    if not (fresh or credit.rewind):
        first_bytes = max(before.next_bytes, credit.offset_bytes)
    end_bytes = min(size_bytes, credit.offset_bytes + credit.window_chunks * before.chunk_bytes)
    offsets = range(first_bytes, end_bytes, before.chunk_bytes)
    effects = tuple(
        SendChunk(
            name=credit.name, offset_bytes=offset, size_bytes=min(before.chunk_bytes, size_bytes - offset)
        )
        for offset in offsets
    )
    rewinds = 0 if progress else before.rewinds + credit.rewind
    sent_bytes = effects[-1].offset_bytes + effects[-1].size_bytes if effects else first_bytes
    return (
        replace(
            moved,
            name=credit.name,
            acked_bytes=credit.offset_bytes,
            next_bytes=sent_bytes,
            rewinds=rewinds,
        ),
        effects,
    )
