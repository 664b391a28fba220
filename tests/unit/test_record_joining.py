"""Two calls that became one, and a party that comes twice: every sample once, none missing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from dsp.mixing import Limiter, mix
from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.messages import (
    Codec,
    Encoding,
    RecordingState,
    StreamEnd,
    StreamEnded,
    StreamHeld,
    StreamMoved,
)
from recorderd.record.resampling import Resampler
from tests.support.bundles import make_signer
from tests.support.studio import BEGIN_MONO_NS, BEGIN_UTC_NS, PCMA, Studio, Voice

MS = 1_000_000
L16 = Codec(payload_type=97, encoding=Encoding.L16, clock_rate_hz=16_000)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


def _line(*voices: Voice, ms: int, session_ms: int = 0) -> np.ndarray:
    line = np.zeros(200_000, dtype=np.int16)
    for voice in voices:
        voice.into(line, session_ms=session_ms)
    return line[: ms * 8]


def _move(
    studio: Studio,
    stream: str,
    *,
    ms: int,
    put_ms: int,
    old: str,
    new: str,
    party: str,
    codecs: tuple[Codec, ...] = (PCMA,),
) -> None:
    opened = studio.opened(
        SessionId(new), stream, ms=ms, party=party, dialog=DialogId(f"d-{stream}"), codecs=codecs
    )
    moved = StreamMoved(
        session=SessionId(new),
        from_session=SessionId(old),
        call_id=f"call-{old}",
        opened=opened,
        at_mono_ns=BEGIN_MONO_NS + ms * MS,
        at_utc_ns=BEGIN_UTC_NS + ms * MS,
    )
    studio.put(moved, ms=put_ms)


def _hold(studio: Studio, session: SessionId, stream: str, *, ms: int, held: bool) -> None:
    at_mono_ns = BEGIN_MONO_NS + ms * MS
    message = StreamHeld(session=session, stream=StreamId(stream), held=held, at_mono_ns=at_mono_ns)
    studio.put(message, ms=ms)


def _two_calls(studio: Studio) -> dict[str, Voice]:
    """Anna talks to bert in one call and to carl in another, until she leaves bert and carl to each other."""
    first, second = studio.session("s1"), studio.session("s2", ms=1000)
    return {
        "anna1": studio.voice(
            first, "s1/a", first_ms=0, packets=150, party="anna", dialog=DialogId("d-s1/a")
        ),
        "bert": studio.voice(first, "s1/b", first_ms=0, packets=300, party="bert", dialog=DialogId("d-s1/b")),
        "anna2": studio.voice(
            second, "s2/a", first_ms=1000, packets=100, party="anna", dialog=DialogId("d-s2/a")
        ),
        "carl": studio.voice(
            second, "s2/c", first_ms=1000, packets=250, party="carl", dialog=DialogId("d-s2/c")
        ),
    }


@pytest.mark.parametrize(
    ("put_ms", "absorbed_ends_ms", "looks_every_ms"),
    [*itertools.product([3000, 3400], [3100, 3400], [100, 500, 1300])],
)
def test_an_attended_transfer_has_each_sample_in_one_of_two_recordings(
    studio: Studio, put_ms: int, absorbed_ends_ms: int, looks_every_ms: int
) -> None:
    voices = _two_calls(studio)
    _move(studio, "s1/b", ms=3000, put_ms=put_ms, old="s1", new="s2", party="bert")
    studio.put(
        StreamEnded(
            session=SessionId("s1"),
            stream=StreamId("s1/b"),
            cause=StreamEnd.JOINED,
            at_mono_ns=BEGIN_MONO_NS + 3000 * MS,
        ),
        ms=put_ms,
    )
    studio.end(SessionId("s1"), ms=absorbed_ends_ms)
    studio.end(SessionId("s2"), ms=6000)
    studio.run(9000, looks_ms=range(looks_every_ms, 9001, looks_every_ms))
    old, new = studio.samples("s1"), studio.samples("s2")
    bert = _line(voices["bert"], ms=absorbed_ends_ms)
    bert[3000 * 8 :] = 0
    if absorbed_ends_ms >= put_ms:
        assert np.array_equal(old[:, 1], bert[: old.shape[0]])
        late = _line(voices["bert"], ms=5000, session_ms=1000)
        late[: 2000 * 8] = 0
        assert np.array_equal(new[:, 2], late)
    assert np.array_equal(new[:, 1], _line(voices["carl"], ms=5000, session_ms=1000))
    moved = (
        next(row for row in studio.manifest("s2").streams if row.stream == "s1/b")
        if new.shape[1] > 2
        else None
    )
    if moved is not None:
        assert (moved.moved_from, moved.gaps[0].cause) == ("s1", "before_first")
        assert StreamId("s1/b") not in studio.tap.ended


@pytest.mark.parametrize("resumed_ms", [5000, None])
def test_who_is_held_when_two_calls_become_one_is_held_in_the_recording_of_both(
    studio: Studio, resumed_ms: int | None
) -> None:
    """Anna has put bert on hold, speaks with carl, and gives bert to him."""
    first, second = studio.session("s1"), studio.session("s2", ms=1000)
    studio.voice(first, "s1/a", first_ms=0, packets=150, dialog=DialogId("d-s1/a"))
    studio.voice(first, "s1/b", first_ms=0, packets=75, party="bert", dialog=DialogId("d-s1/b"))
    studio.voice(second, "s2/c", first_ms=1000, packets=850, party="carl", dialog=DialogId("d-s2/c"))
    _hold(studio, first, "s1/b", ms=1500, held=True)
    _move(studio, "s1/b", ms=3000, put_ms=3000, old="s1", new="s2", party="bert")
    if resumed_ms is not None:
        _hold(studio, second, "s1/b", ms=resumed_ms, held=False)
    studio.end(first, ms=3100)
    end_ms = resumed_ms or 18_000  # carl speaks to the end
    studio.end(second, ms=end_ms)
    studio.run(end_ms + 3000)
    left = next(row for row in studio.manifest("s1").streams if row.stream == "s1/b")
    assert [(gap.start_samples, gap.cause) for gap in left.gaps][:1] == [(1500 * 8, "hold")]
    moved = next(row for row in studio.manifest("s2").streams if row.stream == "s1/b")
    held = [(gap.start_samples, gap.length_samples) for gap in moved.gaps if gap.cause == "hold"]
    assert held == [(2000 * 8, (end_ms - 3000) * 8)]
    assert studio.log.counters().get("stream_one_way", 0) == 0


def test_both_manifests_name_each_other(studio: Studio) -> None:
    _two_calls(studio)
    _move(studio, "s1/b", ms=3000, put_ms=3000, old="s1", new="s2", party="bert")
    studio.end(SessionId("s1"), ms=3100)
    studio.end(SessionId("s2"), ms=6000)
    studio.run(9000)
    old, new = studio.plain("s1"), studio.plain("s2")
    studio.manifest("s1")
    assert (old["joined_into"], old["end_cause"], old["call_ids"]) == ("s2", "joined", ["call-s1", "call-s2"])
    assert new["joins"] == [{"at_samples": 16_000, "call_id": "call-s1", "session": "s1"}]
    assert (new["call_ids"], new["joined_into"]) == (["call-s2", "call-s1"], "")
    assert sorted(studio.tap.released) == ["s1/a", "s1/b", "s2/a", "s2/c"]


def test_an_absorbing_session_that_ends_at_once_leaves_the_other_its_part(studio: Studio) -> None:
    voices = _two_calls(studio)
    _move(studio, "s1/b", ms=3000, put_ms=3000, old="s1", new="s2", party="bert")
    studio.end(SessionId("s2"), ms=3050)
    studio.end(SessionId("s1"), ms=5000)
    studio.run(8000, looks_ms=range(100, 8001, 100))
    bert = _line(voices["bert"], ms=3000)
    assert np.array_equal(studio.samples("s1")[: 3000 * 8, 1], bert)
    assert not studio.samples("s1")[3000 * 8 :, 1].any()
    assert studio.manifest("s1").streams[1].gaps[-1].cause == "after_last"


def test_a_pause_in_the_absorbed_session_stays_there(studio: Studio) -> None:
    voices = _two_calls(studio)
    studio.change(SessionId("s1"), RecordingState.PAUSED, ms=2000)
    _move(studio, "s1/b", ms=3000, put_ms=3000, old="s1", new="s2", party="bert")
    studio.end(SessionId("s1"), ms=3100)
    studio.end(SessionId("s2"), ms=6000)
    studio.run(9000)
    assert not studio.samples("s1")[2000 * 8 :].any()
    late = _line(voices["bert"], ms=5000, session_ms=1000)
    late[: 2000 * 8] = 0
    assert np.array_equal(studio.samples("s2")[:, 2], late)


@pytest.mark.parametrize(("codec", "others"), [(PCMA, L16), (L16, PCMA)])
def test_a_stream_that_moves_to_a_recording_of_another_rate_keeps_its_time(
    studio: Studio, codec: Codec, others: Codec
) -> None:
    first, second = studio.session("s1"), studio.session("s2", ms=1000)
    voice = studio.voice(first, "s1/b", first_ms=0, packets=300, party="bert", codec=codec)
    studio.voice(second, "s2/c", first_ms=1000, packets=250, party="carl", codec=others)
    _move(studio, "s1/b", ms=3000, put_ms=3000, old="s1", new="s2", party="bert", codecs=(codec,))
    studio.end(first, ms=3100)
    studio.end(second, ms=6000)
    studio.run(9000)
    rate_hz = others.clock_rate_hz
    moved = next(row for row in studio.manifest("s2").streams if row.stream == "s1/b")
    assert moved.first_sample == 2 * rate_hz
    told = [(gap.start_samples, gap.length_samples, gap.cause) for gap in moved.gaps]
    assert told[0] == (0, 2 * rate_hz, "before_first")
    assert all(cause == "after_last" for _, _, cause in told[1:])
    heard = studio.samples("s2", rate_hz=rate_hz)[2 * rate_hz : 5 * rate_hz, 1]
    sent = voice.samples[3 * codec.clock_rate_hz : 6 * codec.clock_rate_hz]
    if codec is L16:
        sent = Resampler(16_000, 8_000).feed(np.append(sent, np.zeros(1_000, dtype=np.int16)))
        sent = sent[Resampler(16_000, 8_000).delay_samples_out :][: heard.size]
    else:
        heard = heard[::2]  # brought up: every other sample is one of the stream's
    assert np.corrcoef(heard.astype(float), sent.astype(float))[0, 1] > 0.9


@pytest.mark.parametrize("others", [PCMA, L16])
def test_a_filter_that_looks_ahead_takes_nothing_from_the_recording_that_a_stream_goes_on_in(
    studio: Studio, others: Codec
) -> None:
    first, second = studio.session("s1"), studio.session("s2", ms=1000)
    studio.voice(first, "s1/a", first_ms=0, packets=150, party="anna", codec=L16)
    studio.voice(first, "s1/b", first_ms=0, packets=300, party="bert")
    studio.voice(second, "s2/c", first_ms=1000, packets=250, party="carl", codec=others)
    _move(studio, "s1/b", ms=3000, put_ms=3000, old="s1", new="s2", party="bert")
    studio.end(first, ms=3100)
    studio.end(second, ms=6000)
    studio.run(9000)
    moved = next(row for row in studio.manifest("s2").streams if row.stream == "s1/b")
    assert {gap.cause for gap in moved.gaps} <= {"before_first", "after_last"}
    left = next(row for row in studio.manifest("s1").streams if row.stream == "s1/b")
    assert {gap.cause for gap in left.gaps} == {"after_last"}


@pytest.mark.parametrize("looks_every_ms", [100, 500])
def test_of_a_packet_that_begins_in_one_recording_the_rest_is_heard_in_the_other(
    studio: Studio, looks_every_ms: int
) -> None:
    codecs = (PCMA, Codec(payload_type=3, encoding=Encoding.GSM, clock_rate_hz=8_000))
    first, second = studio.session("s1"), studio.session("s2", ms=1000)
    bert = studio.voice(first, "s1/b", first_ms=7, packets=300, party="bert", codecs=codecs)
    studio.voice(second, "s2/c", first_ms=1000, packets=250, party="carl")
    _move(studio, "s1/b", ms=3000, put_ms=3000, old="s1", new="s2", party="bert", codecs=codecs)
    studio.end(first, ms=3100)
    studio.end(second, ms=6000)
    studio.run(9000, looks_ms=range(looks_every_ms, 9001, looks_every_ms))
    late = _line(bert, ms=5007, session_ms=1000)
    late[: 2000 * 8] = 0
    assert np.array_equal(studio.samples("s2")[:, 1], late)
    early = _line(bert, ms=3100)
    early[3000 * 8 :] = 0
    assert np.array_equal(studio.samples("s1")[:, 0], early)


def test_the_clock_of_a_stream_that_moved_is_told_from_where_it_lies(studio: Studio) -> None:
    first, second = studio.session("s1"), studio.session("s2", ms=1000)
    studio.voice(first, "s1/b", first_ms=0, packets=2_000, party="bert")
    studio.voice(second, "s2/c", first_ms=1000, packets=1_950, party="carl")
    _move(studio, "s1/b", ms=3000, put_ms=3000, old="s1", new="s2", party="bert")
    studio.end(first, ms=3100)
    studio.end(second, ms=40_000)
    studio.run(42_000)
    for row in studio.manifest("s2").streams:
        assert row.clock.span_s > 0
        assert abs(row.clock.offset_us) < 1_000


def test_a_doubled_leg_is_kept_once_and_takes_over_without_a_hole(studio: Studio) -> None:
    session = studio.session("s")
    sound = np.random.default_rng(5).bytes(160 * 200)
    rest = sound[160 * 100 :] + np.random.default_rng(6).bytes(160 * 100)
    old = studio.voice(
        session, "s/1", first_ms=0, packets=200, payload=sound, party="anna", dialog=DialogId("d1")
    )
    studio.voice(session, "s/2", first_ms=0, packets=100, party="bert", dialog=DialogId("d2"))
    new = studio.voice(
        session, "s/3", first_ms=2000, packets=200, payload=rest, party="anna", dialog=DialogId("d3")
    )
    studio.hang_up(session, "s/1", ms=4000)
    studio.end(session, ms=6000)
    studio.run(9000)
    anna = studio.samples(session)[:, 0]
    assert np.array_equal(anna[:32_000], _line(old, ms=4000))
    assert np.array_equal(anna[32_000:], _line(new, ms=6000)[32_000:])
    told = {row.stream: row for row in studio.manifest(session).streams}
    assert [told[f"s/{number}"].doubled for number in (1, 2, 3)] == [False, False, True]
    assert [(gap.start_samples, gap.length_samples, gap.cause) for gap in told["s/3"].gaps] == [
        (0, 16_000, "before_first"),
        (16_000, 16_000, "doubled"),
    ]
    assert told["s/1"].gaps[-1].cause == "after_last"


def test_streams_of_one_dialog_are_mixed_and_limited(studio: Studio) -> None:
    session = studio.session("s")
    voices = [studio.voice(session, f"s/{number}", first_ms=0, packets=50, party="anna") for number in (1, 2)]
    studio.end(session, ms=1000)
    studio.run(4000)
    total, _ = mix(np.stack([voice.samples for voice in voices]), Limiter.of(8000))
    assert np.array_equal(studio.samples(session)[:, 0], total)
