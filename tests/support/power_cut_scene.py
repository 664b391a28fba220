"""Three calls while the power may go at any moment: what is done to the disk, and the start behind it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from recorderd.core.messages import Codec, Encoding
from recorderd.core.terms import AudioFormat, Layout, RecordingTerms
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.keys import Signer
from recorderd.evidence.recipients import load_certificate
from recorderd.record.chain import Chain
from recorderd.record.disk import InlineDisk
from recorderd.record.entries import Entries, EntryPolicy
from recorderd.record.recorder import Pace
from recorderd.record.recovery import recover
from recorderd.record.seal import Sealer
from recorderd.record.tail_recovery import extend_drafts
from recorderd.spool.layout import Place, Spool
from tests.support import speech
from tests.support.bundles import make_signer
from tests.support.lost_writes import Content, DiskTrace, Sync
from tests.support.recipients import make_recipient
from tests.support.studio import DELAY_MS, RATE_HZ, Studio, Voice
from tests.support.tones import key_tone, to_int16

PACE: Final = Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=0, proof_s=2)
PROMISED_MS: Final = 1000
ANOTHER_BOOT: Final = bytes(16)  # the power has been away
END_MS: Final = 4_800
G722: Final = Codec(payload_type=9, encoding=Encoding.G722, clock_rate_hz=RATE_HZ)
KEYS_MS: Final = range(300, 4_500, 450)

CLEAR: Final = RecordingTerms()
KINDS: Final = {
    "clear": CLEAR,
    "native": RecordingTerms(audio_format=AudioFormat.NATIVE),
    "mixed": RecordingTerms(layout=Layout.MIX),
    "masked": RecordingTerms(rule="cards", mask_dtmf=True),
    "framed": CLEAR,
    "encrypted": RecordingTerms(rule="bank", encrypt="bank"),
    "encrypted names": RecordingTerms(rule="bank", encrypt="bank", encrypt_metadata=True),
    "encrypted and masked": RecordingTerms(rule="bank", encrypt="bank", mask_dtmf=True),
    "clear, rendered each second": CLEAR,
    "clear, rendered every two seconds": CLEAR,
    "encrypted, rendered every two seconds": RecordingTerms(rule="bank", encrypt="bank"),
    "clear, drained twice a second": CLEAR,
}


@dataclass
class Scene:
    """Three calls, and all that was done to the disk for them."""

    kind: str
    studio: Studio
    trace: DiskTrace
    voices: dict[str, list[Voice]] = field(default_factory=dict)
    wrapped: dict[str, bytes] = field(default_factory=dict)

    def opened_by(self, until: int) -> set[str]:
        """Name the calls whose audio was begun and made last among so many steps."""
        steps = self.trace.steps[:until]
        last = max(
            (at for at, step in enumerate(steps) if isinstance(step, Sync) and step.everything), default=0
        )
        return {
            self.trace.paths[step.file].split("/")[-2]
            for step in steps[:last]
            if isinstance(step, Content) and self.trace.paths[step.file].endswith((".wav", ".wav.draft"))
        }


def _payload(kind: str, seed: int) -> bytes:
    """Noise; where keys are masked with keys in it."""
    signal = np.random.default_rng(seed).normal(0, 300, END_MS * RATE_HZ // 1000)
    if "masked" in kind:
        for number, at_ms in enumerate(KEYS_MS):
            tone = key_tone(str(number % 10), duration_ms=80)
            at = (at_ms + 10 * seed) * RATE_HZ // 1000
            signal[at : at + tone.size] += tone[: signal.size - at]
    return speech.encode_a_law(to_int16(signal))


def begin(root: Path, signer: Signer, kind: str, customer: Path, trace: DiskTrace | None = None) -> Scene:
    """Begin three calls of a kind."""
    recipients = CertificateRecipients(recipients=(load_certificate(customer),))
    studio = Studio(root, signer, pace=PACE, slots=12, encryption={"bank": recipients})
    scene = Scene(kind, studio, trace or DiskTrace(root, now_ms=lambda: 0))
    scene.trace.now_ms = lambda: studio.now_ms
    for number in range(3):
        session = studio.session(f"c{number}", ms=70 * number, terms=KINDS[kind])
        fields = {"codec": G722} if kind == "framed" else {}
        scene.voices[session] = [
            studio.voice(
                session,
                f"{session}/{side}",
                first_ms=70 * number,
                packets=END_MS // 20,
                payload=_payload(kind, 10 * number + side),
                side_rank=side,
                lost=range(100, 103) if number == 1 else (),
                **fields,  # type: ignore[arg-type]
            )
            for side in range(2)
        ]
    return scene


def recovered(scene: Scene, root: Path) -> Spool:
    """Start again over what a cut has left, and give the spool then."""
    studio, spool = scene.studio, Spool(root / "spool", quota_bytes=1 << 30)
    spool.prepare()
    chain = Chain(root)
    sealer = Sealer(
        recorder_id="rec-1",
        spool=spool,
        chain=chain,
        signer=studio.signer,
        clock=studio,
        encryption=studio.encryption,
    )
    nothing, log = EntryPolicy(wanted=frozenset()), studio.log
    entries = Entries(sealer=sealer, spool=spool, disk=InlineDisk(), policy=nothing, clock=studio, log=log)
    extend_drafts(spool, spool.ids(Place.DRAFTS), chain=chain, log=log, boot_id=ANOTHER_BOOT)
    assert recover(spool=spool, chain=chain, sealer=sealer, entries=entries, log=log) == ()
    return spool


@contextlib.contextmanager
def noted(memory: Path, signer: Signer, kind: str, customer: Path) -> Iterator[Scene]:
    """Have a scene whose steps on the disk are noted for as long as it is played."""
    with pytest.MonkeyPatch.context() as patch:
        (memory / "day").mkdir()
        trace = DiskTrace(memory / "day", now_ms=lambda: 0)
        with trace.noting(patch):
            yield begin(memory / "day", signer, kind, customer, trace)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Path]:
    """Have the recorder's key, and the folder of a customer who has one."""
    folder = tmp_path_factory.mktemp("house")
    return make_signer(folder, "recorder"), make_recipient(folder, "customer")


@pytest.fixture
def memory() -> Iterator[Path]:
    """Have a folder that costs no disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)
