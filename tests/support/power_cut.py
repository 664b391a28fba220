"""The power goes at a chosen call that changes the disk, while a recording is sealed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.studio import Studio

CALLS = ("rename", "unlink", "fsync", "open")


class PowerCut(BaseException):
    """No program can do anything about it."""


@dataclass
class Fuse:
    """Counts the calls that change the disk once it is set, and cuts before one of them."""

    blows_at: int
    seen: int = -1  # not set

    def watch(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            if self.seen >= 0:
                if self.seen >= self.blows_at:
                    raise PowerCut
                self.seen += 1
            return call(*arguments, **options)

        return watched


def sealing_is_cut(studio: Studio, fuse: Fuse, patch: pytest.MonkeyPatch) -> bool:
    """Run the call; tell whether the power went while it was sealed."""
    seal_all = studio.sealer.seal_all

    def armed(*arguments: Any) -> Any:
        fuse.seen = 0
        sealed = seal_all(*arguments)
        fuse.seen = -1
        return sealed

    patch.setattr(studio.sealer, "seal_all", armed)
    for name in CALLS:
        patch.setattr(os, name, fuse.watch(getattr(os, name)))
    try:
        studio.run(4000)
    except PowerCut:
        return True
    finally:
        patch.undo()
    return False
