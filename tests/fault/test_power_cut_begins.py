"""The power goes in the first seconds of a call that rests encrypted, or that waited for its start: as at any
other time the last second is lost at most, whoever is to open it, and no nonce was ever used twice.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from recorderd.core.messages import ControlAction, RecordingState
from recorderd.core.terms import Mode, RecordingTerms
from recorderd.evidence.draft_cipher import BLOCK_HEAD_BYTES, TAG_BYTES, BlockOpener, parse_block
from recorderd.evidence.draft_container import ContainerReader
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.openpgp import load_pgp_recipients
from recorderd.evidence.recipients import load_certificate
from recorderd.record.encrypting import Recipients
from recorderd.record.recorder import Pace
from recorderd.spool.layout import Place
from recorderd.wire.manifest import Manifest, manifest_name, parse_manifest
from tests.support import speech
from tests.support.bundles import audio_of, make_signer
from tests.support.lost_writes import Content, DiskTrace
from tests.support.power_cut_scene import PROMISED_MS, Scene, recovered
from tests.support.recipients import Keyring, keyring, make_recipient, openssl_opens
from tests.support.sealed_calls import with_draft_keys
from tests.support.studio import DELAY_MS, RATE_HZ, Studio, Voice

MOMENTS: Final = int(os.environ.get("POWER_CUTS", "200")) // 10  # of each case
END_MS: Final = 3_600
PACKETS: Final = 200
BEGIN_MS: Final = 270  # its audio is opened after 1230 ms
ON_MS: Final = 1_430
PAUSED_MS: Final = 700
RESUMED_MS: Final = 1_000
PREROLL_MS: Final = 1_000
OFF, ON, PAUSED = RecordingState.OFF, RecordingState.ON, RecordingState.PAUSED
PACE: Final = Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=0, proof_s=2)
BANK: Final = RecordingTerms(rule="bank", encrypt="bank", mode=Mode.ALWAYS_PAUSABLE)
NAMES: Final = RecordingTerms(rule="bank", encrypt="bank", encrypt_metadata=True)
WANTED: Final = RecordingTerms(mode=Mode.ON_DEMAND, preroll_ms=PREROLL_MS)
WANTED_BANK: Final = RecordingTerms(mode=Mode.ON_DEMAND, preroll_ms=PREROLL_MS, encrypt="bank")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call, and to whom it is encrypted."""

    terms: RecordingTerms
    to: str = "certificates"
    begins_ms: int = BEGIN_MS  # the first that is to be kept
    told_ms: int = BEGIN_MS  # when it is known that it is
    ends_ms: int = END_MS
    script: Callable[[Studio, list[Voice]], None] = lambda studio, voices: None


def _joined(studio: Studio, voices: list[Voice]) -> None:
    """Let a party come when the audio was just opened."""
    voices.append(studio.voice(_SESSION, "s/2", first_ms=1_650, packets=PACKETS, side_rank=2))


def _paused(studio: Studio, voices: list[Voice]) -> None:
    studio.change(_SESSION, PAUSED, ms=PAUSED_MS)
    studio.change(_SESSION, ON, ms=RESUMED_MS, action=ControlAction.RESUME)


def _pausing(studio: Studio, voices: list[Voice]) -> None:
    studio.change(_SESSION, PAUSED, ms=PAUSED_MS)


def _started(studio: Studio, voices: list[Voice]) -> None:
    studio.change(_SESSION, ON, ms=ON_MS, action=ControlAction.START)


_SESSION: Final = "s"
CASES: Final = {
    "certificates": Case(terms=BANK),
    "OpenPGP": Case(terms=BANK, to="OpenPGP"),
    "names": Case(terms=NAMES),
    "joined": Case(terms=BANK, script=_joined),
    "paused": Case(terms=BANK, script=_paused),
    "paused, in clear": Case(terms=RecordingTerms(mode=Mode.ALWAYS_PAUSABLE), script=_paused),
    "pausing": Case(terms=BANK, ends_ms=PAUSED_MS, script=_pausing),
    "pausing, in clear": Case(
        terms=RecordingTerms(mode=Mode.ALWAYS_PAUSABLE), ends_ms=PAUSED_MS, script=_pausing
    ),
    "short": Case(terms=BANK, ends_ms=1_050, script=lambda studio, voices: studio.end(_SESSION, ms=1_050)),
    "started": Case(terms=WANTED, begins_ms=ON_MS - PREROLL_MS, told_ms=ON_MS, script=_started),
    "started, encrypted": Case(
        terms=WANTED_BANK, begins_ms=ON_MS - PREROLL_MS, told_ms=ON_MS, script=_started
    ),
}


@dataclass
class Office:
    """Who records, and who can open it."""

    folder: Path
    certificates: list[Path]
    ring: Keyring
    pgp_key: Path
    opened: dict[bytes, bytes] = field(default_factory=dict)  # wrapped keys

    def recipients(self, to: str) -> Recipients:
        """Load the public side."""
        if to == "OpenPGP":
            return load_pgp_recipients([self.pgp_key])
        return CertificateRecipients(recipients=tuple(load_certificate(one) for one in self.certificates))

    def key(self, wrapped: Path) -> bytes:
        """Open a draft's key, by each of its recipients."""
        octets = wrapped.read_bytes()
        if octets not in self.opened:
            if wrapped.suffix == ".gpg":
                found = {self.ring.gpg("--decrypt", wrapped)}
            else:
                found = {openssl_opens(wrapped, one) or b"" for one in self.certificates}
            (self.opened[octets],) = found
        return self.opened[octets]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    with ExitStack() as stack:
        ring = stack.enter_context(keyring())
        pgp_key = ring.make_key(folder / "x.asc", "x", ("ed25519", "cv25519"))
        certificates = [make_recipient(folder, "rsa", kind="rsa-3072"), make_recipient(folder, "ec")]
        yield Office(folder, certificates, ring, pgp_key)


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def _lived(case: Case, office: Office, root: Path) -> Scene:
    """Play a call, and note what was done to the disk for it."""
    root.mkdir()
    trace = DiskTrace(root, now_ms=lambda: 0)
    with pytest.MonkeyPatch.context() as patch, trace.noting(patch):
        signer = make_signer(office.folder, "recorder")
        studio = Studio(root, signer, pace=PACE, encryption={"bank": office.recipients(case.to)})
        trace.now_ms = lambda: studio.now_ms
        state = OFF if case.terms.mode is Mode.ON_DEMAND else ON
        studio.session(_SESSION, ms=BEGIN_MS, terms=case.terms, state=state)
        voices = [
            studio.voice(_SESSION, f"s/{side}", first_ms=BEGIN_MS, packets=PACKETS, side_rank=side)  # type: ignore[arg-type]
            for side in range(2)
        ]
        case.script(studio, voices)
        for ms in range(0, END_MS + 1, 100):
            studio.run(ms)
            while not studio.recorder.messages.empty():  # each is taken when it comes
                studio.recorder.handle(studio.recorder.messages.get_nowait())
    return Scene("", studio, trace, {_SESSION: voices})


def _audio(folder: Path, office: Office) -> tuple[Manifest, bytes]:
    """Read manifest and WAV as the holder of a recipient's key does."""
    hidden = folder / f"{manifest_name(folder.name)}.p7m"
    raw = openssl_opens(hidden, office.certificates[0]) if hidden.exists() else None
    manifest = parse_manifest(raw or (folder / manifest_name(folder.name)).read_bytes())
    containers = list(folder.glob("*.draft"))
    if not containers:
        return manifest, audio_of(folder).read_bytes()
    (wrapped,) = folder.glob("*.wav.key.*")
    content = containers[0].read_bytes()
    reader = ContainerReader(
        lambda at, size: content[at : at + size],
        BlockOpener(office.key(wrapped)),
        size_bytes=len(content),
        subject=folder.name,
        salvage=True,
    )
    plain = b"".join(reader.plain())
    assert not [finding for finding in reader.findings if "key" in finding]  # what is there opens
    return manifest, plain


def _check(case: Case, voices: list[Voice], manifest: Manifest, wav: bytes, cut_ms: int) -> None:
    """What was spoken until a second ago is there; elsewhere is silence, and the manifest says so."""
    promised_ms = min(cut_ms - PROMISED_MS, case.ends_ms) - case.begins_ms
    assert manifest.duration_samples >= promised_ms * RATE_HZ // 1000
    at, frame_bytes = wav.index(b"data") + 8, 2 * manifest.channels
    assert (len(wav) - at) // frame_bytes == manifest.duration_samples
    samples = np.frombuffer(wav[at:], dtype="<i2").reshape(-1, manifest.channels)
    for entry in manifest.streams:
        channel, voice = samples[:, entry.channel], voices[int(entry.stream[-1])]
        spoken = voice.into(np.zeros(channel.size, np.int16), session_ms=case.begins_ms)
        silent = np.zeros(channel.size, dtype=bool)
        for gap in entry.gaps:
            silent[gap.start_samples : gap.start_samples + gap.length_samples] = True
        assert not channel[silent].any()
        assert np.array_equal(channel[~silent], spoken[~silent])
        told = {"before_first", "paused"}
        missing = sum(gap.length_samples for gap in entry.gaps if gap.cause not in told)
        assert missing <= 700, entry.gaps  # what the last window had of the next


@pytest.mark.parametrize("name", CASES)
def test_a_power_cut_in_the_first_seconds_costs_the_last_one_at_most(
    name: str, office: Office, memory: Path
) -> None:
    case = CASES[name]
    scene = _lived(case, office, memory / "lived")
    steps, luck, looked_at = scene.trace.steps, random.Random(name), 0
    first = next(at for at, ms in enumerate(scene.trace.at_ms) if ms > case.told_ms + PROMISED_MS)
    for until in luck.choices(range(first, len(steps)), k=MOMENTS):  # each leaves something else
        scene.trace.leave(memory / "left", until=until, luck=luck)
        spool = recovered(scene, memory / "left")
        assert spool.ids(Place.READY) == [_SESSION], [
            path.read_text() for path in spool.root.rglob("reason.txt")
        ]
        folder = spool.path(Place.READY, _SESSION)
        if list(folder.glob("*.wav.p7m")):  # sealed before the cut
            continue
        manifest, wav = _audio(folder, office)
        assert manifest.recovered
        _check(case, scene.voices[_SESSION], manifest, wav, scene.trace.at_ms[until - 1])
        looked_at += 1
    assert looked_at >= MOMENTS // 3


def test_a_draft_that_nobody_could_open_is_not_begun(office: Office, memory: Path) -> None:
    scene = _lived(CASES["certificates"], office, memory / "lived")
    until = next(at for at, ms in enumerate(scene.trace.at_ms) if ms == 1_500)  # nothing is open yet
    for key in (None, b"another"):
        scene.trace.leave(memory / "left", until=until, luck=random.Random(1))
        draft = memory / "left" / "spool" / "drafts" / _SESSION
        (wrapped,) = draft.glob("*.wav.key.*")
        wrapped.unlink() if key is None else wrapped.write_bytes(key)
        spool = recovered(scene, memory / "left")
        assert not list(spool.root.rglob("*.draft"))
        assert spool.ids(Place.READY) == []


def test_a_process_that_goes_before_the_audio_is_opened_leaves_the_key_that_the_next_one_seals_with(
    office: Office, memory: Path
) -> None:
    (memory / "lived").mkdir()
    signer, keys = make_signer(office.folder, "recorder"), os.memfd_create("keys")
    studio = Studio(memory / "lived", signer, pace=PACE, encryption={"bank": office.recipients("")})

    studio.recorder = with_draft_keys(studio, keys)
    session = studio.session(_SESSION, ms=BEGIN_MS, terms=BANK)
    voices = [studio.voice(session, "s/0", first_ms=BEGIN_MS, packets=PACKETS)]
    told = [message for _, _, message in studio._script]
    studio.run(1_100)
    draft = studio.spool.path(Place.DRAFTS, _SESSION)
    (wrapped,) = draft.glob("*.wav.key.*")
    before = wrapped.read_bytes()
    assert not list(draft.glob("*.draft"))
    studio.recorder = with_draft_keys(studio, keys)  # the process was killed, and another goes on
    studio.recorder.sessions.go_on(session, told)
    studio.run(2_900)
    studio.crash(tail=True)
    folder = studio.folder(_SESSION)
    assert next(folder.glob("*.wav.key.*")).read_bytes() == before
    manifest, wav = _audio(folder, office)
    _check(Case(terms=BANK), voices, manifest, wav, cut_ms=2_900)
    os.close(keys)


@pytest.mark.parametrize("pause_ms", [(310, 410), (700, 900)])
@pytest.mark.parametrize("terms", [RecordingTerms(mode=Mode.ALWAYS_PAUSABLE), BANK])
def test_what_was_said_in_a_pause_before_the_audio_is_opened_is_in_no_block(
    terms: RecordingTerms, pause_ms: tuple[int, int], office: Office, memory: Path
) -> None:
    def script(studio: Studio, voices: list[Voice]) -> None:
        studio.change(_SESSION, PAUSED, ms=pause_ms[0])
        studio.change(_SESSION, ON, ms=pause_ms[1], action=ControlAction.RESUME)

    scene = _lived(Case(terms=terms, script=script), office, memory / "lived")
    blocks = b"".join(
        step.octets
        for step in scene.trace.steps
        if isinstance(step, Content) and scene.trace.paths[step.file].startswith("spool/tail/")
    )
    voice = scene.voices[_SESSION][0]
    octets, linear = speech.encode_a_law(voice.samples), voice.samples.astype("<i2").tobytes()
    first, last = ((ms - BEGIN_MS) * RATE_HZ // 1000 for ms in pause_ms)
    assert not any(octets[at : at + 16] in blocks for at in range(first, last - 16, 16))
    assert not any(linear[2 * at : 2 * at + 16] in blocks for at in range(first, last - 16, 16))
    in_clear = any(octets[at : at + 16] in blocks for at in range(last, last + 4000, 16))
    assert in_clear is not bool(terms.encrypt)


def test_no_nonce_is_used_for_two_contents(office: Office, memory: Path) -> None:
    """Of all that came to the disk: what the tail tells ahead, what the draft gets, what is written anew."""
    for name in ("certificates", "joined", "paused", "started, encrypted"):
        scene = _lived(CASES[name], office, memory / name)
        under: dict[int, set[bytes]] = {}
        for step in scene.trace.steps:
            octets = step.octets if isinstance(step, Content) else b""
            at = octets.find(b"BLCK")
            while at >= 0:
                block = parse_block(octets[at : at + BLOCK_HEAD_BYTES], position=0)
                if block is not None:
                    sealed = octets[at + BLOCK_HEAD_BYTES :][: block.length + TAG_BYTES]
                    assert len(sealed) == block.length + TAG_BYTES
                    under.setdefault(block.serial, set()).add(sealed)
                at = octets.find(b"BLCK", at + 1)
        assert len(under) > 12
        assert all(len(contents) == 1 for contents in under.values())
