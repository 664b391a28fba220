"""Laws of the link: any bytes parse or raise; no order of events deletes a copy without a verified receipt;
no order of chunks writes anything but each byte once, in order."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.archive import intake as i
from recorderd.core.errors import FrameFormatError, ReceiptFormatError, RecorderError
from recorderd.flush import delivery as d
from recorderd.wire import frames as f
from recorderd.wire.names import required_names
from recorderd.wire.receipt import parse_receipt

ID = "20261123T062236-5f3c9a1e77d0"
SHA = "0" * 64
SIZES = (30, 0, 10, 5, 100)
FILES = tuple(
    f.OfferedFile(name=name, size_bytes=size_bytes, sha256=SHA)
    for name, size_bytes in zip(
        required_names(ID, audio=f"20261123062236-1-2-internal-{ID}.wav"), SIZES, strict=True
    )
)
NAMES = [entry.name for entry in FILES]

VALID: list[dict[str, Any]] = [
    {"type": "hello", "recorder_id": "rec-1", "protocol": 1},
    {"type": "welcome", "archive_id": "arc-1", "protocol": 1},
    {"type": "unwelcome", "reason": "no"},
    {"type": "offer", "recording_id": ID, "files": [asdict(entry) for entry in FILES]},
    {
        "type": "credit",
        "recording_id": ID,
        "name": NAMES[0],
        "offset_bytes": 0,
        "window_chunks": 1,
        "rewind": True,
    },
    {"type": "chunk", "recording_id": ID, "name": NAMES[0], "offset_bytes": 0, "sha256": SHA},
    {"type": "receipt", "recording_id": ID},
    {"type": "refused", "recording_id": ID, "code": "digest", "reason": "no", "retryable": False},
    {"type": "ping", "number": 1},
]
texts = st.text(alphabet="aé/.\n\ud800", max_size=6) | st.sampled_from([ID, SHA, *NAMES])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
json_values: st.SearchStrategy[Any] = scalars | st.lists(
    st.dictionaries(st.sampled_from(["name", "size_bytes", "sha256"]), scalars, max_size=3), max_size=6
)
headers = st.builds(
    lambda valid, changes: json.dumps({**valid, **changes}).encode(),
    st.sampled_from(VALID),
    st.dictionaries(
        st.sampled_from(sorted({key for table in VALID for key in table})), json_values, max_size=2
    ),
)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_any_frames_parse_or_raise_frame_format_error(frames: list[bytes]) -> None:
    with suppress(FrameFormatError):
        f.parse_message(frames)


@given(headers, st.lists(st.binary(max_size=20), max_size=1))
def test_any_header_parses_or_raises_and_what_parses_survives_again(header: bytes, rest: list[bytes]) -> None:
    with suppress(FrameFormatError):
        message = f.parse_message([header, *rest])
        assert f.parse_message(f.encode_message(message)) == message


@given(st.binary(max_size=300) | headers)
def test_any_receipt_parses_or_raises_receipt_format_error(raw: bytes) -> None:
    with suppress(ReceiptFormatError):
        parse_receipt(raw)


credits = st.builds(
    f.Credit,
    recording_id=st.just(ID),
    name=st.sampled_from([*NAMES, f"{ID}.other"]),
    offset_bytes=st.integers(0, 110),
    window_chunks=st.integers(0, 4),
    rewind=st.booleans(),
)
delivery_events: st.SearchStrategy[d.Event | f.Credit] = st.one_of(
    credits,
    st.builds(d.Offered),
    st.builds(d.AllChunksAcked),
    st.builds(d.Postponed, retry_ns=st.just(5)),
    st.builds(d.RetryDue),
    st.builds(d.RejectedForGood, reason=st.just("no")),
    st.builds(d.LinkLost),
    st.builds(d.GraceOver),
    st.builds(d.EffectFailed, retry_ns=st.just(5)),
)
fresh_delivery = d.Delivery(recording_id=ID, files=FILES, chunk_bytes=8)


@given(st.lists(delivery_events | st.builds(d.ReceiptVerified, receipt=st.just(b"r"), keep_ns=st.just(1))))
def test_no_order_of_events_releases_without_a_verified_receipt(events: list[d.Event | f.Credit]) -> None:
    delivery, verified = fresh_delivery, False
    for now_ns, given_event in enumerate(events):
        event: d.Event | None
        if isinstance(given_event, f.Credit):
            event = d.credit_event(delivery, given_event, retry_ns=5)
        else:
            event = given_event
        if event is None:
            continue
        before = delivery.state
        try:
            delivery, effects = d.step(delivery, event, now_ns=now_ns)
        except RecorderError:
            assert (before, type(event)) not in d.EDGES
            continue
        stores = any(isinstance(effect, d.StoreReceipt) for effect in effects)
        assert stores == (isinstance(event, d.ReceiptVerified) and (before, type(event)) not in d.IGNORED)
        verified = verified or stores
        if any(isinstance(effect, d.Release) for effect in effects):
            assert verified and before is d.State.ARCHIVED


@given(st.lists(delivery_events))
def test_without_a_receipt_nothing_is_ever_released(events: list[d.Event | f.Credit]) -> None:
    delivery = fresh_delivery
    for event in events:
        found = d.credit_event(delivery, event, retry_ns=5) if isinstance(event, f.Credit) else event
        if found is None:
            continue
        with suppress(RecorderError):
            delivery, effects = d.step(delivery, found, now_ns=0)
            assert not any(isinstance(effect, d.Release) for effect in effects)
    assert delivery.state not in (d.State.ARCHIVED, d.State.RELEASED)


@given(st.lists(credits))
def test_chunks_stay_within_their_file_and_window(given_credits: list[f.Credit]) -> None:
    delivery, _ = d.step(fresh_delivery, d.Offered(), now_ns=0)
    sizes_bytes = dict(zip(NAMES, SIZES, strict=True))
    for credit in given_credits:
        event = d.credit_event(delivery, credit, retry_ns=5)
        if not isinstance(event, d.CreditGranted) or delivery.state not in d.ACTIVE:
            continue
        delivery, effects = d.step(delivery, event, now_ns=0)
        for effect in effects:
            assert isinstance(effect, d.SendChunk)
            assert effect.name == credit.name and 0 < effect.size_bytes <= delivery.chunk_bytes
            assert effect.offset_bytes + effect.size_bytes <= sizes_bytes[credit.name]
            assert credit.offset_bytes <= effect.offset_bytes
            assert effect.offset_bytes < credit.offset_bytes + credit.window_chunks * delivery.chunk_bytes


UPLOAD_SIZES = {NAMES[0]: 6, NAMES[1]: 0, NAMES[2]: 8}
UPLOAD = tuple(
    f.OfferedFile(name=name, size_bytes=size_bytes, sha256=SHA) for name, size_bytes in UPLOAD_SIZES.items()
)
chunks = st.builds(
    i.ChunkArrived,
    name=st.sampled_from([NAMES[0], NAMES[2], NAMES[2], f"{ID}.other"]),
    offset_bytes=st.integers(0, 8),
    size_bytes=st.integers(0, 5),
    intact=st.sampled_from([True, True, True, False]),
)


@settings(max_examples=400)
@given(st.lists(chunks, max_size=40), st.lists(st.integers(0, 9), min_size=3, max_size=3), st.data())
def test_no_order_of_chunks_writes_a_byte_out_of_place(
    arriving: list[i.ChunkArrived], found: list[int], data: st.DataObject
) -> None:
    intake = i.Intake(recording_id=ID, files=UPLOAD)
    upload, effects = i.step(intake, i.PartsFound(sizes_bytes=tuple(found)))
    stands = dict(zip(UPLOAD_SIZES, found, strict=True))
    events: list[i.Event] = list(arriving)
    while upload.state is i.State.RECEIVING:
        for effect in effects:
            if isinstance(effect, i.CheckFile):
                assert stands[effect.name] == UPLOAD_SIZES[effect.name]
                matches = data.draw(st.booleans())
                events.insert(0, i.FileMatched() if matches else i.FileDiffers(sha256="1" * 64))
            elif isinstance(effect, i.RestartPart):
                stands[effect.name] = 0
        if not events:
            return
        event, current = events.pop(0), upload.current
        upload, effects = i.step(upload, event)
        if any(isinstance(effect, i.WriteChunk) for effect in effects):
            assert isinstance(event, i.ChunkArrived) and event.intact and event.name == current.name
            assert event.offset_bytes == stands[event.name]
            stands[event.name] += event.size_bytes
            assert stands[event.name] <= current.size_bytes
    verifies = any(isinstance(effect, i.Verify) for effect in effects)
    assert verifies == (upload.state is i.State.VERIFYING)
    if verifies:
        assert stands == UPLOAD_SIZES


@given(st.sampled_from(sorted(d.ACTIVE, key=lambda state: state.value)))
def test_a_lost_link_makes_whatever_was_under_way_ready_again(state: d.State) -> None:
    under_way = replace(fresh_delivery, state=state, name=NAMES[2], acked_bytes=8, next_bytes=10, rewinds=3)
    ready, effects = d.step(under_way, d.LinkLost(), now_ns=0)
    assert (ready.state, effects) == (d.State.READY, ())
    offered, effects = d.step(ready, d.Offered(), now_ns=0)
    assert effects == (d.SendOffer(),)
    assert (offered.name, offered.acked_bytes, offered.next_bytes, offered.rewinds) == ("", 0, 0, 0)
