"""The installed pjsua2 is the one we need, and a start with any other is refused with what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pjsua2

from tests.support.house import run_program
from tests.support.programs import ROOT

START = """
import sys, pjsua2
{change}
from recorderd.app.recorderd import main
sys.exit(main(["--config", sys.argv[1]]))
"""


def _start(folder: Path, change: str) -> subprocess.CompletedProcess[str]:
    from tests.support.free_ports import free_port

    run_program("recorderctl", "quickstart", folder, "--sip-port", str(free_port()))
    return subprocess.run(
        [sys.executable, "-c", START.format(change=change), folder / "recorderd.toml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=ROOT,
    )


def test_the_installed_build_holds_a_thousand_calls_and_large_sdp() -> None:
    assert pjsua2.BUILD_LIMITS["PJSUA_MAX_CALLS"] >= 1024
    assert pjsua2.BUILD_LIMITS["PJSUA2_MAX_SDP_BUF_LEN"] >= 16_384
    assert pjsua2.BUILD_LIMITS["PJSUA_HAS_SIPREC"] == 1


def test_a_build_with_the_usual_limits_is_refused(tmp_path: Path) -> None:
    ended = _start(tmp_path, "pjsua2.BUILD_LIMITS.update(PJSUA_MAX_CALLS=4, PJSUA2_MAX_SDP_BUF_LEN=1024)")
    assert ended.returncode == 69
    assert "PJSUA_MAX_CALLS is 4" in ended.stderr
    assert "PJSUA2_MAX_SDP_BUF_LEN is 1024" in ended.stderr
    assert "make pjsua2" in ended.stderr


def test_a_wheel_of_unknown_making_is_refused(tmp_path: Path) -> None:
    ended = _start(tmp_path, "del pjsua2.BUILD_LIMITS, pjsua2.PJSUA_SIP_SIPREC_OPTIONAL")
    assert ended.returncode in (1, 69)
    assert "does not say what it was built with" in ended.stderr
