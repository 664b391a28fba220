"""Flush messages and receipts: every kind survives the wire, what is none is refused by one error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recorderd.core.errors import FrameFormatError, ReceiptFormatError
from recorderd.wire import frames as f
from recorderd.wire.names import required_names
from recorderd.wire.receipt import Receipt, ReceiptBody, ReceiptFile, encode_receipt, parse_receipt

ID = "20261123T062236-5f3c9a1e77d0"
SHA = "ab" * 32
AUDIO = f"20261123062236-442920123123-1002-inbound-{ID}.wav"
FILES = tuple(f.OfferedFile(name=name, size_bytes=7, sha256=SHA) for name in required_names(ID, audio=AUDIO))
MESSAGES = [
    f.Hello(recorder_id="rec-1"),
    f.Welcome(archive_id="arc-1"),
    f.Unwelcome(reason="not today"),
    f.Offer(recording_id=ID, files=FILES),
    f.Credit(recording_id=ID, name=AUDIO, offset_bytes=5, window_chunks=8, rewind=True),
    f.Chunk(recording_id=ID, name=AUDIO, offset_bytes=5, sha256=SHA, payload=b"\x00audio"),
    f.ReceiptMessage(recording_id=ID, receipt=b"{}"),
    f.Refused(recording_id=ID, code="digest", reason="differs", retryable=False),
    f.Deposit(name="20261128T130000Z-1.json", sha256=SHA, payload=b"{}"),
    f.Deposited(name="20261128T130000Z.tsr", sha256=SHA, refusal="another is there"),
    f.Ping(number=1),
    f.Pong(number=1),
    f.Allowance(recordings=64, window_bytes=1 << 24, packings=("zstd",)),
    f.Allowance(recordings=0, window_bytes=0, reason="its operator drains it"),
    f.Chunk(recording_id=ID, name=AUDIO, offset_bytes=5, payload=b"\x00audio"),
    f.Chunk(recording_id=ID, name=AUDIO, offset_bytes=5, packing="zstd", size_bytes=9, payload=b"\x00audio"),
    f.Ping(number=2, host=f.HostReport(clock_utc_ns=1, used_permille=1000)),
    f.Pong(
        number=2,
        host=f.HostReport(
            clock_utc_ns=1_795_415_456_125_000_000,
            used_permille=0,
            power=f.HostPower(state=1, reason="on battery", runtime_s=600, charge_percent=80),
        ),
    ),
    f.Farewell(reason="power"),
]


def changed(message: f.FlushMessage, **fields: Any) -> list[bytes]:
    """Write a message with some header fields changed; None removes one."""
    header, *payload = f.encode_message(message)
    table = {**json.loads(bytes(header)), **fields}
    table = {name: value for name, value in table.items() if value is not None}
    return [json.dumps(table).encode(), *(bytes(part) for part in payload)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_wire(message: f.FlushMessage) -> None:
    assert f.parse_message(f.encode_message(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_an_unknown_field_is_refused(message: f.FlushMessage) -> None:
    with pytest.raises(FrameFormatError):
        f.parse_message(changed(message, surplus=1))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_missing_or_surplus_payload_is_refused(message: f.FlushMessage) -> None:
    frames = f.encode_message(message)
    with pytest.raises(FrameFormatError):
        f.parse_message(frames[:1] if len(frames) == 2 else [*frames, b"surplus"])


@pytest.mark.parametrize(
    ("index", "fields"),
    [
        (0, {"recorder_id": "../rec"}),
        (0, {"protocol": "1"}),
        (2, {"reason": "a\nb"}),
        (2, {"reason": "x" * (f.REASON_LIMIT + 1)}),
        (4, {"name": "../../etc/passwd"}),
        (4, {"name": "another.wav"}),
        (4, {"name": f"{ID}.wav/../x"}),
        (4, {"name": f"../x-{ID}.wav"}),
        (4, {"name": f"x-{ID}-y.wav"}),
        (4, {"offset_bytes": -1}),
        (4, {"offset_bytes": True}),
        (4, {"window_chunks": f.WINDOW_LIMIT_CHUNKS + 1}),
        (4, {"rewind": 1}),
        (4, {"recording_id": "a/b"}),
        (5, {"sha256": "AB" * 32}),
        (7, {"code": "Not a code"}),
        (7, {"type": "refuse"}),
        (8, {"name": "../20261128T130000Z.json"}),
        (8, {"name": "20261128T130000Z.json\n"}),
        (8, {"sha256": ""}),
        (9, {"refusal": "a\nb"}),
        (9, {"refusal": None}),
        (10, {"number": 2**63}),
        (10, {"number": None}),
        (12, {"recordings": f.RECORDINGS_LIMIT + 1}),
        (12, {"window_bytes": -1}),
        (12, {"packings": ["Zip!"]}),
        (12, {"reason": None}),
        (14, {"sha256": "00"}),
        (14, {"size_bytes": 9}),
        (15, {"packing": ""}),
        (15, {"size_bytes": f.CHUNK_LIMIT_BYTES + 1}),
        (15, {"size_bytes": None}),
        (16, {"host": {"clock_utc_ns": 1, "used_permille": 1001}}),
        (16, {"host": {"clock_utc_ns": 1, "used_permille": 1, "power": {"state": 4, "reason": ""}}}),
        (16, {"host": "here"}),
        (18, {"reason": "a\nb"}),
    ],
)
def test_a_field_out_of_bounds_is_refused(index: int, fields: dict[str, Any]) -> None:
    with pytest.raises(FrameFormatError):
        f.parse_message(changed(MESSAGES[index], **fields))


def test_an_offer_needs_every_file_that_verification_needs_and_each_once() -> None:
    for files in (FILES[1:], FILES[:-1], (*FILES, FILES[0])):
        with pytest.raises(FrameFormatError):
            f.parse_message(f.encode_message(f.Offer(recording_id=ID, files=files)))


def test_a_chunk_beyond_the_limit_is_refused() -> None:
    chunk = f.Chunk(
        recording_id=ID, name=AUDIO, offset_bytes=0, sha256=SHA, payload=bytes(f.CHUNK_LIMIT_BYTES + 1)
    )
    with pytest.raises(FrameFormatError):
        f.parse_message(f.encode_message(chunk))


def test_the_largest_offer_fits_its_header() -> None:
    surplus = f.FILES_LIMIT - len(FILES)
    long = [f"{ID}.{number:05d}".ljust(128, "x") for number in range(surplus)]
    files = (*FILES, *(f.OfferedFile(name=name, size_bytes=2**63 - 1, sha256=SHA) for name in long))
    offer = f.Offer(recording_id=ID, files=files)
    assert f.parse_message(f.encode_message(offer)) == offer


def test_any_text_becomes_a_reason_that_travels() -> None:
    reason = f.plain_reason("a\nb\ud800" + "x" * 5000)
    message = f.Unwelcome(reason=reason)
    assert f.parse_message(f.encode_message(message)) == message


def a_receipt() -> Receipt:
    """Make a receipt with a signature that nobody checks here."""
    body = ReceiptBody(
        recording_id=ID,
        recorder_id="rec-1",
        manifest_sha256=SHA,
        files=(ReceiptFile(name=AUDIO, sha256=SHA),),
        archive_id="arc-1",
        sequence=1,
        archived_at="2026-11-23T06:22:36.125Z",
    )
    return Receipt(body=body, signature=b"\x30\x01\x02")


def test_a_receipt_survives_the_disk() -> None:
    assert parse_receipt(encode_receipt(a_receipt())) == a_receipt()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"sequence":1', b'"sequence":0'),
        (b'"sequence":1', b'"sequence": 1'),
        (b'"recorder_id":"rec-1"', b'"recorder_id":"../1"'),
        (b'"signature":"', b'"signature":"!'),
        (b'"body":', b'"bodies":'),
        (b'"receipt_version":1', b'"receipt_version":2'),
    ],
)
def test_a_receipt_that_is_not_one_is_refused(old: bytes, new: bytes) -> None:
    raw = encode_receipt(a_receipt())
    assert old in raw
    with pytest.raises(ReceiptFormatError):
        parse_receipt(raw.replace(old, new))


def test_an_offer_has_audio_and_its_signature_or_neither() -> None:
    small = tuple(row for row in FILES if not row.name.startswith(AUDIO))
    tombstone = f.Offer(recording_id=ID, files=small)
    assert f.parse_message(f.encode_message(tombstone)) == tombstone
    for row in FILES:
        if row.name.startswith(AUDIO):
            with pytest.raises(FrameFormatError, match="is missing"):
                f.parse_message(f.encode_message(f.Offer(recording_id=ID, files=(*small, row))))
