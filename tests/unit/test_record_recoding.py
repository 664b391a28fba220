"""Signalling agrees on other codecs within a call: what was under way by then is heard to its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recorderd.core.ids import SessionId, StreamId
from recorderd.core.messages import Codec, Encoding, StreamRecoded
from recorderd.wire.manifest import StreamEntry
from tests.support import g711_reference
from tests.support.bundles import make_signer
from tests.support.rtp_sender import RtpStream
from tests.support.studio import EVENT_PAYLOAD_TYPE, PCMA, Studio

GSM = Codec(payload_type=3, encoding=Encoding.GSM, clock_rate_hz=8_000)
G729 = Codec(payload_type=18, encoding=Encoding.G729, clock_rate_hz=8_000)
PCMU = Codec(payload_type=0, encoding=Encoding.PCMU, clock_rate_hz=8_000)
L16 = Codec(payload_type=97, encoding=Encoding.L16, clock_rate_hz=16_000)
STREAM = StreamId("s/1")


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


def _recode(studio: Studio, session: SessionId, *codecs: Codec) -> None:
    slot = studio.tap.slots[STREAM]
    studio.tap.intake.table.set_codecs(slot, codecs=codecs, event_payload_types=[EVENT_PAYLOAD_TYPE])
    studio.put(StreamRecoded(session=session, stream=STREAM, codecs=codecs), ms=studio.now_ms)


def _entry(studio: Studio) -> StreamEntry:
    return next(row for row in studio.manifest("s").streams if row.stream == STREAM)


@pytest.mark.parametrize("codecs", [(PCMA,), (PCMA, GSM, G729)])
@pytest.mark.parametrize("recoded_ms", [1900, 2000])
def test_a_packet_that_was_read_in_part_is_read_to_its_end(
    studio: Studio, codecs: tuple[Codec, ...], recoded_ms: int
) -> None:
    session = studio.session("s")
    voice = studio.voice(session, STREAM, first_ms=7, packets=150, codecs=(PCMA, GSM))
    studio.end(session, ms=3007)
    studio.run(recoded_ms)
    _recode(studio, session, *codecs)
    studio.run(6000)
    heard = studio.samples("s")[:, 0]
    assert np.array_equal(heard, voice.into(np.zeros(heard.size, dtype=np.int16)))
    assert [gap.cause for gap in _entry(studio).gaps] == ["before_first"]


def test_what_came_by_a_codec_that_is_given_up_again_is_decoded(studio: Studio) -> None:
    session = studio.session("s")
    studio.tap.open(STREAM, [GSM])
    studio.put(studio.opened(session, STREAM, ms=0, codecs=(GSM,)), ms=0)
    payload = np.random.default_rng(1).bytes(160 * 50)
    sender = RtpStream(port=0, payload_type=PCMA.payload_type, payload=payload)
    for number in range(50):
        studio.arrive(STREAM, sender.packet(number), ms=1000 + 20 * number)
    studio.end(session, ms=3000)
    studio.run(900)
    _recode(studio, session, PCMA)
    studio.run(2000)
    _recode(studio, session, GSM)
    studio.run(6000)
    heard = studio.samples("s")[8_000:16_000, 0]
    assert np.array_equal(heard, g711_reference.decode(payload, law="PCMA"))


def test_a_filter_that_looks_ahead_goes_on(studio: Studio) -> None:
    session = studio.session("s")
    studio.voice(session, "s/2", first_ms=0, packets=150, codec=L16)
    studio.voice(session, STREAM, first_ms=0, packets=150)
    studio.end(session, ms=3000)
    studio.run(2000)
    _recode(studio, session, PCMU, PCMA)
    studio.run(6000)
    assert _entry(studio).gaps == ()
