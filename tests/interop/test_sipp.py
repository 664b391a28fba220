"""SIPp plays recording clients: it judges our answers, the archive judges the audio that it sent."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.interop.conftest import ruled
from tests.interop.stage import Stage, number_on, numbers, offers
from tests.support import g711_reference
from tests.support.free_ports import free_port
from tests.support.house import Recorded
from tests.support.programs import wait_until

SCENARIOS = Path(__file__).parent / "sipp"
TRANSPORTS = {"udp": "u1", "tcp": "t1"}
PACKETS = 45


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ruled(tmp_path_factory.mktemp("sipp")) as stage:
        yield stage


class Played:
    """One run of SIPp with a voice of random octets."""

    def __init__(self, stage: Stage, folder: Path, name: str, transport: str, *, calls: int = 1) -> None:
        self.caller = f"+4420{secrets.randbelow(10**7):07}"
        self.callee = f"2{secrets.randbelow(10**5):05}"
        self.prefix = secrets.token_hex(6)
        self.voice = os.urandom(160 * PACKETS)
        (folder / "voice.raw").write_bytes(self.voice)
        command = [
            *("sipp", "-sf", SCENARIOS / f"{name}.xml", f"127.0.0.1:{stage.house.sip_port}"),
            *(
                "-i",
                "127.0.0.1",
                "-p",
                free_port(),
                "-mp",
                free_port(),
                "-t",
                TRANSPORTS[transport],
            ),
            *(
                "-m",
                calls,
                "-r",
                20,
                "-l",
                10,
                "-cid_str",
                f"{self.prefix}-%u",
                "-nostdin",
                "-timeout",
                "40s",
            ),
            *("-key", "caller", self.caller, "-key", "callee", self.callee),
            *("-trace_err", "-error_file", "errors.log"),
        ]
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=folder,
        )
        errors = (folder / "errors.log").read_text() if (folder / "errors.log").exists() else ""
        assert done.returncode == 0, errors[:3000] + done.stderr[-2000:] + done.stdout[-1500:]

    def call_id(self, number: int = 1) -> str:
        """Call-ID of a call."""
        return f"{self.prefix}-{number}"

    def check_heard(self, recorded: Recorded, *, channel: int = 0) -> None:
        """What SIPp sent lies whole on a channel, and nothing else does."""
        samples = recorded.samples()[0]
        decoded = g711_reference.decode(self.voice, law="PCMA")
        at = int(np.flatnonzero(samples[:, channel])[0]) - int(np.flatnonzero(decoded)[0])
        expected = np.zeros_like(samples)
        expected[at : at + decoded.size, channel] = decoded
        assert np.array_equal(samples, expected)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_late_offer_of_sipp_is_recorded(stage: Stage, tmp_path: Path, transport: str) -> None:
    played = Played(stage, tmp_path, "late_offer", transport)
    (recorded,) = stage.archived(played.call_id())
    played.check_heard(recorded)
    call = recorded.manifest["call"]
    assert {call["caller"], call["callee"]} == {played.caller, played.callee}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sipp_gets_its_labels_back(stage: Stage, tmp_path: Path, transport: str) -> None:
    played = Played(stage, tmp_path, "label_echo", transport)
    (recorded,) = stage.archived(played.call_id())
    played.check_heard(recorded)
    assert recorded.manifest["channels"] == 2
    assert (number_on(recorded, 0), number_on(recorded, 1)) == ([played.caller], [played.callee])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sipp_pauses_by_an_address_of_zeros(stage: Stage, tmp_path: Path, transport: str) -> None:
    played = Played(stage, tmp_path, "pause_by_zeros", transport)
    (recorded,) = stage.archived(played.call_id())
    played.check_heard(recorded)
    assert [entry["action"] for entry in recorded.manifest["controls"]].count("pause") == 1
    assert len(offers(recorded)) == 2
    assert numbers(recorded) == [played.caller, played.callee]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sipp_updates_the_metadata(stage: Stage, tmp_path: Path, transport: str) -> None:
    played = Played(stage, tmp_path, "metadata_update", transport)
    (recorded,) = stage.archived(played.call_id())
    played.check_heard(recorded)
    assert numbers(recorded) == [played.caller, played.callee]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_sipp_cancels_twenty_calls_too_late_and_nothing_stays_open(
    stage: Stage, tmp_path: Path, transport: str
) -> None:
    Played(stage, tmp_path, "cancel", transport, calls=20)
    wait_until(lambda: stage.open_dialogs() == 0, what="all dialogs over", timeout_s=40)
    drafts = stage.house.folder / "spool" / "drafts"
    wait_until(lambda: not list(drafts.iterdir()), what="no draft is left")
