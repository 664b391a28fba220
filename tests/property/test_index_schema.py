"""The published JSON Schema of the index says what the code says."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import recorderd.wire
from recorderd.app.recorderctl import main as recorderctl
from recorderd.core.errors import IndexFormatError
from recorderd.wire.canonical import canonical_json
from recorderd.wire.recording_index import RecordingIndex, encode_index, parse_index
from tests.support.golden_sealed import FIRST, GOLDEN_SEALED, SECOND

SCHEMA = Path(recorderd.wire.__file__).parent / "index.schema.json"
TABLE: dict[str, Any] = json.loads(SCHEMA.read_text())
JUDGE = Draft202012Validator(TABLE)
GOLDEN = [(GOLDEN_SEALED / name / f"{name}.index.json").read_bytes() for name in (FIRST, SECOND)]
# What a schema cannot see: how two fields go together, and how the same value is written.
BEYOND = (
    "is not the manifest's envelope", "stands twice", "no name of a file", "not exactly one", "canonical",
    "no date", "names no recording", "no encrypted audio",
)  # fmt: skip
VALUES = st.sampled_from(
    [
        "",
        "x",
        "ab" * 32,
        "../x",
        "2026-13-01",
        "objected",
        "cms",
        None,
        True,
        0,
        1,
        -1,
        2**63,
        1.5,
        [],
        {},
        [{}],
    ]
)


def test_it_is_a_schema_lists_every_field_and_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Draft202012Validator.check_schema(TABLE)
    assert list(TABLE["properties"]) == [field.name for field in fields(RecordingIndex)]
    assert all(row["description"] for row in TABLE["properties"].values())
    assert recorderctl(["schema", "--index"]) == 0
    assert capsys.readouterr().out == SCHEMA.read_text()


@pytest.mark.parametrize("raw", GOLDEN)
def test_an_index_that_the_code_writes_is_valid_and_reads_back(raw: bytes) -> None:
    assert encode_index(parse_index(raw)) == raw
    assert [problem.message for problem in JUDGE.iter_errors(json.loads(raw))] == []


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(found for key, row in rows for found in _places(row, (*path, key)))]


@given(st.sampled_from(GOLDEN), st.data())
def test_what_the_code_refuses_the_schema_refuses_and_what_it_takes_the_schema_takes(
    raw: bytes, data: Any
) -> None:
    table = json.loads(raw)
    path = data.draw(st.sampled_from(_places(table)))
    holder: Any = table
    for step in path[:-1]:
        holder = holder[step]
    how = data.draw(st.sampled_from(["set", "set", "drop", "add"]))
    if how == "set":
        holder[path[-1]] = data.draw(VALUES)
    elif how == "drop":
        del holder[path[-1]]
    elif isinstance(holder, dict):
        holder["surplus"] = 1
    valid = JUDGE.is_valid(table)
    try:
        parse_index(canonical_json(table))
    except IndexFormatError as problem:
        assert not valid or any(word in str(problem) for word in BEYOND), str(problem)
    else:
        assert valid, [problem.message for problem in JUDGE.iter_errors(table)]
