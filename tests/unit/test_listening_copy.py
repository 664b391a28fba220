"""A copy for the ear: what was lost is filled, other silence stays, the evidence is untouched."""

from __future__ import annotations

import subprocess
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from dsp.concealment import bridge
from recorderd.archive.listening import export_listening_copy, lost_spans
from recorderd.core import gap_causes as causes
from recorderd.core.errors import ExportBlocked, ListeningImpossible
from recorderd.core.messages import Codec, Encoding, RecordingState
from recorderd.core.terms import AudioFormat, Layout, RecordingTerms
from recorderd.evidence.digest import sha256_file
from recorderd.wire.manifest import FileEntry, Gap, Manifest, encode_manifest, manifest_name, parse_manifest
from recorderd.wire.wav import WavEncoding, WavHeader, parse_wav
from tests.support import speech
from tests.support.bundles import audio_of, folder_digests, make_signer
from tests.support.studio import PCMA, Studio
from tests.support.tones import human_speech

PCMU = Codec(payload_type=0, encoding=Encoding.PCMU, clock_rate_hz=8000)
LOST = (40, 41, 60, 62, 100, *range(150, 160))  # packets of 20 ms
CONCEALED = ("network_loss", "late", "kernel_drop", "ring_overrun")
PER_MS = 8


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, make_signer(tmp_path, "recorder"))


def _talk(studio: Studio, *, codec: Codec = PCMA, **terms: object) -> Path:
    """Record 5 s of two voices; one loses packets, and both are paused from 4,000 to 4,500 ms."""
    session = studio.session("talk", terms=RecordingTerms(**terms))  # type: ignore[arg-type]
    voice = human_speech("it_IT_m_Carlo")[16_000 * 8 :]
    for number, name in enumerate(("caller", "callee")):
        octets = speech.encode_a_law(voice[number * 80_000 :][: 250 * 160])
        lost = LOST if name == "caller" else ()
        studio.voice(
            session,
            name,
            first_ms=0,
            packets=250,
            payload=octets,
            codec=codec,
            lost=lost,
            side_rank=number,
            party=name,
        )
    studio.change(session, RecordingState.PAUSED, ms=4000)
    studio.change(session, RecordingState.ON, ms=4500)
    studio.end(session, ms=5000)
    studio.run(7000)
    studio.manifest("talk")
    return studio.folder("talk")


def _samples(path: Path) -> np.ndarray:
    samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate_hz == 8000
    return samples


def _lost_mask(size: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    for number in LOST:
        mask[number * 160 : (number + 1) * 160] = True
    return mask


def test_what_was_lost_sounds_and_all_else_is_the_evidence(studio: Studio, tmp_path: Path) -> None:
    folder = _talk(studio)
    before = folder_digests(folder)
    copy = export_listening_copy(folder, tmp_path / "out")
    assert copy == tmp_path / "out/listen" / audio_of(folder).name.replace(".wav", ".listen.wav")
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    evidence, heard = _samples(audio_of(folder)), _samples(copy)
    assert heard.shape == evidence.shape
    lost = _lost_mask(heard.shape[0])
    assert not evidence[lost, 0].any()
    assert (heard[~lost, 0] == evidence[~lost, 0]).all() and (heard[:, 1] == evidence[:, 1]).all()
    for start, end in ((40, 42), (60, 61), (62, 63), (100, 101), (150, 152)):
        assert np.abs(heard[start * 160 : end * 160, 0].astype(int)).mean() > 10
    assert not heard[150 * 160 + 480 : 159 * 160, 0].any()  # 60 ms after it broke off, until it leads in
    assert heard[159 * 160 : 160 * 160, 0].any()
    assert not heard[4000 * PER_MS : 4500 * PER_MS].any()
    assert folder_digests(folder) == before


def test_what_is_lost_itself_tells_nothing_of_what_was_lost_before_it(studio: Studio, tmp_path: Path) -> None:
    folder = _talk(studio)
    samples = np.random.default_rng(3).integers(-9000, 9000, 1000).astype("<i2")
    spans = ((400, 560), (620, 780))
    for start, end in spans:
        samples[start:end] = 0
    header = WavHeader(encoding=WavEncoding.PCM16, sample_rate_hz=8000, channels=2)
    content = header.encode(data_bytes=4000) + np.repeat(samples, 2).tobytes()
    gaps = [Gap(start_samples=start, length_samples=end - start, cause="late") for start, end in spans]
    _put_audio(folder, content, samples=1000, gaps=gaps)
    heard = _samples(export_listening_copy(folder, tmp_path / "out"))[:, 1]
    assert (heard[400:560] == bridge(samples[:400], samples[560:620], length=160, rate_hz=8000)).all()
    assert (heard[620:780] == bridge(heard[:620], samples[780:], length=160, rate_hz=8000)).all()


def test_the_copy_says_that_it_is_no_evidence_and_who_is_on_which_channel(
    studio: Studio, tmp_path: Path
) -> None:
    folder = _talk(studio)
    copy = export_listening_copy(folder, tmp_path / "out")
    told = [
        parse_wav(path.read_bytes()[:65_536], file_bytes=path.stat().st_size)
        for path in (audio_of(folder), copy)
    ]
    original, copied = (layout.bext for layout in told)
    assert original is not None and copied is not None and original.time_reference_samples
    wanted = f"listening copy, concealed, not evidence: {original.description}"
    assert copied == replace(original, description=wanted, coding_history=copied.coding_history)
    documents = [ElementTree.fromstring(layout.ixml or "") for layout in told]
    assert documents[1].findtext("NOTE") == wanted
    names, again = ([track.findtext("NAME") for track in each.iter("TRACK")] for each in documents)
    assert names == again and names[0] == "caller 1000"
    told_by_sox = subprocess.run(["soxi", copy], capture_output=True, text=True, check=True).stdout
    assert "16-bit Signed Integer PCM" in told_by_sox


def test_the_same_recording_gives_the_same_copy_and_nothing_is_overwritten(
    studio: Studio, tmp_path: Path
) -> None:
    folder = _talk(studio)
    copy = export_listening_copy(folder, tmp_path / "out")
    first, inode = copy.read_bytes(), copy.stat().st_ino
    assert export_listening_copy(folder, tmp_path / "other").read_bytes() == first
    assert export_listening_copy(folder, tmp_path / "out").stat().st_ino == inode
    copy.write_bytes(b"mine")
    with pytest.raises(ExportBlocked):
        export_listening_copy(folder, tmp_path / "out")
    assert copy.read_bytes() == b"mine"
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_an_export_that_was_cut_short_is_made_again(studio: Studio, tmp_path: Path) -> None:
    folder = _talk(studio)
    copy = export_listening_copy(folder, tmp_path / "out")
    first = copy.read_bytes()
    copy.unlink()
    copy.with_name(f".{copy.name}.new").write_bytes(first * 2)
    assert export_listening_copy(folder, tmp_path / "out").read_bytes() == first
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize("codec", [PCMA, PCMU], ids=["a-law", "mu-law"])
def test_octets_of_the_wire_become_16_bits_for_the_ear(studio: Studio, tmp_path: Path, codec: Codec) -> None:
    folder = _talk(studio, codec=codec, audio_format=AudioFormat.NATIVE)
    evidence = _samples(audio_of(folder))  # decoded by libsndfile
    assert audio_of(folder).stat().st_size < 5000 * PER_MS * 2 + 10_000
    heard = _samples(export_listening_copy(folder, tmp_path / "out"))
    lost = _lost_mask(heard.shape[0])
    assert (heard[~lost, 0] == evidence[~lost, 0]).all() and (heard[:, 1] == evidence[:, 1]).all()
    assert np.abs(heard[lost, 0].astype(int)).sum() > np.abs(evidence[lost, 0].astype(int)).sum() + 10_000


def test_where_another_voice_sounds_on_the_same_channel_nothing_is_added(
    studio: Studio, tmp_path: Path
) -> None:
    folder = _talk(studio, layout=Layout.MIX)
    evidence = _samples(audio_of(folder))
    assert evidence.shape[1] == 1
    assert (_samples(export_listening_copy(folder, tmp_path / "out")) == evidence).all()


# --- where a channel lost something -------------------------------------------------------------------


def _with_gaps(manifest: Manifest, *streams: Sequence[tuple[int, int, str]]) -> Manifest:
    """Give the first channel as many streams as there are lists of (start, end, cause)."""
    return replace(
        manifest,
        spans=(),
        streams=tuple(
            replace(
                manifest.streams[0],
                channel=0,
                gaps=tuple(Gap(start_samples=a, length_samples=b - a, cause=cause) for a, b, cause in gaps),
            )
            for gaps in streams
        ),
    )


@pytest.mark.parametrize(
    ("streams", "spans"),
    [
        ([[]], []),
        *(([[(5, 9, cause)]], [(5, 9)]) for cause in CONCEALED),
        *(([[(5, 9, cause)]], []) for cause in sorted(causes.ALL - set(CONCEALED))),
        ([[(5, 9, "late"), (9, 12, "network_loss"), (12, 20, "hold")]], [(5, 12)]),
        ([[(5, 9, "network_loss")], []], []),
        ([[(5, 9, "network_loss")], [(7, 30, "before_first")]], [(7, 9)]),
        ([[(5, 9, "network_loss")], [(0, 30, "doubled")]], [(5, 9)]),
        ([[(5, 9, "network_loss")], [(0, 7, "masked"), (7, 9, "late")]], [(7, 9)]),
        ([[(0, 9, "after_last")], [(0, 9, "hold")]], []),
    ],
)  # fmt: skip
def test_a_channel_lost_what_no_stream_of_it_brought(
    studio: Studio, streams: list[list[tuple[int, int, str]]], spans: list[tuple[int, int]]
) -> None:
    manifest = parse_manifest((_talk(studio) / manifest_name("talk")).read_bytes())
    assert lost_spans(_with_gaps(manifest, *streams), channel=0) == spans
    assert lost_spans(_with_gaps(manifest, *streams), channel=1) == []


# --- what cannot be done ------------------------------------------------------------------------------


def _refused(folder: Path, out: Path) -> str:
    with pytest.raises(ListeningImpossible) as caught:
        export_listening_copy(folder, out)
    assert not list(out.rglob("*.listen.wav"))
    return str(caught.value)


def test_what_nobody_here_can_hear_is_refused_in_clear_words(studio: Studio, tmp_path: Path) -> None:
    folder = _talk(studio)
    path, audio = folder / manifest_name("talk"), audio_of(folder)
    whole = parse_manifest(path.read_bytes())
    assert whole.audio is not None
    sealed = replace(whole.audio, encryption="cms", content_sha256="ab" * 32, content_bytes=9)
    path.write_bytes(encode_manifest(replace(whole, files=(sealed, *whole.files[1:]))))
    assert "audio is encrypted (cms), only its recipients can open it" in _refused(folder, tmp_path / "out")
    path.write_bytes(encode_manifest(_tombstone(whole)))
    assert "there is no audio (objected)" in _refused(folder, tmp_path / "out")
    path.write_bytes(encode_manifest(whole))
    content = audio.read_bytes()
    audio.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert f"{audio.name} is not what its manifest says" in _refused(folder, tmp_path / "out")
    path.unlink()
    assert "talk: its manifest is not there" in _refused(folder, tmp_path / "out")


def _tombstone(whole: Manifest) -> Manifest:
    streams = tuple(replace(stream, channel=0, gaps=()) for stream in whole.streams)
    return replace(
        whole,
        outcome="objected",
        channels=0,
        duration_samples=0,
        files=(),
        spans=(),
        controls=(),
        streams=streams,
    )


@pytest.mark.parametrize(("rate_hz", "tag"), [(4000, 1), (96_000, 1), (8000, 3)])
def test_sound_of_another_kind_is_refused(studio: Studio, tmp_path: Path, rate_hz: int, tag: int) -> None:
    folder = _talk(studio)
    header = WavHeader(encoding=WavEncoding.PCM16, sample_rate_hz=rate_hz, channels=2)
    head = header.encode(data_bytes=400)
    at = head.index(b"fmt ") + 8
    _put_audio(folder, head[:at] + bytes([tag, 0]) + head[at + 2 :] + bytes(400), samples=100, gaps=())
    assert "Malformed WAV: fmt:" in _refused(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _put_audio(folder: Path, content: bytes, *, samples: int, gaps: Sequence[Gap]) -> None:
    """Give a recording other audio, without signing it anew."""
    path, audio = folder / manifest_name("talk"), audio_of(folder)
    whole = parse_manifest(path.read_bytes())
    audio.write_bytes(content)
    digest, size_bytes = sha256_file(audio)
    entry = FileEntry(name=audio.name, role="audio", size_bytes=size_bytes, sha256=digest)
    path.write_bytes(
        encode_manifest(
            replace(
                whole,
                duration_samples=samples,
                spans=(),
                controls=(),
                files=(entry, *(row for row in whole.files if row.role != "audio")),
                streams=tuple(replace(stream, gaps=tuple(gaps)) for stream in whole.streams),
            )
        )
    )


def test_an_hour_takes_no_more_memory_than_a_minute(studio: Studio, tmp_path: Path) -> None:
    folder, frames = _talk(studio), 3600 * 8000
    header = WavHeader(encoding=WavEncoding.PCM16, sample_rate_hz=8000, channels=2)
    hum = np.rint(5000 * np.sin(np.arange(frames) * (2 * np.pi / 80))).astype("<i2")
    hum[8_080_000 : 8_080_000 + 79_000] = 0
    content = header.encode(data_bytes=4 * frames) + np.repeat(hum, 2).tobytes()
    spans = [(at, 160) for at in range(80_000, frames, 80_000)]
    spans[100] = (8_080_000, 79_000)  # longer than any block that is looked at
    gaps = [Gap(start_samples=at, length_samples=length, cause="network_loss") for at, length in spans]
    _put_audio(folder, content, samples=frames, gaps=gaps)
    del content, hum
    tracemalloc.start()
    try:
        copy = export_listening_copy(folder, tmp_path / "out")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20
    with soundfile.SoundFile(copy) as heard:
        assert heard.frames == frames
        heard.seek(spans[100][0])
        silent = heard.read(79_000, dtype="int16")
        assert silent[:480].any() and not silent[480:-160].any() and silent[-160:].any()
        heard.seek(spans[200][0] - 160)
        around = heard.read(480, dtype="int16")[:, 1].astype(int)
    assert np.abs(around - np.roll(around, 80))[80:].max() <= 150  # the hum goes on, 2 % quieter at most
