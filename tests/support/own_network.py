"""Runs a program in a network of its own, with loopback only: `python own_network.py PROGRAM [ARGUMENT...]`.

Rule: the program replaces this one, with the user and the rights it had before; only its ports are its own.
Where the machine does not permit that, the exit code is 71 (EX_OSERR) and the program is not started.
Uses the standard library only: it runs before anything of ours is on the path.
Source: namespaces(7), user_namespaces(7), netdevice(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWNET: Final = 0x4000_0000
SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 0x1
NOT_PERMITTED: Final = 71


def own_network() -> None:
    """Give this process a network in which only loopback is up.

    Errors: OSError where the machine does not permit it.
    Thread: the process has one thread; those that it starts later have the same network.
    """
    user, group = os.getuid(), os.getgid()
    try:
        _unshare(CLONE_NEWNET)
    except PermissionError:
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)  # what everybody may; the rights end with execv
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def command(program: str) -> list[str]:
    """Return the words that start a program in a network of its own."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), program]


def permitted() -> bool:
    """Try whether this machine lets us."""
    return subprocess.run(command("true"), capture_output=True, check=False).returncode == 0


def main() -> int:
    """Take a network and become the program."""
    try:
        own_network()
    except OSError as error:
        print(f"own_network: {error}", file=sys.stderr)
        return NOT_PERMITTED
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
