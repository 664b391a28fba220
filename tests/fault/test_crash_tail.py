"""The process goes and the machine stays: the drafts hold what was written, and the tail gives the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recorderd.core.terms import RecordingTerms
from recorderd.record.recorder import Pace
from recorderd.record.tail_files import TAIL_DIR
from recorderd.record.tail_span import TailRow
from recorderd.spool.layout import Place
from recorderd.wire.manifest import audio_name
from tests.support import g711_reference
from tests.support.bundles import audio_of, make_signer
from tests.support.power_cut_scene import G722
from tests.support.sealed_calls import held
from tests.support.studio import DELAY_MS, RATE_HZ, Studio

LATE, LATE_MS = 115, 300
PACE = Pace(
    window_ms=500, delay_ms=DELAY_MS, checkpoint_s=30, silence_limit_s=0
)  # nothing is synced meanwhile

_PAYLOADS = {number: np.random.default_rng(number).bytes(160 * 200) for number in (1, 2)}


def _lived(root: Path, kind: str) -> Studio:
    """Record a call until something of the last round waits in no draft, one packet of it late."""
    root.mkdir()
    studio = Studio(root, make_signer(root, "recorder"), pace=PACE)
    session = studio.session("s", terms=RecordingTerms())
    codec = {"codec": G722} if kind == "framed" else {}
    studio.voice(session, "s/1", first_ms=0, packets=300, lost=[LATE], **codec)  # type: ignore[arg-type]
    sender, _ = studio._senders["s/1"]  # type: ignore[index]
    studio.arrive("s/1", sender.packet(LATE), ms=20 * LATE + LATE_MS)
    studio.run(3500)
    return studio


def _placed_anew(root: Path, monkeypatch: pytest.MonkeyPatch, *, crash_ms: int, late_ms: int) -> Studio:
    """Record a call whose first stream is placed anew when its draft begins; then nothing more is told."""
    studio = Studio(root, make_signer(root, "recorder"), pace=PACE)
    session = studio.session("s", terms=RecordingTerms())
    for number in (1, 2):
        studio.voice(session, f"s/{number}", first_ms=20, packets=200, payload=_PAYLOADS[number])
    studio._packets = [  # those that the tail's first block tells of come late
        (ms + (late_ms if stream == "s/1" and ms < 120 else 0), stream, packet)
        for ms, stream, packet in studio._packets
    ]
    studio.run(crash_ms - 100, looks_ms=[])
    monkeypatch.setattr(studio.recorder._tail, "keep", lambda *_, **__: None)  # the crash comes before it
    studio.run(crash_ms, looks_ms=[crash_ms])
    monkeypatch.undo()
    assert len(_data((studio.spool.path(Place.DRAFTS, "s") / audio_name("s")).read_bytes())) > 500
    return studio


def _data(wav: bytes) -> bytes:
    return wav[wav.index(b"data") + 8 :]


@pytest.mark.parametrize("kind", ["steady", "framed"])
def test_after_a_crash_of_the_process_a_draft_is_as_it_was_written_and_the_tail_follows(
    kind: str, tmp_path: Path
) -> None:
    studio = _lived(tmp_path / "lived", kind)
    written = _data((studio.spool.path(Place.DRAFTS, "s") / audio_name("s")).read_bytes())
    studio.crash(tail=True)
    manifest = studio.manifest("s")
    sealed = _data(audio_of(studio.folder("s")).read_bytes())
    assert len(written) > 2 * 2000 * RATE_HZ // 1000
    assert sealed.startswith(written)
    assert manifest.duration_samples * 1000 // manifest.sample_rate_hz >= 3500 - 200
    (stream,) = manifest.streams
    assert not [
        gap for gap in stream.gaps if gap.cause == "not_received" and gap.start_samples < len(written) // 2
    ]


def test_what_a_process_has_left_in_the_tail_does_not_wait_for_the_next_call_to_go(tmp_path: Path) -> None:
    studio = _lived(tmp_path / "lived", "steady")
    studio._packets = []
    studio.crash(tail=True)
    folder = studio.spool.root / TAIL_DIR
    assert studio.places() == {"ready": ["s"]} and all(len(content) for _, content in held(folder))
    studio.run(studio.now_ms + 4000)
    assert all(len(content) for _, content in held(folder))
    studio.run(studio.now_ms + 3000)
    assert not any(len(content) for _, content in held(folder))


def test_a_disk_that_was_away_meanwhile_is_given_its_pages_back(tmp_path: Path) -> None:
    studio = _lived(tmp_path / "lived", "steady")
    path = studio.spool.path(Place.DRAFTS, "s") / audio_name("s")
    written = path.read_bytes()
    at = len(written) // 4096 * 4096 - 4096
    path.write_bytes(written[:at] + bytes(4096) + written[at + 4096 :])
    assert sum(len(content) for _, content in held(tmp_path / "lived" / "spool" / TAIL_DIR))
    studio.crash(tail=True)
    sealed = _data(audio_of(studio.folder("s")).read_bytes())
    samples = np.frombuffer(sealed, dtype="<i2")
    assert np.count_nonzero(samples[at // 2 - 2048 : at // 2]) > 1900


@pytest.mark.parametrize("crash_ms", [900, 1400])
@pytest.mark.parametrize("late_ms", [0, 8, 15])
def test_a_draft_whose_streams_were_placed_anew_when_it_began_is_not_torn_where_the_tail_follows(
    crash_ms: int, late_ms: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = _placed_anew(tmp_path, monkeypatch, crash_ms=crash_ms, late_ms=late_ms)
    studio.crash(tail=True)
    samples, streams = studio.samples("s"), studio.plain("s")["streams"]
    assert samples.shape[0] >= (crash_ms - 400) * RATE_HZ // 1000
    for number, stream in enumerate(streams):
        end = samples.shape[0] - (late_ms * RATE_HZ // 1000 if number == 0 else 0)
        first = int(stream["first_sample"])
        voice = g711_reference.decode(_PAYLOADS[number + 1], law="PCMA")
        assert np.array_equal(samples[first:end, number], voice[: end - first])
        missing = [(gap["start_samples"], gap["cause"]) for gap in stream["gaps"] if gap["start_samples"]]
        assert missing == ([(end, "not_received")] if end < samples.shape[0] else [])


@pytest.mark.parametrize(
    "forged",
    [
        {"begins": 7},
        {"begins": {"placements": 7}},
        {"begins": {"placements": [[1, 2, 3]]}},
        {"begins": {"placements": {"s/1": "far"}}},
        {"begins": {"placements": {"s/1": float("inf")}}},
        {"begins": {"placements": {"s/1": 10**30}}},
        {"begins": {"placements": {"s/1": -7776}}, "gaps": []},
        {"begins": {"placements": {"s/1": -7776}}, "gaps": [[5], []]},
        {"begins": {"placements": {"s/1": -7776}}, "gaps": [[{"start_samples": float("inf")}], []]},
    ],
    ids=repr,
)
def test_forged_places_in_a_whole_row_keep_no_recorder_from_starting(
    forged: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = _placed_anew(tmp_path, monkeypatch, crash_ms=900, late_ms=8)
    notes = TailRow.notes
    monkeypatch.setattr(TailRow, "notes", lambda row: notes(row) | forged)
    studio.crash(tail=True)
    assert studio.manifest("s").recovered
