"""An encrypted class through all programs: nobody but its recipient hears it, and everybody can verify it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import g711_reference
from tests.support.house import House, Recorded, run_program
from tests.support.programs import wait_until
from tests.support.recipients import make_recipient, openssl_opens
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, siprec_call

RULES = """
[encryption.bank]
recipients = [{recipients}]

[[rules]]
name = "bank"
mode = "always"
encrypt = "bank"
"""
PATTERN_SAMPLES = 16


def _house(folder: Path, *recipients: Path) -> House:
    return House(folder, extra=RULES.format(recipients=", ".join(f'"{path}"' for path in recipients)))


def _talk(client: SipClient, packets: int) -> tuple[Call, list[RtpStream]]:
    call = siprec_call(client)
    streams = [
        RtpStream(port=line.port, payload_type=8, payload=os.urandom(160 * packets)) for line in call.lines
    ]
    send_streams(streams)
    return call, streams


def _heard(stream: RtpStream) -> np.ndarray:
    return g711_reference.decode(stream.payload, law="PCMA")


def _patterns(streams: list[RtpStream]) -> tuple[list[bytes], list[bytes]]:
    """Cut out of what was said: as it came, and decoded."""
    places, octets, samples = range(4000, 8000, 800), list[bytes](), list[bytes]()
    for stream in streams:
        heard = _heard(stream).astype("<i2")
        octets += [stream.payload[at : at + PATTERN_SAMPLES] for at in places]
        samples += [heard[at : at + PATTERN_SAMPLES].tobytes() for at in places]
    return octets, samples


def _shows(content: bytes, patterns: tuple[list[bytes], list[bytes]]) -> bool:
    """Tell whether octets hold what was said: as it came, or decoded, alone or beside another channel."""
    known, decoded = patterns
    if not content.strip(b"\0"):  # what the spool keeps in reserve
        return False
    if any(pattern in content for pattern in known):
        return True
    for shift in (0, 1):
        samples = np.frombuffer(content[shift : len(content) - (len(content) - shift) % 2], dtype="<i2")
        for row in (samples, samples[0::2], samples[1::2]):
            octets = row.tobytes()
            if any(pattern in octets for pattern in decoded):
                return True
    return False


@contextmanager
def _copied(folder: Path) -> Iterator[dict[str, bytes]]:
    """Copy what a folder holds each 100 ms; each different content once."""
    copies: dict[str, bytes] = {}
    done = threading.Event()

    def copy() -> None:
        while not done.wait(0.1):
            for path in list(folder.rglob("*")):
                try:
                    content = path.read_bytes()
                except OSError:  # a folder, or gone
                    continue
                copies[f"{path.name}-{hashlib.sha256(content).hexdigest()}"] = content

    thread = threading.Thread(target=copy)
    thread.start()
    try:
        yield copies
    finally:
        done.set()
        thread.join()


def _draft_bytes(house: House) -> int:
    drafts = (house.folder / "spool" / "drafts").glob("*/*.wav.draft")
    return max((path.stat().st_size for path in drafts), default=0)


def _matches(samples: np.ndarray, recorded: Recorded, streams: list[RtpStream]) -> bool:
    for channel, entry in enumerate(recorded.streams()):
        heard = samples[entry["first_sample"] :, channel]
        said = [_heard(stream) for stream in streams]
        lengths = [min(len(heard), len(row)) for row in said]
        if not any(np.array_equal(heard[:n], row[:n]) for n, row in zip(lengths, said, strict=True)):
            return False
    return True


@dataclass(frozen=True)
class Played:
    """Two calls of an encrypted class: one that ended, one that a kill cut off."""

    house: House
    certificates: list[Path]
    copies: dict[str, bytes]
    ended: Recorded
    ended_streams: list[RtpStream]
    killed: Recorded
    killed_streams: list[RtpStream]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("encrypted")
    certificates = [make_recipient(folder, "rsa", kind="rsa-3072"), make_recipient(folder, "ec")]
    with _house(folder / "house", *certificates) as house:
        _, recorder, _ = house.all()
        with _copied(house.folder) as copies:
            with SipClient(server=house.server) as client:
                call, ended = _talk(client, 60)
                call.bye()
                _, killed = _talk(client, 110)
                wait_until(lambda: _draft_bytes(house) > 8000 * 4, what="a second of the call is on disk")
                recorder.kill()
            house.recorder()
            rows = house.wait_archived(2)
        exported = [house.export(row["id"]) for row in sorted(rows, key=lambda row: row["sequence"])]
        yield Played(house, certificates, copies, exported[0], ended, exported[1], killed)


def test_no_copy_of_any_disk_at_any_moment_shows_a_word(played: Played) -> None:
    assert any(".wav.draft-" in name for name in played.copies)
    assert any(".wav.p7m-" in name for name in played.copies)
    said = _patterns(played.ended_streams + played.killed_streams)
    assert not [name for name, content in played.copies.items() if _shows(content, said)]


def test_each_recipient_hears_the_call_and_openssl_verifies_what_it_opened(
    played: Played, tmp_path: Path
) -> None:
    recorded = played.ended
    assert "verified" in run_program("recorderctl", "verify", recorded.folder).stdout
    (envelope,) = recorded.folder.glob("*.wav.p7m")
    wav = tmp_path / envelope.stem
    wav.with_name(f"{wav.name}.p7s").write_bytes(envelope.with_suffix(".p7s").read_bytes())
    for certificate in played.certificates:
        assert openssl_opens(envelope, certificate, out=wav) == b""
        assert _shows(wav.read_bytes(), _patterns(played.ended_streams))
        samples, _ = soundfile.read(wav, dtype="int16", always_2d=True)
        assert _matches(samples, recorded, played.ended_streams)
        signing = played.house.folder / "keys" / "signing-cert.pem"
        assert recorded.openssl_verifies(wav, certificate=signing)


def test_a_call_that_a_kill_cut_off_opens_up_to_the_last_second(played: Played, tmp_path: Path) -> None:
    recorded = played.killed
    assert recorded.manifest["recovered"]
    assert "verified" in run_program("recorderctl", "verify", recorded.folder).stdout
    (container,) = recorded.folder.glob("*.wav.draft")
    certificate = played.certificates[1]
    key = ("--key", certificate.with_suffix(".key"), "--certificate", certificate)
    run_program("recorderctl", "open", container, *key, "--out", tmp_path)
    samples, _ = soundfile.read(tmp_path / container.stem, dtype="int16", always_2d=True)
    assert len(samples) == recorded.manifest["duration_samples"] > 0.7 * 8000
    assert _matches(samples, recorded, played.killed_streams)


def test_recipients_that_do_not_do_stop_the_recorder_before_the_first_call(tmp_path: Path) -> None:
    weak = make_recipient(tmp_path, "weak", kind="rsa-3072", new_key="rsa:2048")
    house = _house(tmp_path / "house", weak)
    checked = run_program("recorderd", "check-config", "--config", house.recorder_toml, check=False)
    assert checked.returncode == 78
    assert "encryption.bank.recipients" in checked.stderr
    assert "RSA of 2048 bits, 3072 are needed" in checked.stderr
