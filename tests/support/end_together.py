"""Many real calls that end in the same second, while others go on: what it cost those that stay."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.house import House, Recorded
from tests.support.load_run import LoadRun, Verdict, judge, roomy, wait_all_sealed
from tests.support.recipients import make_recipient, openssl_opens

STAYING = 20
RULES = """
[encryption.bank]
recipients = ["{recipient}"]
[[rules]]
name = "bank"
mode = "always"
encrypt = "bank"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTogether:
    """What became of those that ended, and of those that went on."""

    ended: Verdict
    stayed: Verdict
    bye_spread_ms: float  # between the first and the last that ended
    sealed_s: float  # from the first BYE to the last recording in ready/
    rtp: dict[str, Any]  # of the recorder's status

    def __str__(self) -> str:
        lateness = self.rtp.get("lateness_ms")
        return (
            f"{self.ended.recordings} ended within {self.bye_spread_ms:.0f} ms, sealed within "
            f"{self.sealed_s:.1f} s; {self.stayed.recordings} went on, lateness of drains {lateness} ms"
        )


def end_together(
    folder: Path, *, calls: int, seconds: int, per_second: float, encrypted: bool, after_s: int = 12
) -> EndedTogether:
    """Let ``calls`` end at once while others talk on for ``after_s``; compare every sample of all of them."""
    folder.mkdir(exist_ok=True)
    recipient = make_recipient(folder, "customer")
    extra = RULES.format(recipient=recipient) if encrypted else ""
    with roomy(House(folder / "house", extra=extra)) as house:
        recorder = house.recorder()
        coming_s = calls / per_second
        with (
            LoadRun(
                house.server, calls=calls, seconds=seconds, per_second=per_second, seed=1, together=True
            ) as many,
            LoadRun(
                house.server,
                calls=STAYING,
                seconds=int(coming_s) + seconds + after_s,
                per_second=20.0,
                seed=2,
            ) as few,
        ):
            byes = [call["bye_utc_ns"] for call in many.report()["calls"]]
            wait_all_sealed(house, calls)
            sealed_s = (time.time_ns() - min(byes)) / 1e9
            few.report()
            wait_all_sealed(house, calls + STAYING)
            rtp = house.status()["recorder"]["rtp"]

            def find(recording_id: str) -> Recorded:
                return _opened(house.sealed(recording_id), recipient)

            return EndedTogether(
                ended=judge(many, recorder, find),
                stayed=judge(few, recorder, find),
                bye_spread_ms=(max(byes) - min(byes)) / 1e6,
                sealed_s=sealed_s,
                rtp=rtp,
            )


def _opened(recorded: Recorded, recipient: Path) -> Recorded:
    """Put what an envelope holds beside it, as its recipient would."""
    for envelope in recorded.folder.glob("*.wav.p7m"):
        opened = envelope.with_name(envelope.name.removesuffix(".p7m"))
        assert openssl_opens(envelope, recipient, out=opened) == b""
    return recorded


def check(found: EndedTogether, *, calls: int) -> None:
    """No packet is lost, no sample another, of those that end as of those that stay."""
    assert (found.ended.recordings, found.stayed.recordings) == (calls, STAYING)
    assert found.ended.problems == [] and found.stayed.problems == []
    assert found.rtp["kernel_dropped"] == 0
    print(f"\n{found}")
