"""Keys on real calls: where a rule masks them nothing tells of them, elsewhere the manifest names each."""

from __future__ import annotations

import re
import secrets
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from dsp import dtmf
from tests.support import g711_reference, speech
from tests.support.codec_calls import Format, offer
from tests.support.house import House, Recorded
from tests.support.programs import Program
from tests.support.sip_client import Call, SipClient
from tests.support.tones import (
    COLUMNS_HZ,
    KEYS,
    ROWS_HZ,
    frequencies_hz,
    goertzel_dbfs,
    human_speech,
    over_speech,
    textbook_keys,
    to_int16,
)

RATE_HZ = 8000
PACKET = 160
TONE_MS = 60
PRESSED_MS = 60  # to both sides of where an event begins
EVENT_MS = 100
CODES = "0123456789*#ABCD"  # RFC 4733 section 3.2
FORMATS = [
    Format(payload_type=8, rtpmap="PCMA/8000"),
    Format(payload_type=101, rtpmap="telephone-event/8000", fmtp="0-15"),
]
RULES = """
[record]
tones = true

[[rules]]
name = "cards"
mode = "always"
extensions = ["2000"]
mask_dtmf = true

[[rules]]
name = "told"
mode = "always-pausable"
extensions = ["2001"]

[[rules]]
name = "octets"
mode = "always"
extensions = ["2002"]
format = "native"
"""


@dataclass(kw_only=True)
class Phone:
    """One leg of a call: what it says and presses, and where in its own audio."""

    call: Call
    call_id: str
    payload: bytearray = field(default_factory=bytearray)  # silence where events went instead
    pressed: list[tuple[str, str, int]] = field(default_factory=list)  # how, key, sample
    rows: list[tuple[float, bytes]] = field(default_factory=list)
    ssrc: int = field(default_factory=lambda: secrets.randbits(32))
    sequence: int = field(default_factory=lambda: secrets.randbits(16))
    first_timestamp: int = field(default_factory=lambda: secrets.randbits(32))
    due_s: float = 0.0

    def say(self, octets: bytes, *, payload_type: int = 8) -> None:
        """Speak in packets of 20 ms."""
        for start in range(0, len(octets), PACKET):
            self._packet(payload_type, len(self.payload), octets[start : start + PACKET])
            self.payload += octets[start : start + PACKET]
            self.due_s += 0.02

    def tones(self, spoken: np.ndarray, keys: str, *, spacing_ms: int = 160) -> None:
        """Speak, with keys laid over it at 15 dB."""
        places = [(key, RATE_HZ // 20 + turn * spacing_ms * 8) for turn, key in enumerate(keys)]
        self.pressed += [("tone", key, len(self.payload) + at) for key, at in places]
        self.say(speech.encode_a_law(to_int16(over_speech(spoken, places, snr_db=15, duration_ms=TONE_MS))))

    def press(self, key: str) -> None:
        """Send a key as events: an update every 20 ms, the end three times."""
        at = len(self.payload)
        self.pressed.append(("event", key, at))
        updates = range(PACKET, EVENT_MS * 8 + 1, PACKET)
        for duration in updates:
            self._packet(101, at, struct.pack("!BBH", CODES.index(key), 10, duration))
            self.due_s += 0.02
        for _ in range(3):
            self._packet(101, at, struct.pack("!BBH", CODES.index(key), 0x80 | 10, updates[-1]))
        self.payload += bytes([0xD5]) * EVENT_MS * 8

    def ask(self, method: str, body: str, content_type: str) -> int:
        """Send a request within the dialog."""
        call = self.call
        reply = call.client.request(
            method, call_id=call.call_id, cseq=call.cseq, uri=call.target, body=body.encode(),
            headers={**call._dialog(), "Content-Type": content_type},
        )  # fmt: skip
        call.cseq += 1
        return reply.code

    def _packet(self, payload_type: int, at: int, body: bytes) -> None:
        timestamp = (self.first_timestamp + at) & 0xFFFF_FFFF
        head = struct.pack("!BBHII", 0x80, payload_type, self.sequence & 0xFFFF, timestamp, self.ssrc)
        self.rows.append((self.due_s, head + body))
        self.sequence += 1


def _call(client: SipClient, extension: str, formats: Sequence[Format] = FORMATS) -> Phone:
    call_id = f"keys-{extension}"
    headers = {
        "X-Call-ID": call_id, "X-Call-Leg": "caller", "X-Call-Caller": "1001", "X-Call-Callee": extension,
        "X-Call-Extension": extension, "X-Call-Direction": "internal",
    }  # fmt: skip
    call = Call(client=client, headers=headers)
    sdp = offer(client.address, [formats], direction="sendrecv")
    assert call.invite(sdp, "application/sdp").code == 200
    return Phone(call=call, call_id=call_id)


def _play(sock: socket.socket, phones: Sequence[Phone]) -> None:
    """Let all send side by side what they have to say."""
    rows = sorted(
        ((due_s, phone.call.lines[0].port, number, packet) for phone in phones
         for number, (due_s, packet) in enumerate(phone.rows)),
        key=lambda row: row[0],
    )  # fmt: skip
    started = time.monotonic()
    for due_s, port, _, packet in rows:
        time.sleep(max(0.0, started + due_s - time.monotonic()))
        sock.sendto(packet, ("127.0.0.1", port))
    for phone in phones:
        phone.rows, phone.due_s = [], 0.0


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of the calls."""

    phones: dict[str, Phone]
    recordings: dict[str, Recorded]
    log: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Three calls at once, in three parts; one is paused for the second part."""
    folder = tmp_path_factory.mktemp("keys")
    with House(folder, extra=RULES) as house:
        program = house.recorder()
        said = human_speech("en_US_f_Allison")[60 * RATE_HZ :]
        octets = np.random.default_rng(4).integers(0, 256, 8 * RATE_HZ // 5, dtype=np.uint8).tobytes()
        with (
            SipClient(server=house.server) as client,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            sock.bind(("127.0.0.1", 0))
            masked, told, native = phones = (
                _call(client, "2000"),
                _call(client, "2001"),
                _call(client, "2002", [Format(payload_type=0, rtpmap="PCMU/8000")]),
            )
            for phone in (masked, told):
                phone.say(speech.encode_a_law(said[: RATE_HZ // 5]))
                phone.press("7")  # before anything is rendered
            masked.tones(said[RATE_HZ:][: RATE_HZ * 7 // 5], KEYS[:8])
            told.tones(said[RATE_HZ:][: RATE_HZ * 7 // 5], "19*D")
            native.say(octets, payload_type=0)
            _play(sock, phones)
            assert told.ask("INFO", f"action=pause call={told.call_id} by=1001", "text/plain") == 200
            assert masked.ask("INFO", "Signal=5\r\nDuration=160\r\n", "application/dtmf-relay") == 200
            masked.tones(said[3 * RATE_HZ :][: RATE_HZ * 7 // 5], KEYS[8:])
            told.tones(said[3 * RATE_HZ :][: RATE_HZ * 3 // 5], "B")
            told.press("8")
            told.say(speech.encode_a_law(said[5 * RATE_HZ :][: RATE_HZ * 7 // 10]))
            _play(sock, (masked, told))
            assert told.ask("INFO", f"action=resume call={told.call_id} by=1001", "text/plain") == 200
            for phone in (masked, told):
                phone.say(speech.encode_a_law(said[6 * RATE_HZ :][: RATE_HZ * 4 // 5]))
                for key in "3#":
                    phone.press(key)
                    phone.say(speech.encode_a_law(said[7 * RATE_HZ :][: RATE_HZ // 5]))
            _play(sock, (masked, told))
            time.sleep(0.15)  # a recording ends with its call: what was said last is in it all the same
            assert [phone.call.bye().code for phone in phones] == [200] * 3
        house.wait_sealed(program, 3)
        yield Made(
            phones={phone.call_id: phone for phone in phones},
            recordings={phone.call_id: _recorded(house, program, phone.call_id) for phone in phones},
            log=program.text(),
        )


def _recorded(house: House, program: Program, call_id: str) -> Recorded:
    line = program.wait_for("recording_sealed", f"call_id={call_id}")
    return house.sealed(line.split("subject=")[1].split()[0])


def _entry(recorded: Recorded) -> dict[str, Any]:
    (entry,) = recorded.streams()
    return entry


def test_nothing_is_left_of_keys_that_a_rule_masks(made: Made) -> None:
    phone, recorded = made.phones["keys-2000"], made.recordings["keys-2000"]
    samples = recorded.samples()[0][:, 0]
    first = _entry(recorded)["first_sample"]
    sent = g711_reference.decode(bytes(phone.payload), law="PCMA")
    assert len(textbook_keys(sent, rate_hz=RATE_HZ)) > 10
    assert dtmf.detect(samples.copy(), rate_hz=RATE_HZ) == ()
    tones = [(key, at) for via, key, at in phone.pressed if via == "tone"]
    assert "".join(key for key, _ in tones) == KEYS
    for key, at in tones:
        before = sent[at : at + TONE_MS * 8]
        after = samples[first + at :][: TONE_MS * 8]
        assert min(goertzel_dbfs(before, hz=hz, rate_hz=RATE_HZ) for hz in frequencies_hz(key)) > -50
        assert {goertzel_dbfs(after, hz=hz, rate_hz=RATE_HZ) for hz in (*ROWS_HZ, *COLUMNS_HZ)} == {-200}


def test_what_is_masked_stands_as_a_gap_and_all_else_is_exact(made: Made) -> None:
    phone, recorded = made.phones["keys-2000"], made.recordings["keys-2000"]
    samples, entry = recorded.samples()[0][:, 0], _entry(recorded)
    sent = g711_reference.decode(bytes(phone.payload), law="PCMA")
    wanted = np.zeros(samples.size, dtype=np.int16)
    first = entry["first_sample"]
    wanted[first : first + sent.size] = sent
    masked = np.zeros(samples.size, dtype=bool)
    for gap in entry["gaps"]:
        low, high = gap["start_samples"], gap["start_samples"] + gap["length_samples"]
        wanted[low:high] = 0
        masked[low:high] |= gap["cause"] == "masked"
    assert np.array_equal(samples, wanted)
    tones = [first + at for via, _, at in phone.pressed if via == "tone"]
    assert all(masked[at : at + TONE_MS * 8].all() for at in tones)
    events = [first + at for via, _, at in phone.pressed if via == "event"]
    about = range(-(PRESSED_MS - 1) * 8, PRESSED_MS * 8)  # a gateway lets some of a tone through
    assert all(masked[at + about.start : at + about.stop].all() for at in events)
    assert masked.sum() < (len(tones) * (TONE_MS + 20) + len(events) * 2 * PRESSED_MS) * 8 + len(events)


def test_no_digit_of_a_masked_call_stands_anywhere(made: Made) -> None:
    recorded = made.recordings["keys-2000"]
    assert _entry(recorded)["keys"] == []
    texts = [path.read_text() for path in recorded.folder.glob("*.sip")]
    texts += [recorded.manifest_path.read_text(), made.log]
    assert len(texts) >= 3
    for text in texts:
        assert not re.search(r"(?i)\b(keys?|digits?|signal|dtmf|event)\b\W{1,4}[0-9A-D*#](?![\w-])", text)


def test_keys_are_told_where_no_rule_masks_them(made: Made) -> None:
    phone, entry = made.phones["keys-2001"], _entry(made.recordings["keys-2001"])
    first = entry["first_sample"]
    found = sorted(entry["keys"], key=lambda row: row["start_samples"])
    wanted = [row for row in phone.pressed if row[1] not in "8B"]  # those came in the pause
    assert [(row["via"], row["key"]) for row in found] == [(via, key) for via, key, _ in wanted]
    for row, (via, _, at) in zip(found, wanted, strict=True):
        length = (EVENT_MS if via == "event" else TONE_MS) * 8
        assert abs(row["start_samples"] - first - at) <= 40 * 8, row
        assert abs(row["length_samples"] - length) <= 10 * 8, row
    assert [gap["cause"] for gap in entry["gaps"]].count("dtmf") == 3


def test_the_octets_of_a_native_recording_are_those_of_the_wire(made: Made) -> None:
    phone, recorded = made.phones["keys-2002"], made.recordings["keys-2002"]
    entry = _entry(recorded)
    octets = recorded.wav.read_bytes()
    size = recorded.manifest["duration_samples"]
    data = octets[octets.index(b"data") + 8 :][:size]
    first = entry["first_sample"]
    sent = bytes(phone.payload)
    assert recorded.manifest["audio_format"] == "native"
    assert 0x7F in sent and len(sent) > 12_000
    assert data[first : first + len(sent)] == sent
    assert set(data[:first] + data[first + len(sent) :]) <= {0xFF}
    decoded = g711_reference.decode(sent, law="PCMU")
    assert np.array_equal(recorded.samples()[0][first : first + len(sent), 0], decoded)
