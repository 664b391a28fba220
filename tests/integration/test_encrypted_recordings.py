"""An encrypted class through all programs: nobody but its recipient hears it, and everybody can verify it."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from tests.support import g711_reference
from tests.support.house import House, Recorded, run_program
from tests.support.recipients import keyring, make_recipient, openssl_opens
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


def _shows(content: bytes, streams: list[RtpStream]) -> bool:
    """Tell whether octets hold what was said: as it came, or decoded, alone or beside another channel."""
    known = [stream.payload[at : at + PATTERN_SAMPLES] for stream in streams for at in range(4000, 8000, 800)]
    if any(pattern in content for pattern in known):
        return True
    patterns = [
        _heard(stream)[at : at + PATTERN_SAMPLES].astype("<i2").tobytes()
        for stream in streams
        for at in range(4000, 8000, 800)
    ]
    for shift in (0, 1):
        samples = np.frombuffer(content[shift : len(content) - (len(content) - shift) % 2], dtype="<i2")
        for row in (samples, samples[0::2], samples[1::2]):
            octets = row.tobytes()
            if any(pattern in octets for pattern in patterns):
                return True
    return False


@contextmanager
def _copied(folders: list[Path]) -> Iterator[dict[str, bytes]]:
    """Copy what the folders hold each 100 ms; each different content once."""
    copies: dict[str, bytes] = {}
    done = threading.Event()

    def copy() -> None:
        while not done.wait(0.1):
            for path in [path for folder in folders for path in folder.rglob("*")]:
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


def _matches(samples: np.ndarray, recorded: Recorded, streams: list[RtpStream]) -> bool:
    for channel, entry in enumerate(recorded.streams()):
        heard = samples[entry["first_sample"] :, channel]
        said = [_heard(stream) for stream in streams]
        lengths = [min(len(heard), len(row)) for row in said]
        if not any(np.array_equal(heard[:n], row[:n]) for n, row in zip(lengths, said, strict=True)):
            return False
    return True


def test_a_call_of_an_encrypted_class_is_never_in_clear_and_its_recipient_hears_it(tmp_path: Path) -> None:
    certificates = [make_recipient(tmp_path, "rsa", kind="rsa-3072"), make_recipient(tmp_path, "ec")]
    with _house(tmp_path / "house", *certificates) as house:
        house.all()
        with _copied([house.folder]) as copies, SipClient(server=house.server) as client:
            call, streams = _talk(client, 100)
            call.bye()
            (row,) = house.wait_archived(1)
            time.sleep(0.3)
        assert any(name.startswith(f"{row['id']}.wav.draft-") for name in copies)
        assert not [name for name, content in copies.items() if _shows(content, streams)]
        recorded = house.export(row["id"])
        verified = run_program("recorderctl", "verify", recorded.folder)
        assert "verified" in verified.stdout
        (envelope,) = recorded.folder.glob("*.wav.p7m")
        signature = envelope.with_suffix(".p7s")
        wav = tmp_path / envelope.stem
        for certificate in certificates:
            assert openssl_opens(envelope, certificate, out=wav) == b""
            assert _shows(wav.read_bytes(), streams)
            samples, _ = soundfile.read(wav, dtype="int16", always_2d=True)
            assert _matches(samples, recorded, streams)
        # openssl verifies what was opened with the signature that lay beside the envelope
        wav.with_name(f"{wav.name}.p7s").write_bytes(signature.read_bytes())
        assert recorded.openssl_verifies(wav, certificate=house.folder / "keys" / "signing-cert.pem")


def test_a_call_that_a_kill_cut_off_is_archived_encrypted_and_opens_up_to_the_last_second(
    tmp_path: Path,
) -> None:
    with keyring() as ring:
        public = ring.make_key(tmp_path / "x.asc", "x", ("ed25519", "cv25519"))
        with _house(tmp_path / "house", public) as house:
            recorder = house.recorder()
            with SipClient(server=house.server) as client:
                _, streams = _talk(client, 150)
                recorder.kill()
            house.all()
            (row,) = house.wait_archived(1)
            recorded = house.export(row["id"])
            assert recorded.manifest["recovered"]
            assert "verified" in run_program("recorderctl", "verify", recorded.folder).stdout
            held = [path for path in house.folder.rglob("*") if path.is_file()]
            assert not [path for path in held if _shows(path.read_bytes(), streams)]
            (container,) = recorded.folder.glob("*.wav.draft")
            wrapped = container.with_name(f"{container.stem}.key.gpg")
            (tmp_path / "key").write_bytes(ring.gpg("--decrypt", wrapped))
            command = ("recorderctl", "open", container, "--draft-key", tmp_path / "key", "--out", tmp_path)
            run_program(*command)
    samples, _ = soundfile.read(tmp_path / container.stem, dtype="int16", always_2d=True)
    assert len(samples) == recorded.manifest["duration_samples"] > 1.2 * 8000
    assert _matches(samples, recorded, streams)


def test_recipients_that_do_not_do_stop_the_recorder_before_the_first_call(tmp_path: Path) -> None:
    weak = make_recipient(tmp_path, "weak", kind="rsa-3072", new_key="rsa:2048")
    house = _house(tmp_path / "house", weak)
    checked = run_program("recorderd", "check-config", "--config", house.recorder_toml, check=False)
    assert checked.returncode == 78
    assert "encryption.bank.recipients" in checked.stderr
    assert "RSA of 2048 bits, 3072 are needed" in checked.stderr
