"""`make demo`: one call from the exchange's INVITE to the verified recording in the archive.

Everything is real: SIP, RTP, the three programs, openssl. Only the exchange is played, by the test's
session recording client. Fails when any step failed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from dsp.levels import Level, envelope_dbfs, gather
from tests.support.house import House, Recorded
from tests.support.programs import ROOT, Program
from tests.support.rtp_sender import RtpStream, Sent, send_streams
from tests.support.sip_client import SipClient, siprec_call
from tests.support.speech import RATE_HZ, dialogue, encode_a_law

FOLDER = ROOT / "build" / "demo"
CALLER, CALLEE = "+442079460101", "2002"
TURNS = [
    (0, "Good morning. I would like to buy two hundred shares of Northern Rail."),
    (1, "Good morning. Two hundred Northern Rail, at the market. Shall I place the order?"),
    (0, "Yes, please. At the market."),
    (1, "Your order is placed. Thank you for calling."),
]
COLUMNS = 72
BARS = " ▁▂▃▄▅▆▇█"


def main() -> int:
    """Run the demo; returns the exit code."""
    started_s = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    step("speech: espeak-ng says both sides of a call")
    tracks = dialogue(TURNS, voices=("en-gb", "en-us"))
    step(f"set-up: recorderctl quickstart {FOLDER.relative_to(ROOT)}")
    with House(FOLDER) as house:
        step("start: recorder-archive, recorderd, recorderd-flush")
        archive, recorder, flush = house.all()
        call_s = tracks[0].size / RATE_HZ
        step(f"call: SIPREC INVITE, {CALLER} talks to {CALLEE} for {call_s:.1f} s")
        sent = place_call(house, tracks)
        step(f"sent {sent.packets} RTP packets; waiting for the seal, the transfer and the receipt")
        row = house.wait_archived(1)[0]
        flush.wait_for("receipt_verified", row["id"])
        recorded = house.export(row["id"])
        good = report(house, row, recorded, sent)
        for program in (flush, recorder, archive):
            good &= stopped_well(program)
    print()
    print(f"{'verified' if good else 'NOT VERIFIED'} ({time.monotonic() - started_s:.0f} s)")
    return 0 if good else 1


def step(text: str) -> None:
    """Say what happens now."""
    print(f"==> {text}", flush=True)


def place_call(house: House, tracks: tuple[np.ndarray, np.ndarray]) -> Sent:
    """Place the call and show its progress from the recorder's own status."""
    with SipClient(server=house.server) as client:
        call = siprec_call(client, codecs=("PCMA", "PCMA"), caller=CALLER, callee=CALLEE)
        if call.response is None or call.response.code != 200:
            raise SystemExit(f"the recorder refused the call: {call.response}")
        print(
            f"    200 OK after {1000 * call.answer_delay_s:.0f} ms, "
            f"ports {[line.port for line in call.lines]}"
        )
        streams = [
            RtpStream(port=line.port, payload_type=8, payload=encode_a_law(track))
            for line, track in zip(call.lines, tracks, strict=True)
        ]
        done = threading.Event()
        watcher = threading.Thread(target=watch, args=(house, done))
        watcher.start()
        try:
            sent = send_streams(streams)
        finally:
            done.set()
            watcher.join()
        call.bye()
    return sent


def watch(house: House, done: threading.Event) -> None:
    """Show the session's counters while it runs."""
    while not done.wait(0.7):
        sessions = house.status()["recorder"].get("sessions", [])
        for session in sessions:
            streams = ", ".join(
                f"{s['label']}: {s['packets_received']} packets, {s['packets_lost']} lost, {s['rms_dbfs']} dB"
                for s in session["streams"]
            )
            line = f"    recorded {session['recorded_s']:5.1f} s   {streams}"
            print(
                f"\r{line:<100}" if sys.stdout.isatty() else line,
                end="" if sys.stdout.isatty() else "\n",
                flush=True,
            )
    if sys.stdout.isatty():
        print()


def report(house: House, row: dict[str, Any], recorded: Recorded, sent: Sent) -> bool:
    """Print what lies in the archive and what openssl says of it; True when all of it is right."""
    samples, _rate_hz = recorded.samples()
    stored = house.folder / "archive" / row["path"] / recorded.wav.name
    print()
    print(f"recording   {row['id']}")
    print(f"lies at     {stored.relative_to(ROOT)}")
    print(f"exported to {recorded.wav.relative_to(ROOT)}")
    print(f"duration    {row['duration_s']:.3f} s, {row['channels']} channels, {row['sample_rate_hz']} Hz")
    received = sum(stream["packets_received"] for stream in recorded.manifest["streams"])
    print(f"packets     {received} of {sent.packets} received")
    names = {entry["participant_id"]: entry["number"] for entry in recorded.manifest["participants"]}
    good = received == sent.packets and samples.shape[1] == 2
    for channel in range(samples.shape[1]):
        who = " ".join(
            names.get(participant, "")
            for stream in recorded.manifest["streams"]
            if stream["channel"] == channel
            for participant in stream["participant_ids"]
        )
        level = gather(Level(), samples[:, channel])
        good &= level.rms_dbfs > -60
        print(
            f"channel {channel + 1}   {who}: peak {level.peak_dbfs:.1f} dBFS, rms {level.rms_dbfs:.1f} dBFS"
        )
        print(f"    {draw(samples[:, channel])}")
    for content in (recorded.wav, recorded.manifest_path):
        good &= judge(content, house.folder / "keys" / "signing-cert.pem")
    return good


def judge(content: Path, certificate: Path) -> bool:
    """Let openssl check one file, showing the command."""
    folder = content.parent.relative_to(ROOT)
    command = [
        *("openssl", "cms", "-verify", "-binary", "-cades", "-inform", "DER"),
        *("-in", f"{content.name}.p7s", "-content", content.name),
        *("-CAfile", os.path.relpath(certificate, content.parent), "-purpose", "any", "-out", "/dev/null"),
    ]
    print(f"\n$ cd {folder}\n$ {' '.join(command)}")
    verdict = subprocess.run(command, capture_output=True, text=True, cwd=content.parent, check=False)
    print(f"  {verdict.stderr.strip() or verdict.stdout.strip()}")
    return verdict.returncode == 0


def draw(samples: np.ndarray) -> str:
    """Draw an envelope: -50 dBFS and less is empty, 0 dBFS is full."""
    heights = [round((level + 50) / 50 * (len(BARS) - 1)) for level in envelope_dbfs(samples, points=COLUMNS)]
    return "".join(BARS[max(0, height)] for height in heights)


def stopped_well(program: Program) -> bool:
    """Stop a program; False when it complained."""
    code = program.stop()
    if code != 0:
        print(f"a program ended with {code}:\n{program.text()}")
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
