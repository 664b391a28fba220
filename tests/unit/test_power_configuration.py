"""[power]: refused with what would be right, and without a UPS a choice that is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.app.power import PowerDuty
from recorderd.app.power_words import power_line
from recorderd.app.recorder_configuration import RecorderConfiguration, load_recorder_configuration
from recorderd.app.service import Service
from recorderd.core.clock import SystemClock
from recorderd.core.conditions import PowerState
from recorderd.core.errors import ConfigurationError, KeyUnusable
from tests.support.house import run_program
from tests.unit.test_configuration import GOOD

UPS = '[power]\n{power}\n[[power.ups]]\nname = "rack"\n{ups}\n'


def _load(folder: Path, text: str) -> RecorderConfiguration:
    path = folder / "recorderd.toml"
    path.write_text(GOOD + text)
    return load_recorder_configuration(path)


@pytest.mark.parametrize(
    ("power", "ups", "problem"),
    [
        ("needed = 2", "", "power.needed: is more than there are; give a number from 1 to 1"),
        ("", 'user = "x"', r"power.ups\[0\].user: goes with password_file"),
        ("", 'password_file = "x"', r"power.ups\[0\].user: goes with password_file"),
        ("", 'tls_name = "x"', r"power.ups\[0\].tls_name: goes with tls_ca_file"),
        ("", 'ups = "a b"', r"power.ups\[0\].ups: .*upsc -l"),
        ("", 'program = "apcupsd"\nups = "x"', r"power.ups\[0\].ups: means nothing to apcupsd"),
        ("", 'program = "guess"', r"power.ups\[0\].program: .*nut, apcupsd"),
        ("", '[[power.ups]]\nname = "rack"', r"power.ups\[1\].name: is that of another"),
        ("poll_s = 0", "", "power.poll_s: 0 is out of range"),
    ],
)
def test_each_problem_names_its_key_and_the_remedy(
    tmp_path: Path, power: str, ups: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        _load(tmp_path, UPS.format(power=power, ups=ups))


def test_a_section_without_any_ups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"power.ups: .*leave \[power\] out"):
        _load(tmp_path, "[power]\nups = []\n")


def test_without_a_section_nothing_is_watched_and_that_is_said(tmp_path: Path) -> None:
    configuration = _load(tmp_path, "")
    duty = PowerDuty(configuration.power, service=Service(program="test"), clock=SystemClock())
    assert duty.power.state is PowerState.ON_LINE
    assert power_line(duty.describe()) == "no UPS configured"


def test_a_password_that_others_may_read_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "ups.secret").write_text("secret-of-the-ups\n")
    (tmp_path / "ups.secret").chmod(0o644)
    text = UPS.format(power="", ups='user = "u"\npassword_file = "ups.secret"')
    configuration = _load(tmp_path, text)
    with pytest.raises(KeyUnusable, match="644"):
        PowerDuty(configuration.power, service=Service(program="test"), clock=SystemClock())
    run_program("recorderctl", "quickstart", tmp_path / "q")
    with (tmp_path / "q" / "recorderd.toml").open("a") as configured:
        configured.write(text.replace('"ups.secret"', f'"{tmp_path}/ups.secret"'))
    checked = run_program("recorderd", "check-config", "--config", tmp_path / "q/recorderd.toml", check=False)
    assert checked.returncode == 78
    assert "644" in checked.stderr and "secret-of-the-ups" not in checked.stderr


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_an_authority_that_cannot_be_read_stops_the_start(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    configuration = _load(tmp_path, UPS.format(power="", ups='tls_ca_file = "ca.pem"'))
    with pytest.raises(KeyUnusable, match=r"ca\.pem"):
        PowerDuty(configuration.power, service=Service(program="test"), clock=SystemClock())


def test_the_flush_needs_no_password_for_it_does_not_log_in(tmp_path: Path) -> None:
    text = UPS.format(power="", ups='user = "u"\npassword_file = "of-another-user.secret"')
    duty = PowerDuty(
        _load(tmp_path, text).power, service=Service(program="test"), clock=SystemClock(), logs_in=False
    )
    assert duty.describe()["configured"]


@pytest.mark.parametrize(
    ("outlook", "words"),
    [
        ({"in_time": "yes", "needed_s": 60, "usable_s": 480}, "60 s at the present rate, 480 s of battery"),
        ({"in_time": "no", "needed_s": 900, "usable_s": 480}, "not in time"),
        ({"in_time": "unknown", "needed_s": None, "usable_s": 480}, "which takes nothing now"),
    ],
)
def test_an_operator_reads_whether_the_spool_empties_in_time(outlook: dict[str, object], words: str) -> None:
    power = {
        "configured": True,
        "state": "on_battery",
        "reason": "rack: on battery (OB)",
        "runtime_s": 600,
        "charge_percent": 81,
        "contact": False,
        "outlook": {"waiting_bytes": 12_000_000, **outlook},
    }
    line = power_line(power)
    for part in ("on battery", "10 min 0 s left", "81 %", "rack", "does not answer", "12 MB", words):
        assert part in line
