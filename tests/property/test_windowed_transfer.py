"""A windowed transfer over a channel that loses, repeats and reorders: every byte arrives once, in place."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.archive import intake as i
from recorderd.flush import delivery as d
from recorderd.wire import frames as f
from recorderd.wire.names import required_names

ID = "20261123T062236-5f3c9a1e77d0"
SIZES = (30, 0, 10, 5, 100)
NAMES = required_names(ID, audio=f"20261123062236-1-2-internal-{ID}.wav")
CONTENTS = {name: random.Random(name).randbytes(size) for name, size in zip(NAMES, SIZES, strict=True)}
FILES = tuple(
    f.OfferedFile(name=name, size_bytes=len(content), sha256="0" * 64) for name, content in CONTENTS.items()
)
ToArchive = d.SendOffer | d.SendChunk
RETRY_NS = 5


@dataclass
class Archive:
    """The archive's table with parts in memory."""

    parts: dict[str, bytearray] = field(default_factory=dict)
    intake: i.Intake | None = None
    verified: int = 0

    def hear(self, message: ToArchive) -> list[f.Credit]:
        """Take a message; answer with credits."""
        if isinstance(message, d.SendOffer):
            if self.intake is not None:
                return self._apply(i.OfferRepeated(), b"")
            self.intake = i.Intake(recording_id=ID, files=FILES)
            return self._apply(i.PartsFound(sizes_bytes=(0,) * len(FILES)), b"")
        if self.intake is None:
            return []
        payload = CONTENTS[message.name][message.offset_bytes :][: message.size_bytes]
        event = i.ChunkArrived(
            name=message.name, offset_bytes=message.offset_bytes, size_bytes=len(payload), intact=True
        )
        return self._apply(event, payload)

    def _apply(self, event: i.Event, payload: bytes) -> list[f.Credit]:
        assert self.intake is not None
        answers, waiting = [], [event]
        while waiting:
            self.intake, effects = i.step(self.intake, waiting.pop(0))
            for effect in effects:
                match effect:
                    case i.OpenPart(name=name):
                        self.parts[name] = bytearray()
                    case i.WriteChunk():
                        self.parts[self.intake.current.name] += payload
                    case i.CheckFile(name=name):
                        assert bytes(self.parts[name]) == CONTENTS[name]
                        waiting.append(i.FileMatched())
                    case i.GiveCredit():
                        answers.append(
                            f.Credit(
                                recording_id=ID,
                                name=effect.name,
                                offset_bytes=effect.offset_bytes,
                                window_chunks=0,
                                rewind=effect.rewind,
                            )
                        )
                    case i.Verify():
                        self.verified += 1
        return answers


class Transfer:
    """Both tables and what is on its way between them."""

    def __init__(self, chance: random.Random, *, lost: int = 0) -> None:
        self.chance = chance
        self.lost = lost  # the number of the chunk that never arrives; 0 = all do
        self.offers = self.chunks = 0
        self.archive = Archive()
        self.delivery = d.Delivery(recording_id=ID, files=FILES, chunk_bytes=8)
        self.there: list[ToArchive] = []
        self.back: list[f.Credit] = []

    def tell(self, event: d.Event) -> None:
        self.delivery, effects = d.step(self.delivery, event, now_ns=0)
        for row in effects:
            self.offers += isinstance(row, d.SendOffer)
            self.chunks += isinstance(row, d.SendChunk)
            if isinstance(row, d.SendOffer) or (isinstance(row, d.SendChunk) and self.chunks != self.lost):
                self.there.append(row)

    def turn(self, *, bad: bool) -> None:
        """Let one thing happen."""
        if self.delivery.state is d.State.WAITING:
            self.tell(d.RetryDue())
        if self.delivery.state is d.State.READY:
            self.tell(d.Offered(windowed=True))
        can_send = self.delivery.state is d.State.SENDING and self.delivery.unsent_bytes
        if can_send and self.chance.random() < 0.5:
            self.tell(d.RoomGiven(size_bytes=self.chance.randint(1, 12)))
        elif self.there or self.back:
            self._pass(bad=bad)
        elif not can_send:
            self.tell(d.LinkLost())  # silence, as a lost message leaves it

    def _pass(self, *, bad: bool) -> None:
        queue: list[ToArchive] | list[f.Credit] = self.there
        if not self.there or (self.back and self.chance.random() < 0.5):
            queue = self.back
        at = self.chance.randrange(len(queue)) if bad else 0
        message = queue[at]
        fate = self.chance.random() if bad else 1.0
        if fate >= 0.2:  # else it comes once more later
            del queue[at]
        if fate >= 0.9 and bad:
            return  # lost
        if isinstance(message, f.Credit):
            event = d.credit_event(self.delivery, message, retry_ns=RETRY_NS)
            assert event is not None
            self.tell(event)
        else:
            self.back += self.archive.hear(message)


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_every_byte_arrives_once_whatever_the_channel_does(seed: int) -> None:
    transfer = Transfer(random.Random(seed))
    for _ in range(300):
        transfer.turn(bad=True)
    transfer.there.clear()
    transfer.back.clear()
    for _ in range(2000):
        if transfer.delivery.state is d.State.AWAITING:
            break
        transfer.turn(bad=False)
    assert transfer.delivery.state is d.State.AWAITING
    assert transfer.archive.verified == 1
    assert {name: bytes(part) for name, part in transfer.archive.parts.items()} == CONTENTS


@pytest.mark.parametrize("lost", range(15))
def test_a_lost_chunk_that_others_follow_is_sent_again_without_a_second_offer(lost: int) -> None:
    transfer, turns = Transfer(random.Random(0), lost=lost), 0
    while transfer.delivery.state is not d.State.AWAITING:
        transfer.turn(bad=False)
        turns += 1
        assert turns < 300
    assert transfer.offers == 1 and transfer.chunks > lost
    assert transfer.archive.verified == 1
