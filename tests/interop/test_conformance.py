"""Each point of RFC 7866, 7865, 8068 and 9806 and each quirk of the field: the answer, and the archive."""

from __future__ import annotations

import pytest

from tests.interop import scenarios  # noqa: F401  (registers them)
from tests.interop.stage import SCENARIOS, Scenario, Troupe
from tests.support.programs import wait_until

PLAYS = [
    pytest.param(entry, transport, id=f"{entry.name}-{transport}")
    for entry in SCENARIOS
    for transport in entry.transports
]


@pytest.mark.parametrize(("entry", "transport"), PLAYS)
def test_conformance(troupe: Troupe, entry: Scenario, transport: str) -> None:
    troupe.outcome(entry, transport)


def test_nothing_is_left_behind_by_all_of_them(troupe: Troupe) -> None:
    for stage in troupe.stages():
        wait_until(lambda stage=stage: stage.open_dialogs() == 0, what="all dialogs over")
        log = stage.recorder.text()
        assert "internal_error" not in log, [x for x in log.splitlines() if "internal_error" in x][:5]
        assert stage.recorder.process.poll() is None


def test_nothing_is_kept_of_calls_that_were_refused(troupe: Troupe) -> None:
    for stage in troupe.stages():
        drafts = stage.house.folder / "spool" / "drafts"
        wait_until(lambda drafts=drafts: not list(drafts.iterdir()), what="no draft is left")
        assert stage.kept_of_refused() == []
