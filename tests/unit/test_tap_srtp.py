"""SRTP against a sender written from the RFCs, which is itself held against the RFCs' test vectors."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from recorderd.core.clock import SystemClock
from recorderd.core.errors import SrtpFailed
from recorderd.core.events import Ev, EventLog
from recorderd.core.ids import StreamId
from recorderd.core.messages import Codec, Encoding
from recorderd.tap.drain import Tap
from recorderd.tap.placing import GUARD_NS
from recorderd.tap.ports import PortPool, SocketPair
from recorderd.tap.srtp import OLD_KEY_PACKETS, Protector, StreamCrypto, Unprotector
from recorderd.wire.sdes import SrtpKeys, Suite
from tests.support.srtp_sender import SUITES, SrtpSender, derive

PCMA = Codec(payload_type=8, encoding=Encoding.PCMA, clock_rate_hz=8000)
GUARD = GUARD_NS // 125_000
RTP_7714 = bytes.fromhex(
    "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573"
)
RTCP_7714 = bytes.fromhex(
    "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
)

REPORT = bytes.fromhex("80c8000600000007") + bytes(range(4, 24))  # a sender report without blocks


def keys_of(sender: SrtpSender) -> SrtpKeys:
    return SrtpKeys(suite=Suite(sender.suite), master=sender.master, mki=sender.mki)


def packet(sequence: int, *, ssrc: int = 7, payload: bytes = bytes(range(160)), first: int = 0x80) -> bytes:
    return struct.pack("!BBHII", first, 8, sequence & 0xFFFF, sequence * 160 & 0xFFFF_FFFF, ssrc) + payload


# --- the sender itself -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("master", "salt", "cipher", "session_salt", "auth"),
    [
        (  # RFC 3711 appendix B.3
            "E1F97A0D3E018BE0D64FA32C06DE4139",
            "0EC675AD498AFEEBB6960B3AABE6",
            "C61E7A93744F39EE10734AFE3FF7A087",
            "30CBBC08863D8C85D49DB34A9AE1",
            "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4",
        ),
        (  # RFC 6188 section 7.4
            "F0F04914B513F2763A1B1FA130F10E2998F6F6E43E4309D1E622A0E332B9F1B6",
            "3B04803DE51EE7C96423AB5B78D2",
            "5BA1064E30EC51613CAD926C5A28EF731EC7FB397F70A960653CAF06554CD8C4",
            "FA31791685CA444A9E07C6C64E93",
            "FD9C32D39ED5FBB5A9DC96B30818454D1313DC05",
        ),
    ],
)
def test_the_test_sender_derives_the_keys_of_the_rfcs(
    master: str, salt: str, cipher: str, session_salt: str, auth: str
) -> None:
    for label, expected in ((0, cipher), (1, auth), (2, session_salt)):
        wanted = bytes.fromhex(expected)
        assert derive(bytes.fromhex(master), bytes.fromhex(salt), label, len(wanted)) == wanted


@pytest.mark.parametrize(
    ("suite", "rtp", "rtcp"),
    [  # RFC 7714 sections 16.1.1, 16.2.1 and 17.1: from session keys
        (
            "AEAD_AES_128_GCM",
            "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b"
            "36de3adf8833899d7f27beb16a9152cf765ee4390cce",
            "63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda"
            "4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        ),
        (
            "AEAD_AES_256_GCM",
            "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f"
            "1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
            "",
        ),
    ],
)
def test_the_test_sender_makes_the_gcm_packets_of_the_rfc(suite: str, rtp: str, rtcp: str) -> None:
    sender = SrtpSender(suite=suite)
    key = bytes(range(SUITES[suite][0]))
    sender.rtp_keys = sender.rtcp_keys = [key, b"", b"Quid pro quo"]
    assert sender.rtp(RTP_7714, roc=0).hex() == RTP_7714[:12].hex() + rtp
    if rtcp:
        assert sender.rtcp(RTCP_7714, index=0x5D4).hex() == RTCP_7714[:8].hex() + rtcp


# --- what comes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mki", [b"", b"\0\0\0\7"])
@pytest.mark.parametrize("suite", SUITES)
def test_each_suite_is_decrypted_across_two_wraps_of_the_sequence_number(suite: str, mki: bytes) -> None:
    sender = SrtpSender(suite=suite, mki=mki)
    receiver = Unprotector(keys_of(sender))
    for sequence in range(65_000, 3 * 65_536, 500):
        plain = packet(sequence)
        assert receiver.rtp(sender.rtp(plain, roc=sequence >> 16)) == plain


@pytest.mark.parametrize("suite", SUITES)
def test_header_extensions_csrcs_and_large_packets_survive(suite: str) -> None:
    sender = SrtpSender(suite=suite)
    receiver = Unprotector(keys_of(sender))
    extended = packet(1, first=0x92, payload=bytes(8) + b"\xbe\xde\0\1" + b"abcd" + os.urandom(160))
    large = packet(2, payload=os.urandom(3840))  # L16/48000 stereo, 20 ms
    for plain in (extended, large):
        assert receiver.rtp(sender.rtp(plain, roc=0)) == plain


@pytest.mark.parametrize("mki", [b"", b"\7"])
@pytest.mark.parametrize("suite", SUITES)
def test_rtcp_is_decrypted_and_a_forged_one_refused(suite: str, mki: bytes) -> None:
    sender = SrtpSender(suite=suite, mki=mki)
    receiver = Unprotector(keys_of(sender))
    protected = sender.rtcp(RTCP_7714, index=5)
    assert receiver.rtcp(protected) == RTCP_7714
    forged = bytearray(sender.rtcp(RTCP_7714, index=6))
    forged[12] ^= 1
    with pytest.raises(SrtpFailed):
        receiver.rtcp(bytes(forged))


@pytest.mark.parametrize("suite", SUITES)
def test_each_flipped_bit_and_each_cut_is_refused(suite: str) -> None:
    sender = SrtpSender(suite=suite)
    receiver = Unprotector(keys_of(sender))
    good = sender.rtp(packet(9, payload=bytes(20)), roc=0)
    for bit in range(8 * len(good)):
        forged = bytearray(good)
        forged[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(SrtpFailed):
            receiver.rtp(bytes(forged))
    for length in range(len(good)):
        with pytest.raises(SrtpFailed):
            receiver.rtp(good[:length])
    assert receiver.rtp(good) == packet(9, payload=bytes(20))  # no forgery has used it up
    with pytest.raises(SrtpFailed, match="came before"):
        receiver.rtp(good)


@pytest.mark.parametrize("suite", SUITES)
def test_what_we_protect_is_what_the_rfcs_say(suite: str) -> None:
    sender = SrtpSender(suite=suite)
    ours = Protector(keys_of(sender))
    for sequence in (65_534, 65_535, 65_536, 65_537):
        assert ours.rtp(packet(sequence)) == sender.rtp(packet(sequence), roc=sequence >> 16)


def test_a_new_key_is_taken_and_the_old_one_tried_until_the_new_one_is_in_use() -> None:
    old, new = (SrtpSender(suite="AES_CM_128_HMAC_SHA1_80") for _ in range(2))
    crypto = StreamCrypto(keys_of(old))
    assert crypto.rtp(old.rtp(packet(1), roc=0)) == packet(1)
    crypto.rekey(keys_of(new))
    assert crypto.rtp(old.rtp(packet(2), roc=0)) == packet(2)  # sent before our answer was there
    for sequence in range(3, 3 + OLD_KEY_PACKETS):
        assert crypto.rtp(new.rtp(packet(sequence), roc=0)) == packet(sequence)
    with pytest.raises(SrtpFailed):
        crypto.rtp(old.rtp(packet(1000), roc=0))


@pytest.mark.parametrize("keeps_counting", [True, False])
@pytest.mark.parametrize("suite", SUITES)
def test_a_new_key_after_wraps_is_taken_whether_the_sender_counts_on_or_anew(
    suite: str, keeps_counting: bool
) -> None:
    old, new = SrtpSender(suite=suite), SrtpSender(suite=suite, mki=b"\2")
    crypto = StreamCrypto(keys_of(old))
    last = 5 * 65_536 + 40_000
    for sequence in range(60_000, last, 1000):
        crypto.rtp(old.rtp(packet(sequence), roc=sequence >> 16))
    crypto.rekey(keys_of(new))
    numbers = [last + 3, last + 1, last + 2, *range(last + 4, last + 3 * 65_536, 900)]  # reordered at first
    for sequence in numbers:
        roc = (sequence >> 16) - (0 if keeps_counting else 5)
        protected = new.rtp(packet(sequence), roc=roc)
        assert crypto.rtp(protected) == packet(sequence)
        with pytest.raises(SrtpFailed):
            crypto.rtp(protected)
    foreign = SrtpSender(suite=suite)
    with pytest.raises(SrtpFailed):
        crypto.rtp(foreign.rtp(packet(numbers[-1] + 1), roc=8))


def test_the_same_key_again_forgets_neither_what_came_nor_the_wraps() -> None:
    sender = SrtpSender(suite="AEAD_AES_128_GCM")
    crypto = StreamCrypto(keys_of(sender))
    for sequence in (65_000, 65_535, 65_536, 66_000):
        crypto.rtp(sender.rtp(packet(sequence), roc=sequence >> 16))
    crypto.rekey(keys_of(sender))
    with pytest.raises(SrtpFailed, match="came before"):
        crypto.rtp(sender.rtp(packet(66_000), roc=1))
    assert crypto.rtp(sender.rtp(packet(66_001), roc=1)) == packet(66_001)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(("known", "roc"), [(66_000, 1), (66_000, 0), (464, 1), (200_000, 1), (65_530, 1)])
def test_after_a_restart_a_sender_is_followed_however_it_has_counted_its_wraps(
    suite: str, known: int, roc: int
) -> None:
    sender = SrtpSender(suite=suite, mki=b"\1\2")
    crypto = StreamCrypto(keys_of(sender))
    crypto.go_on(ssrc=7, index=known, wraps_most=3)
    with pytest.raises(SrtpFailed):
        crypto.rtp(SrtpSender(suite=suite, mki=b"\1\2").rtp(packet(known + 1), roc=roc))  # somebody else's
    for number in range(known + 10, known + 14):
        assert crypto.rtp(sender.rtp(packet(number), roc=roc)) == packet(number)
    for number in range(20):  # of another SSRC, that it had used before
        datagram = packet(number, ssrc=8)
        assert crypto.rtp(sender.rtp(datagram, roc=2)) == datagram
    assert crypto.rtp(sender.rtp(packet(known + 14), roc=roc)) == packet(known + 14)
    later = SrtpSender(suite=suite)
    crypto.rekey(keys_of(later))
    assert crypto.rtp(later.rtp(packet(known + 15), roc=0)) == packet(known + 15)


# --- in the tap --------------------------------------------------------------------------------------


class Rig:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.pool = PortPool(
            address="127.0.0.1", port_min=21_000, port_max=21_199, receive_buffer_bytes=1 << 16
        )
        log = EventLog(logger=logging.getLogger("tap-srtp"), clock=SystemClock())
        self.tap = Tap(ports=self.pool, max_streams=4, clock=SystemClock(), log=log)
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(20)

    def open(self, name: str, srtp: SrtpKeys | None) -> tuple[StreamId, SocketPair]:
        sockets = self.pool.acquire()
        stream = StreamId(name)
        self.tap.open_stream(stream, sockets=sockets, codecs=[PCMA], event_payload_types=[], srtp=srtp)
        return stream, sockets

    def send(self, sockets: SocketPair, datagram: bytes, *, rtcp: bool = False) -> None:
        self.peer.sendto(datagram, ("127.0.0.1", sockets.rtp_port + rtcp))

    def events(self, event: Ev) -> list[dict[str, object]]:
        found = [entry.__dict__ for entry in self._caplog.records]
        return [entry["recorderd_fields"] for entry in found if entry.get("recorderd_event") is event]

    def taken(self, stream: StreamId, packets: int) -> tuple[bytes, bool]:
        octets, marks = self.tap.take(stream, start_ticks=GUARD, end_ticks=GUARD + 160 * packets)
        return octets.tobytes(), bool(np.any(marks))


@pytest.fixture
def rig(caplog: pytest.LogCaptureFixture) -> Iterator[Rig]:
    rig = Rig(caplog)
    yield rig
    rig.tap.close()
    rig.peer.close()


@pytest.mark.parametrize("suite", SUITES)
def test_a_stream_with_keys_and_a_plain_one_beside_it_are_both_exact(rig: Rig, suite: str) -> None:
    sender = SrtpSender(suite=suite)
    secure, secure_sockets = rig.open("secure", keys_of(sender))
    plain, plain_sockets = rig.open("plain", None)
    payloads = [os.urandom(160) for _ in range(8)]
    for number, payload in enumerate(payloads):
        rig.send(secure_sockets, sender.rtp(packet(number, payload=payload), roc=0))
        rig.send(plain_sockets, packet(number, payload=payload))
    rig.send(secure_sockets, sender.rtp(packet(0, payload=payloads[0]), roc=0))  # a replay
    rig.send(secure_sockets, sender.rtcp(REPORT, index=1), rtcp=True)
    rig.tap.drain()
    for stream in (secure, plain):
        assert rig.taken(stream, 8) == (b"".join(payloads), True)
    counters = rig.tap.stats(secure).counters
    assert (counters["received"], counters["srtp_failed"], counters["malformed"]) == (8, 1, 0)
    assert (counters["rtcp_received"], counters["rtcp_malformed"]) == (1, 0)
    run = rig.tap.reported(rig.tap.slot_of(secure)).run
    assert run is not None
    assert (run.first.ntp, run.first.timestamp) == struct.unpack_from("!QI", REPORT, 8)
    assert rig.tap.stats(plain).counters["srtp_failed"] == 0
    assert rig.events(Ev.STREAM_SRTP_FAILED) == [
        {"subject": "secure", "packets": 1, "reason": "it came before"}
    ]


@pytest.mark.parametrize("suite", SUITES)
def test_a_wrong_key_leaves_no_sample_and_a_clear_event(rig: Rig, suite: str) -> None:
    stream, sockets = rig.open("wrong", keys_of(SrtpSender(suite=suite)))
    other = SrtpSender(suite=suite)
    for number in range(5):
        rig.send(sockets, other.rtp(packet(number), roc=0))
        rig.send(sockets, packet(number))  # nor does it take plain RTP
    rig.send(sockets, other.rtcp(RTCP_7714, index=1), rtcp=True)
    rig.tap.drain()
    counters = rig.tap.stats(stream).counters
    assert (counters["received"], counters["srtp_failed"], counters["malformed"]) == (0, 11, 0)
    assert not rig.tap.clock_of(stream).started
    assert {entry["subject"] for entry in rig.events(Ev.STREAM_SRTP_FAILED)} == {"wrong"}


def test_keys_change_while_the_stream_runs(rig: Rig) -> None:
    one, two = SrtpSender(suite="AES_CM_128_HMAC_SHA1_80"), SrtpSender(suite="AEAD_AES_256_GCM")
    stream, sockets = rig.open("rekeyed", keys_of(one))
    rig.send(sockets, one.rtp(packet(0), roc=0))
    rig.tap.drain()
    rig.tap.set_srtp(stream, keys_of(two))
    rig.send(sockets, two.rtp(packet(1), roc=0))
    rig.tap.drain()
    assert rig.taken(stream, 2)[0] == 2 * bytes(range(160))
    plain, _ = rig.open("plain", None)
    with pytest.raises(SrtpFailed):
        rig.tap.set_srtp(plain, keys_of(two))


def test_a_prompt_leaves_from_the_streams_own_port(rig: Rig) -> None:
    stream, sockets = rig.open("spoken", None)
    assert rig.tap.send(stream, b"prompt", rig.peer.getsockname())
    assert rig.peer.recvfrom(100) == (b"prompt", ("127.0.0.1", sockets.rtp_port))
    rig.tap.end_stream(stream)
    assert not rig.tap.send(stream, b"late", rig.peer.getsockname())
    assert not rig.tap.send(StreamId("unknown"), b"x", rig.peer.getsockname())
