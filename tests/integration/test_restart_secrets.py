"""Calls of which nobody may read or hear all go on over a kill as others do; so does a call's last word."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import speech as encoding
from tests.support.g711_reference import decode
from tests.support.programs import wait_until
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.restarts import PCMA, Unit, speech, unit
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, siprec_call
from tests.support.tones import human_speech, over_speech, textbook_keys, to_int16

RATE_HZ = 8000
TONE_MS = 60
PACKETS = 550
RULES = """
[encryption.bank]
recipients = ["{recipient}"]

[[rules]]
name = "bank"
mode = "always"
callees = ["3003"]
encrypt = "bank"

[[rules]]
name = "card"
mode = "always"
callees = ["4004"]
mask_dtmf = true

[[rules]]
name = "others"
mode = "always"
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Unit]:
    with unit(tmp_path) as running:
        yield running


def _keys_in_memory(pid: int) -> bytes:
    """What stands in the memory file that systemd holds for the recorder."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if "memfd:recorderd-keys" in str(link.readlink()):
            return link.read_bytes()
    raise AssertionError("no memory file with keys")


def _files_with(folder: Path, secret: bytes) -> list[Path]:
    """Name the files that hold a secret, as it is or in hexadecimal digits."""
    forms = (secret, secret.hex().encode(), secret.hex().upper().encode())
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    files = (path for path in files if path.name != "reserve" and path.suffix != ".py")  # 64 MB of nothing
    return [path for path in files if any(form in path.read_bytes() for form in forms)]


def _card_number() -> tuple[bytes, list[int]]:
    """Speech with a key every 200 ms, and where they lie."""
    said = human_speech("en_US_f_Allison")[60 * RATE_HZ :][: PACKETS * 160]
    places = [(key, RATE_HZ // 2 + turn * RATE_HZ // 5) for turn, key in enumerate(50 * "1")]
    laid = to_int16(over_speech(said, places, snr_db=15, duration_ms=TONE_MS))
    return encoding.encode_a_law(laid), [at for _, at in places]


def test_an_encrypted_and_a_masked_call_go_on_over_two_kills_and_no_key_comes_to_a_disk(
    running: Unit, tmp_path: Path
) -> None:
    house = running.house
    recipient = make_recipient(house.folder, "bank")
    house.recorder_toml.write_text(house.recorder_toml.read_text() + RULES.format(recipient=recipient))
    running.restart()
    payload, tones = _card_number()
    with SipClient(server=house.server) as client:
        bank = siprec_call(client, callee="3003", codecs=("PCMA",), session_id=32 * "b")
        card = siprec_call(client, callee="4004", codecs=("PCMA",), session_id=32 * "c")
        secret = RtpStream(port=bank.lines[0].port, payload_type=PCMA, payload=speech(2, PACKETS))
        number = RtpStream(port=card.lines[0].port, payload_type=PCMA, payload=payload)
        talk = threading.Thread(target=send_streams, args=([secret, number],))
        talk.start()
        time.sleep(2)
        wrapped = next((house.folder / "spool" / "drafts").glob("*/*.key.p7m"))
        content_key = openssl_opens(wrapped, recipient, out=None)
        assert content_key is not None
        wrapped.with_suffix(".opened").unlink()
        assert content_key in _keys_in_memory(running.pid)
        for _ in range(2):
            running.signal(signal.SIGKILL)
            assert content_key in _keys_in_memory(running.pid)
            assert _files_with(tmp_path, content_key) == []
            time.sleep(1)
        talk.join()
        assert [call.bye().code for call in (bank, card)] == [200, 200]
        recordings = running.sealed(2)
    wait_until(lambda: content_key not in _keys_in_memory(running.pid), what="the key is forgotten")
    assert _files_with(tmp_path, content_key) == []
    for recorded in recordings.values():
        assert recorded.manifest["recovered"] is False
        reasons = [row["reason"] for row in recorded.manifest["controls"]]
        assert reasons == ["0 samples lost"] * 2
        (entry,) = recorded.streams()
        assert (entry["packets_received"], entry["packets_lost"]) == (PACKETS, 0)
    exact, masked = recordings[32 * "b"], recordings[32 * "c"]
    opened = house.folder / "opened.wav"
    openssl_opens(next(exact.folder.glob("*.wav.p7m")), recipient, out=opened)
    heard = soundfile.read(opened, dtype="int16", always_2d=True)[0][:, 0]
    first = exact.streams()[0]["first_sample"]
    assert np.array_equal(heard[first:][: PACKETS * 160], decode(secret.payload, law="PCMA"))
    samples, (entry,) = masked.samples()[0][:, 0], masked.streams()
    sent = decode(payload, law="PCMA")
    assert len(textbook_keys(sent, rate_hz=RATE_HZ)) > 35
    assert textbook_keys(samples.copy(), rate_hz=RATE_HZ) == ""
    wanted, hidden = np.zeros(samples.size, np.int16), np.zeros(samples.size, bool)
    first = entry["first_sample"]
    wanted[first : first + sent.size] = sent
    for gap in entry["gaps"]:
        low, high = gap["start_samples"], gap["start_samples"] + gap["length_samples"]
        wanted[low:high] = 0
        hidden[low:high] |= gap["cause"] == "masked"
    assert np.array_equal(samples, wanted)
    assert all(hidden[first + at : first + at + TONE_MS * 8].all() for at in tones)
    assert hidden.sum() < len(tones) * (TONE_MS + 25) * 8


def test_the_last_word_before_a_bye_is_kept_when_the_kill_comes_right_after_it(running: Unit) -> None:
    calls: list[Call] = []
    with SipClient(server=running.house.server) as client:
        for number in range(8):
            calls.append(siprec_call(client, codecs=("PCMA",), session_id=f"{number:032x}"))
        streams = [
            RtpStream(port=call.lines[0].port, payload_type=PCMA, payload=speech(number, 100))
            for number, call in enumerate(calls)
        ]
        send_streams(streams)
        stays = calls.pop()
        answers = [call.bye().code for call in calls]
        running.signal(signal.SIGKILL)
        refresh = {**stays._dialog(), "Supported": "timer", "Session-Expires": "1800;refresher=uac"}
        for body, code in ((b"", 200), (b"v=0", 481)):  # one keeps the dialog alive, one would change it
            how = {"call_id": stays.call_id, "cseq": stays.cseq, "uri": stays.target, "body": body}
            answer = client.request("UPDATE", headers=refresh, **how)
            stays.cseq += 1
            assert (answer.code, answer.header("Session-Expires")) == (
                code,
                "1800;refresher=uac" if code == 200 else "",
            )
        assert stays.bye().code == 200
        calls.append(stays)
    assert set(answers) == {200}
    recordings = running.sealed(len(calls))
    for number, stream in enumerate(streams):
        recorded = recordings[f"{number:032x}"]
        (entry,) = recorded.streams()
        sent = decode(stream.payload, law="PCMA")
        assert np.array_equal(recorded.samples()[0][entry["first_sample"] :][: sent.size, 0], sent), entry
        assert (entry["packets_received"], recorded.manifest["recovered"]) == (100, False)
