"""The machine goes dark: what can be read back in time is sealed, the rest is laid down for later."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recorderd.core.clock import NS_PER_MS
from recorderd.core.messages import SessionEnded, StreamEnd
from recorderd.record.journal_reading import read_journal
from recorderd.record.recorder import Pace
from recorderd.record.recovery import READ_AT_START_BYTES, is_quick
from recorderd.record.session import Recording
from recorderd.spool.layout import Place
from tests.support.bundles import make_signer
from tests.support.studio import BEGIN_MONO_NS, DELAY_MS, RATE_HZ, Studio, Voice

SHORT, LONG = "call-short", "call-tall"
SECONDS = {SHORT: 4, LONG: 21}
END_MS = 21_000


def _studio(tmp_path: Path, *, proof_s: int) -> tuple[Studio, dict[str, Voice]]:
    pace = Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=0, proof_s=proof_s)
    studio, voices = Studio(tmp_path, make_signer(tmp_path, "recorder"), pace=pace), {}
    for name, seconds in SECONDS.items():
        begin_ms = END_MS - 1000 * seconds
        session = studio.session(name, ms=begin_ms)
        voices[name] = studio.voice(session, f"{name}/1", first_ms=begin_ms, packets=50 * seconds)
        studio.end(session, ms=END_MS, cause=StreamEnd.POWER)
    return studio, voices


def _run(studio: Studio, *, left_ms: int) -> int:
    """Let all end while there is so much time yet; say how many were laid down."""
    haste = studio.recorder.closing.haste
    for ms in range(500, END_MS + 3000, 500):
        haste.until_mono_ns = BEGIN_MONO_NS + (ms + left_ms) * NS_PER_MS
        studio.run(ms)
    return haste.laid_down


def _assert_heard(studio: Studio, name: str, voice: Voice) -> None:
    samples = studio.samples(name)[:, 0]
    assert samples.size == SECONDS[name] * RATE_HZ
    assert np.array_equal(samples, voice.samples)


@pytest.mark.parametrize("proof_s", [10, 0])
def test_what_is_laid_down_is_sealed_by_the_next_start_with_its_cause_and_its_proof(
    tmp_path: Path, proof_s: int
) -> None:
    studio, voices = _studio(tmp_path, proof_s=proof_s)
    assert _run(studio, left_ms=-1) == 2
    assert studio.places() == {"drafts": [SHORT, LONG]}
    for name in SECONDS:
        journal = read_journal(studio.spool.path(Place.DRAFTS, name))
        assert (journal.end_cause, {row.end_cause for row in journal.entries()}) == ("power", {"power"})
    studio.crash()
    for name, seconds in SECONDS.items():
        manifest = studio.manifest(name)
        assert (manifest.recovered, manifest.end_cause) == (True, "power")
        assert manifest.streams[0].packets_received == 50 * seconds
        assert manifest.proof.checked_samples == manifest.duration_samples  # all was signed, then and there
        _assert_heard(studio, name, voices[name])


def test_the_shorter_one_is_sealed_while_there_is_time_for_it(tmp_path: Path) -> None:
    studio, voices = _studio(tmp_path, proof_s=10)
    assert _run(studio, left_ms=1) == 1  # 200 KB; they have 64 and 336
    assert studio.places() == {"drafts": [LONG], "ready": [SHORT]}
    manifest = studio.manifest(SHORT)
    assert (manifest.recovered, manifest.end_cause) == (False, "power")
    studio.crash()
    for name, voice in voices.items():
        studio.manifest(name)
        _assert_heard(studio, name, voice)


def test_audio_that_was_altered_after_it_was_laid_down_is_not_sealed(tmp_path: Path) -> None:
    studio, _ = _studio(tmp_path, proof_s=10)
    assert _run(studio, left_ms=-1) == 2
    audio = next(studio.spool.path(Place.DRAFTS, LONG).glob("*.wav"))
    content = bytearray(audio.read_bytes())
    content[-RATE_HZ // 2] ^= 1  # in the last second
    audio.write_bytes(content)
    studio.crash()
    assert LONG in studio.places()["quarantine"]
    assert not studio.manifest(SHORT).proof.checked_samples % RATE_HZ


def test_calls_wait_for_what_was_left_unless_it_takes_long(tmp_path: Path) -> None:
    studio, _ = _studio(tmp_path, proof_s=10)
    assert _run(studio, left_ms=-1) == 2
    left = studio.spool.ids(Place.DRAFTS)
    assert is_quick(studio.spool, left)
    with (studio.spool.path(Place.DRAFTS, LONG) / "audio").open("wb") as audio:
        audio.truncate(READ_AT_START_BYTES)  # takes no room
    assert not is_quick(studio.spool, left)
    assert is_quick(studio.spool, [SHORT])


def test_who_asks_meanwhile_sees_a_session_open_until_its_recording_was_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forced shutdown signs the chain's head behind the last recording: it must not come in between."""
    studio, _ = _studio(tmp_path, proof_s=10)
    recorder, closing = studio.recorder, studio.recorder.closing
    render, close, seen = closing.render, closing.close, []

    def asked(step: Callable[[Recording, SessionEnded], None]) -> Callable[[Recording, SessionEnded], None]:
        def asking(recording: Recording, ended: SessionEnded) -> None:
            step(recording, ended)
            seen.append(recorder.sessions_open)

        return asking

    monkeypatch.setattr(closing, "render", asked(render))
    monkeypatch.setattr(closing, "close", asked(close))
    _run(studio, left_ms=60_000)
    assert (len(seen), min(seen), recorder.sessions_open) == (4, 1, 0)
