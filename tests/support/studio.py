"""A recorder with everything real but the sockets and the time: packets and messages come from a script.

A voice is noise in G.711 (PCMA unless asked for), 20 ms a packet, each packet arriving when it is sent. Times
are milliseconds from the studio's beginning; whoever runs it says when the recorder looks.
"""

from __future__ import annotations

import json
import logging
import shutil
import struct
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from recorderd.archive.verification import verify_bundle
from recorderd.core.clock import NS_PER_MS
from recorderd.core.events import EventLog
from recorderd.core.ids import DialogId, SessionId, StreamId
from recorderd.core.messages import (
    CallDescription,
    Codec,
    ControlAction,
    Encoding,
    OfferReceived,
    Origin,
    RecordingChanged,
    RecordingState,
    RecordMessage,
    SessionEnded,
    SessionSilent,
    SessionStarted,
    StreamEnd,
    StreamEnded,
    StreamOpened,
)
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.keys import Signer
from recorderd.evidence.verify import TrustStore
from recorderd.policy.file_names import NameTemplate
from recorderd.record.chain import Chain
from recorderd.record.disk import Disk, Disks, InlineDisk
from recorderd.record.encrypting import Recipients
from recorderd.record.entries import Entries, EntryPolicy
from recorderd.record.recorder import Pace, Recorder
from recorderd.record.recovery import recover
from recorderd.record.seal import Sealer
from recorderd.record.tail_files import TAIL_DIR, read_boot_id
from recorderd.record.tail_recovery import extend_drafts
from recorderd.spool.layout import Place, Spool
from recorderd.tap.intake import Intake
from recorderd.tap.reading import Reading
from recorderd.wire.manifest import ClockStatement, Manifest, manifest_name, parse_manifest
from recorderd.wire.rtp import parse_columns
from tests.support import g711_reference
from tests.support.bundles import audio_of
from tests.support.rtp_sender import RtpStream

RATE_HZ: Final = 8000
DELAY_MS: Final = 800
STEP_MS: Final = 100
BEGIN_MONO_NS: Final = 1_000_000_000_000
BEGIN_UTC_NS: Final = time.time_ns() + 3_600_000_000_000  # a certificate made meanwhile is valid
EVENT_PAYLOAD_TYPE: Final = 101
COMFORT_NOISE_PAYLOAD_TYPE: Final = 13
PCMA: Final = Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=RATE_HZ)


class PlayedTap(Reading):
    """The tap without sockets."""

    def __init__(self, slots: int) -> None:
        super().__init__(intake=Intake(slots=slots, grains=slots * 16))
        self.slots: dict[StreamId, int] = {}
        self.ended: list[StreamId] = []
        self.released: list[StreamId] = []
        self.heard_until_ns = BEGIN_MONO_NS
        self.drains = 0
        self.rendered_until_ns = 0

    @property
    def intake(self) -> Intake:
        return self._intake

    def slot_of(self, stream: StreamId) -> int:
        assert stream not in self.released, "a released stream was asked for"
        return self.slots[stream]

    def _names(self) -> dict[int, StreamId]:
        return {slot: stream for stream, slot in self.slots.items() if stream not in self.released}

    def open(self, stream: StreamId, codecs: Sequence[Codec] = (PCMA,)) -> None:
        slot = len(self.slots)
        self.slots[stream] = slot
        octets_per_s = codecs[0].clock_rate_hz * codecs[0].octets_per_tick
        self.intake.ring.open(slot, octets_per_s=octets_per_s, ring_ms=4000)
        self.intake.table.open(slot, codecs=codecs, event_payload_types=[EVENT_PAYLOAD_TYPE])
        self.intake.open(slot)

    def feed(self, packets: list[tuple[StreamId, int, bytes]]) -> None:
        packets = [row for row in packets if row[0] not in self.released]
        if not packets:
            return
        rows = np.zeros((len(packets), 2048), dtype=np.uint8)
        for row, (_, _, packet) in zip(rows, packets, strict=True):
            row[: len(packet)] = np.frombuffer(packet, dtype=np.uint8)
        lengths = np.array([len(packet) for _, _, packet in packets], dtype=np.int64)
        arrival_ns = np.array([at_ns for _, at_ns, _ in packets], dtype=np.int64)
        slots = np.array([self.slots[stream] for stream, _, _ in packets], dtype=np.int64)
        assert int(lengths.max()) <= rows.shape[1]
        self.intake.accept(slots, parse_columns(rows, lengths), rows=rows, arrival_ns=arrival_ns)

    def end_stream(self, stream: StreamId) -> None:
        self.ended.append(stream)

    def release_stream(self, stream: StreamId) -> None:
        self.released.append(stream)


@dataclass
class Voice:
    """One stream's audio and where it begins."""

    first_ms: int
    samples: np.ndarray

    def into(self, line: np.ndarray, *, session_ms: int = 0) -> np.ndarray:
        """Add the voice to a line of samples that begins with a session."""
        at = (self.first_ms - session_ms) * RATE_HZ // 1000
        samples = self.samples[max(0, -at) :]
        room = line[max(0, at) : max(0, at) + samples.size]
        room += samples[: room.size]
        return line


class Studio:
    """One recorder and its script."""

    def __init__(
        self,
        root: Path,
        signer: Signer,
        *,
        slots: int = 8,
        pace: Pace | None = None,
        sealing: Disk | None = None,
        audio: Disk | None = None,
        policy: EntryPolicy | None = None,
        encryption: Mapping[str, Recipients] | None = None,
        now_ms: int = 0,
    ) -> None:
        """Begin at an instant; ``sealing`` and ``audio`` are run by whoever gives them."""
        self.disks = Disks(audio=audio or InlineDisk(), sealing=sealing or InlineDisk())
        self.policy = policy or EntryPolicy()
        self.pace = pace or Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=0)
        self.root, self.signer = root, signer
        self.now_ms = now_ms
        self.tap = PlayedTap(slots)
        self.spool = Spool(root / "spool", quota_bytes=1 << 30)
        self.spool.prepare()
        self.log = EventLog(logger=logging.getLogger("studio"), clock=self)
        self.silent: list[SessionSilent] = []
        self.voices: list[Voice] = []  # for whoever keeps them here
        self.tap_hangs_ms: Collection[int] = ()  # when it does not drain
        self._packets: list[tuple[int, StreamId, bytes]] = []
        self._senders: dict[StreamId, tuple[RtpStream, int]] = {}  # and when each has spoken
        self._script: list[tuple[int, int, RecordMessage]] = []
        self.names = NameTemplate()  # may be changed before a crash
        self.encryption = encryption or {}
        self.host_clock: Callable[[int], ClockStatement] = lambda _: ClockStatement()
        self._restart()

    def mono_ns(self) -> int:
        return BEGIN_MONO_NS + self.now_ms * NS_PER_MS

    def utc_ns(self) -> int:
        return BEGIN_UTC_NS + self.now_ms * NS_PER_MS

    def _statement(self, since_mono_ns: int) -> ClockStatement:
        return self.host_clock(since_mono_ns)

    def _restart(self) -> None:
        chain = Chain(self.root)
        self.sealer = Sealer(
            recorder_id="rec-1",
            spool=self.spool,
            chain=chain,
            signer=self.signer,
            clock=self,
            names=self.names,
            host_clock=self._statement,
            encryption=self.encryption,
        )
        self.entries = entries = Entries(
            sealer=self.sealer,
            spool=self.spool,
            disk=self.disks.sealing,
            policy=self.policy,
            clock=self,
            log=self.log,
        )
        drafts = self.spool.ids(Place.DRAFTS)
        extend_drafts(self.spool, drafts, chain=chain, log=self.log, boot_id=read_boot_id())
        recover(spool=self.spool, chain=chain, sealer=self.sealer, entries=entries, log=self.log)
        self.recorder = Recorder(
            source=self.tap,
            disks=self.disks,
            spool=self.spool,
            sealer=self.sealer,
            entries=entries,
            pace=self.pace,
            clock=self,
            log=self.log,
            on_silent=self.silent.append,
            encryption=self.encryption,
        )

    # --- the script -----------------------------------------------------------------------------

    def put(self, message: RecordMessage, *, ms: int) -> None:
        """Let a message arrive."""
        self._script.append((ms, len(self._script), message))

    def session(
        self,
        name: str,
        *,
        ms: int = 0,
        state: RecordingState = RecordingState.ON,
        terms: RecordingTerms | None = None,
        description: CallDescription | None = None,
    ) -> SessionId:
        """Begin a session."""
        known = CallDescription(call_id=f"call-{name}", origin=Origin.SIPREC, caller="1000")
        started = SessionStarted(
            session=SessionId(name),
            description=description or known,
            at_mono_ns=BEGIN_MONO_NS + ms * NS_PER_MS,
            at_utc_ns=BEGIN_UTC_NS + ms * NS_PER_MS,
            terms=terms or RecordingTerms(),
            state=state,
        )
        self.put(started, ms=ms)
        return started.session

    def opened(self, session: SessionId, stream: str, *, ms: int, **fields: Any) -> StreamOpened:
        """Describe a stream."""
        known: dict[str, Any] = {"dialog": DialogId("d"), "label": stream, "side_rank": 0, "codecs": (PCMA,)}
        known.update(fields)
        return StreamOpened(
            session=session,
            stream=StreamId(stream),
            local_port=2,
            at_mono_ns=BEGIN_MONO_NS + ms * NS_PER_MS,
            **known,
        )

    def voice(
        self,
        session: SessionId,
        stream: str,
        *,
        first_ms: int,
        packets: int,
        payload: bytes = b"",
        codec: Codec = PCMA,
        lost: Collection[int] = (),
        **fields: Any,
    ) -> Voice:
        """Open a stream and let it speak; some of its packets are lost."""
        codecs = fields.pop("codecs", (codec,))
        codec = codecs[0]
        opened = self.opened(session, stream, ms=first_ms, codecs=codecs, **fields)
        self.tap.open(opened.stream, opened.codecs)
        self.put(opened, ms=first_ms)
        seed = sum(stream.encode())
        ticks = codec.clock_rate_hz // 50
        octets = ticks * codec.octets_per_tick
        payload = payload or np.random.default_rng(seed).bytes(octets * packets)
        sender = RtpStream(
            port=0,
            payload_type=codec.payload_type,
            payload=payload,
            octets_per_packet=octets,
            ticks_per_packet=ticks,
        )
        for number in range(packets):
            if number not in lost:
                self.arrive(stream, sender.packet(number), ms=first_ms + 20 * number)
        self._senders[opened.stream] = (sender, first_ms + 20 * packets)
        if codec.encoding is Encoding.L16:
            return Voice(first_ms, np.frombuffer(payload, dtype=">i2").astype(np.int16))
        return Voice(first_ms, g711_reference.decode(payload, law=codec.encoding.value))

    def arrive(self, stream: str, packet: bytes, *, ms: int) -> None:
        """Let a packet arrive."""
        self._packets.append((ms, StreamId(stream), packet))

    def event(self, stream: str, *, code: int, since_packet: int, at_packet: int) -> bytes:
        """Make a packet that tells of a key (RFC 4733), in the place of one of the voice or beside it."""
        sender, _ = self._senders[StreamId(stream)]
        header = bytearray(sender.packet(at_packet)[:12])
        header[1], header[4:8] = EVENT_PAYLOAD_TYPE, sender.packet(since_packet)[4:8]
        lasts = sender.ticks_per_packet * (at_packet + 1 - since_packet)
        return bytes(header) + struct.pack("!BBH", code, 10, lasts)

    def noise(self, stream: str, *, at_packet: int) -> bytes:
        """Make a packet of comfort noise (RFC 3389) in the place of one of the voice, or behind it."""
        sender, _ = self._senders[StreamId(stream)]
        packet = bytearray(sender.packet(0)[:12])
        sequence, timestamp = int.from_bytes(packet[2:4]), int.from_bytes(packet[4:8])
        packet[1] = COMFORT_NOISE_PAYLOAD_TYPE
        packet[2:4] = ((sequence + at_packet) & 0xFFFF).to_bytes(2)
        packet[4:8] = ((timestamp + at_packet * sender.ticks_per_packet) & 0xFFFF_FFFF).to_bytes(4)
        return bytes(packet) + bytes([40])

    def go_on(self, stream: str, codec: Codec, *, payload: bytes) -> None:
        """Let a stream speak on by another codec."""
        sender, at_ms = self._senders[StreamId(stream)]
        number = sender.packets
        sender.payload += payload
        sender.payload_type = codec.payload_type
        for late in range(number, sender.packets):
            self._packets.append((at_ms + 20 * (late - number), StreamId(stream), sender.packet(late)))

    def offer(self, session: SessionId, text: str, *, ms: int) -> None:
        """Let the text of an offer be kept."""
        at_utc_ns = BEGIN_UTC_NS + ms * NS_PER_MS
        raw = text.encode()
        self.put(OfferReceived(session=session, dialog=DialogId("d"), raw=raw, at_utc_ns=at_utc_ns), ms=ms)

    def hang_up(self, session: SessionId, stream: str, *, ms: int) -> None:
        """End one stream."""
        at_mono_ns = BEGIN_MONO_NS + ms * NS_PER_MS
        self.put(
            StreamEnded(session=session, stream=StreamId(stream), cause=StreamEnd.BYE, at_mono_ns=at_mono_ns),
            ms=ms,
        )

    def change(
        self,
        session: SessionId,
        state: RecordingState,
        *,
        ms: float,
        put_ms: int | None = None,
        action: ControlAction = ControlAction.PAUSE,
        by: str = "1000",
    ) -> None:
        """Change a session's state; the message may arrive later than its instant."""
        offset_ns = round(ms * NS_PER_MS)
        message = RecordingChanged(
            session=session,
            state=state,
            action=action,
            by=by,
            via="feature_code",
            at_mono_ns=BEGIN_MONO_NS + offset_ns,
            at_utc_ns=BEGIN_UTC_NS + offset_ns,
        )
        self.put(message, ms=round(ms) if put_ms is None else put_ms)

    def end(self, session: SessionId, *, ms: int, cause: StreamEnd = StreamEnd.BYE) -> None:
        """End a session."""
        at_mono_ns = BEGIN_MONO_NS + ms * NS_PER_MS
        ended = SessionEnded(
            session=session, cause=cause, at_mono_ns=at_mono_ns, at_utc_ns=BEGIN_UTC_NS + ms * NS_PER_MS
        )
        self.put(ended, ms=ms)

    # --- the play -------------------------------------------------------------------------------

    def run(self, until_ms: int, *, looks_ms: Iterable[int] | None = None) -> None:
        """Play the script; the recorder looks at the given times, or twice a second."""
        looks = set(range(0, until_ms + 1, 500) if looks_ms is None else looks_ms)
        while self.now_ms < until_ms:
            self.now_ms += STEP_MS
            if self.now_ms not in self.tap_hangs_ms:
                self._drain()
            for row in sorted(
                (row for row in self._script if row[0] <= self.now_ms), key=lambda row: row[:2]
            ):
                self.recorder.messages.put(row[2])
            self._script = [row for row in self._script if row[0] > self.now_ms]
            if self.now_ms in looks:
                self.recorder.round(self.mono_ns())
            self.recorder.keep_tail(self.mono_ns())

    def _drain(self) -> None:
        due = [row for row in self._packets if row[0] <= self.now_ms]
        self._packets = [row for row in self._packets if row[0] > self.now_ms]
        self.tap.feed(
            [(stream, BEGIN_MONO_NS + ms * NS_PER_MS, packet) for ms, stream, packet in sorted(due)]
        )
        self.tap.heard_until_ns = self.mono_ns()
        self.tap.drains += 1

    def crash(self, *, tail: bool = False) -> None:
        """Lose everything that is not on disk, and start again; the ``tail`` is tested apart."""
        if not tail:
            shutil.rmtree(self.spool.root / TAIL_DIR, ignore_errors=True)
        self._restart()

    # --- what came of it ------------------------------------------------------------------------

    def folder(self, session: str) -> Path:
        """Name a sealed recording's folder."""
        return self.spool.path(Place.READY, session)

    def manifest(self, session: str) -> Manifest:
        """Read a sealed recording's manifest, after the verifier has found nothing."""
        folder = self.folder(session)
        verdict = verify_bundle(folder, TrustStore.from_files([folder / f"{session}.signer.pem"]))
        assert [str(finding) for finding in verdict.findings] == []
        return parse_manifest((folder / manifest_name(session)).read_bytes())

    def samples(self, session: str, *, rate_hz: int = RATE_HZ) -> np.ndarray:
        """Read a sealed recording's audio, which has the rate."""
        samples, found_hz = soundfile.read(audio_of(self.folder(session)), dtype="int16", always_2d=True)
        assert found_hz == rate_hz
        return samples

    def places(self) -> dict[str, list[str]]:
        """List what stands in the spool."""
        return {place.value: self.spool.ids(place) for place in Place if self.spool.ids(place)}

    def row(self, session: str) -> dict[str, Any]:
        """Return a session's row of the snapshot."""
        return next(row for row in self.recorder.rows() if row["session"] == session)

    def plain(self, session: str) -> dict[str, Any]:
        """Read a sealed recording's manifest as others see it."""
        table: dict[str, Any] = json.loads((self.folder(session) / manifest_name(session)).read_bytes())
        return table
