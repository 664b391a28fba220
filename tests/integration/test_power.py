"""A power cut as a real upsd tells it, and what the exchange and the operator see of it."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from tests.support.asterisk import Exchange
from tests.support.house import House, run_program
from tests.support.programs import Program, wait_until
from tests.support.registered import RegisteredHouse
from tests.support.rtp_sender import RtpStream, send_streams
from tests.support.sip_client import Call, SipClient, siprec_call
from tests.support.ups import PASSWORD, USER, Nut

FAST = """
[power]
poll_s = 1
battery_poll_s = 1
battery_after_s = 1
return_after_s = 1
lost_low_after_s = 6
needed = {needed}
"""
UPS = """
[[power.ups]]
name = "{name}"
port = {port}
ups = "{name}"
"""
RULES = """
[[rules]]
name = "trade"
mode = "always"
mandatory = true
callees = ["2002"]
[[rules]]
name = "others"
mode = "always"
"""
LOGIN = f'user = "{USER}"\npassword_file = "keys/ups.secret"\n'


def power_toml(nut: Nut, *names: str, needed: int = 1, login: str = "") -> str:
    """Write [power] for UPSes of a server, with times that a test can wait for."""
    rows = [UPS.format(name=name, port=nut.port) + login for name in names or nut.names]
    return FAST.format(needed=needed) + "".join(rows)


def states(program: Program) -> list[str]:
    """The changes of power in a program's log, in order."""
    return re.findall(r"power_changed subject=\d+ state=(\w+)", program.text())


def wait_state(program: Program, *expected: str) -> None:
    """Wait until power has gone through exactly these states."""
    wait_until(
        lambda: states(program) == list(expected), what=f"{expected}, not {states(program)}", timeout_s=40
    )


def secret(house: House) -> None:
    """Write the password of upsd's user."""
    path = house.folder / "keys" / "ups.secret"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)


def test_a_power_cut_from_the_first_flutter_to_the_end(tmp_path: Path) -> None:
    with (
        Nut(tmp_path / "nut") as nut,
        Exchange() as exchange,
        RegisteredHouse(tmp_path / "house", exchange, extra=power_toml(nut, login=LOGIN) + RULES) as house,
    ):
        secret(house)
        with house.archive_toml.open("a") as configuration:
            configuration.write(power_toml(nut))
        archive, flush, program = house.archive(), house.flush(), house.recorder()
        exchange.registered("recorder", timeout_s=20)
        wait_until(lambda: nut.logins() == 1, what="logged in, so that a shutdown waits for us")
        with SipClient(server=house.server) as client:
            nut.say("OB DISCHRG", runtime_s="900.5", charge_percent=80)
            wait_state(program, "on_battery")
            power = house.status()["recorder"]["power"]
            assert (power["state"], power["runtime_s"], power["charge_percent"]) == ("on_battery", 900, 80)
            nut.kill_driver("ups")  # stale: on battery that is as bad as a low one
            wait_state(program, "on_battery", "low_battery")
            program.wait_for("ups_lost", "DRIVER-NOT-CONNECTED")
            nut.say_stale("OL CHRG")
            nut.start_driver("ups")
            wait_state(program, "on_battery", "low_battery", "on_line")
            program.wait_for("ups_back")
            nut.say("OB CAL LB")  # it calibrates: no low battery
            wait_state(program, "on_battery", "low_battery", "on_line", "on_battery")
            nut.say("OB DISCHRG LB", runtime_s=100, charge_percent=9)
            wait_state(program, "on_battery", "low_battery", "on_line", "on_battery", "low_battery")
            assert siprec_call(client, callee="2001").response.code == 503
            assert "battery low, not mandatory" in program.text()
            assert "in_time=yes" in program.wait_for("power_outlook")
            call, talk = _talk(client, packets=75)
            time.sleep(0.7)
            nut.force_shutdown()
            done = program.wait_for("power_shutdown", "whole=True")
            talk.join()
            assert "dialogs=1 sealed=1 laid_down=0 open=0" in done
            assert client.wait_request("BYE").method == "BYE"
            assert states(program)[-1] == "forced_shutdown"
            wait_until(lambda: not exchange.contacts("recorder"), what="unregistered")
            wait_until(lambda: nut.logins() == 0, what="logged out: the machine may go down")
            assert siprec_call(client).response.code == 503
            assert client.options().code == 503
            report = house.status()
            assert report["recorder"]["power"]["state"] == "forced_shutdown"
            assert (
                "being shut down"
                in run_program("recorderctl", "status", "--config", house.recorder_toml).stdout
            )
            for other in (archive, flush):  # they wait too, and tell why
                other.wait_for("power_shutdown", "OB DISCHRG FSD LB")
                assert other.process.poll() is None
            put_off = run_program("archive", "renew", "--config", house.archive_toml, check=False)
            assert (put_off.returncode, "is put off" in put_off.stderr) == (75, True)
            assert report["flush"]["power"]["state"] == "forced_shutdown"
            nut.stop_server()  # whatever is said now, it is final
            assert siprec_call(client).response.code == 503
        manifest = house.sealed(house.wait_sealed(program, 1)[0]).manifest
        assert manifest["end_cause"] == "power"
        assert manifest["call"]["call_id"] and manifest["duration_samples"] >= 8000 // 2
        before = program.text().partition("power_shutdown")[0]
        assert re.search(r"recording_sealed.*\n.*head_stated .*cause=stop", before)
        assert program.process.poll() is None, "an end would be a start for whoever supervises it"
        assert program.stop() == 0
        assert call.response is not None


def _talk(client: SipClient, *, packets: int) -> tuple[Call, threading.Thread]:
    """Begin a call and talk on both sides."""
    call = siprec_call(client)
    assert call.response is not None and call.response.code == 200
    streams = [RtpStream(port=line.port, payload_type=8, payload=bytes(160 * packets)) for line in call.lines]
    talk = threading.Thread(target=send_streams, args=(streams,), daemon=True)
    talk.start()
    return call, talk
