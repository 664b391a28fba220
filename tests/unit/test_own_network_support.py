"""A program in a network of its own, and which tests stay together."""

from __future__ import annotations

import subprocess
import sys

from tests.support import own_network
from tests.support.workers import ROOT, shares, turn

LISTENS = """
import os, socket, sys
with socket.create_server(("127.0.0.1", 5060)) as server:
    with socket.create_connection(server.getsockname()):
        print(os.getuid(), os.readlink("/proc/self/ns/net"), flush=True)
        sys.stdin.read()
"""


def test_two_programs_listen_on_the_same_port_as_the_same_user_where_that_is_permitted() -> None:
    programs = [
        subprocess.Popen(
            [*own_network.command(sys.executable), "-c", LISTENS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [program.stdout.readline().split() for program in programs]
    for program in programs:
        program.communicate()
    codes = {program.returncode for program in programs}
    if not own_network.permitted():
        assert codes == {own_network.NOT_PERMITTED}
        return
    assert codes == {0}
    own = subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout.strip()
    assert [user for user, _ in said] == [own, own]
    here = subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True)
    assert len({network for _, network in said} | {here.stdout.strip()}) == 3


def test_files_that_share_a_fixture_stay_together_and_others_do_not() -> None:
    assert shares("tests/interop/test_conformance.py")
    assert shares("tests/integration/test_modes.py")
    assert shares("tests/integration/test_systemd.py")
    assert not shares("tests/integration/test_flush_archive.py")


def test_the_longest_come_first() -> None:
    names = ("unit/test_policy.py", "fault/test_power_cut.py", "interop/test_torture.py")
    assert sorted(names, key=lambda name: turn(ROOT / "tests" / name)) == list(reversed(names))
