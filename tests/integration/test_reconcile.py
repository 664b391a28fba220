"""A real exchange's call records against the archive: what the operator reads, and what it leaves with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.house import run_program
from tests.support.office import Office
from tests.support.programs import wait_until

RULES = """
[[rules]]
name = "private"
mode = "never"
numbers = ["1003"]

[[rules]]
name = "house"
mode = "always"
directions = ["internal", "inbound", "outbound"]

[[rules]]
name = "rest"
mode = "always"
extensions = ["1001", "1002"]
"""
CALL_RECORDS = """
[call_records]
ignore = ["dcontext=rec-*"]
tolerance_s = 2
rules_file = "{rules}"
"""
TALK_S = 3.5


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with Office(tmp_path_factory.mktemp("reconcile"), rules=RULES) as office:
        house = office.house
        with house.archive_toml.open("a") as stream:
            stream.write(CALL_RECORDS.format(rules=house.recorder_toml))
        house.archive()
        house.flush()
        office.conversation("1001", "1002", "1002", talk_s=TALK_S)
        with office.exchange.switched(REC_MODE="none"):  # the exchange forgets its recorder
            office.conversation("1002", "1001", "1001", talk_s=TALK_S)
            office.conversation("1001", "1003", "1003", talk_s=TALK_S)
        house.wait_archived(1)
        yield office


def reconcile(office: Office, *arguments: str | Path, code: int) -> str:
    done = run_program("archive", "reconcile", *arguments, "--config", office.house.archive_toml, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout


def test_a_call_that_should_have_been_recorded_and_was_not_is_named(office: Office) -> None:
    master = office.exchange.dir / "log" / "cdr-csv" / "Master.csv"
    wait_until(lambda: master.exists() and master.read_text().count('"ANSWERED"') >= 3, what="call records")
    span = ("--since", "2026-01-01", "--until", "2099-01-01")
    reconcile(office, "report", *span, code=69)  # nothing is known of any call: that is not "nothing missing"
    assert "refused" in reconcile(office, "import", master, code=0)
    told: dict[str, Any] = json.loads(reconcile(office, "report", *span, "--all", "--json", code=65))
    by_callee = {row["record"]["callee"]: row for row in told["calls"]}
    assert by_callee["1002"]["standing"] == "recorded"
    assert by_callee["1002"]["ground"] == "id"
    assert by_callee["1001"]["standing"] == "missing"
    assert by_callee["1003"]["standing"] == "not_wanted"
    assert told["without_call_record"] == []
    text = reconcile(office, "report", *span, code=65)
    assert "missing: 1" in text and "1003" not in text
    log = run_program("archive", "audit", "list", "--config", office.house.archive_toml, "--json").stdout
    assert {"reconciled", "call_records_imported"} <= {row["what"] for row in json.loads(log)}
