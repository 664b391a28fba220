"""Who acts on the command line: the Unix user, as the audit log names them."""

from __future__ import annotations

import os
import pwd

from recorderd.archive.audit_log import Actor


def command_line_actor() -> Actor:
    """Name the person: who called sudo, if it was that; else whose process this is."""
    if os.geteuid() == 0 and (name := os.environ.get("SUDO_USER")):
        return Actor(name=f"cli:{name}")
    try:
        return Actor(name=f"cli:{pwd.getpwuid(os.getuid()).pw_name}")
    except KeyError:
        return Actor(name=f"cli:{os.getuid()}")
