"""Hundreds of calls come and go while others stay: no call that is over disturbs one that runs.

The library gives a number that is free to the next call, and has as many numbers as calls are allowed; with
few of them what is left of an old call meets a new one soon.
"""

from __future__ import annotations

import queue
import re
from pathlib import Path

from tests.support.house import House
from tests.support.sip_client import Call, SipClient, siprec_call

CALLS = 300
STAYING = 12
LIBRARY_RTP_PORT = 4000  # where the library would begin to open ports of its own


def _requests(client: SipClient) -> list[str]:
    """What the recorder has asked by itself."""
    asked = []
    try:
        while True:
            asked.append(client.requests.get_nowait().method)
    except queue.Empty:
        return asked


def test_a_call_that_is_over_never_touches_one_that_runs(tmp_path: Path) -> None:
    with House(tmp_path, changes={"[sip]\n": "[sip]\nmax_calls = 24\n"}) as house:
        recorder = house.recorder()
        staying: list[Call] = []
        with SipClient(server=house.server) as client:
            for number in range(CALLS):
                call = siprec_call(client)
                assert call.response is not None
                assert call.response.code == 200, call.response.start_line
                if number % 5 == 0:
                    staying.append(call)
                else:
                    assert call.bye().code == 200
                if len(staying) > STAYING:
                    assert staying.pop(0).bye().code == 200
            assert _requests(client) == []  # it has hung up nobody
            status = house.status()["recorder"]["sip"]
            assert (status["dialogs"], status["sessions"]) == (len(staying), len(staying))
            for call in staying:
                assert call.bye().code == 200
        house.wait_sealed(recorder, CALLS, timeout_s=60)
        status = house.status()["recorder"]
        assert (status["sip"]["dialogs"], status["sip"]["sessions"]) == (0, 0)
        assert status["events"]["session_ended"] == CALLS


def test_a_port_range_where_the_library_has_its_own_loses_no_session(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        text = house.recorder_toml.read_text()
        low = LIBRARY_RTP_PORT + 400
        text = re.sub(r"port_min = \d+", f"port_min = {low}", text)
        house.recorder_toml.write_text(re.sub(r"port_max = \d+", f"port_max = {low + 1999}", text))
        house.recorder()
        with SipClient(server=house.server) as client:
            calls = [siprec_call(client) for _ in range(250)]
            answers = [call.response.start_line for call in calls if call.response is not None]
            assert answers == ["SIP/2.0 200 OK"] * len(calls)
            assert all(low <= line.port < low + 2000 for call in calls for line in call.lines)
