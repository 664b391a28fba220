"""The published JSON Schema says what the code says: both take and refuse the same manifests."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import recorderd.wire
from recorderd.core.errors import ManifestFormatError
from recorderd.wire import manifest_entries as e
from recorderd.wire import manifest_rows as r
from recorderd.wire.canonical import canonical_json
from recorderd.wire.manifest import Gap, Manifest, StreamEntry, encode_manifest, parse_manifest
from tests.support.manifests import manifests

SCHEMA = Path(recorderd.wire.__file__).parent / "manifest.schema.json"
KINDS: dict[str, type] = {
    "": Manifest, "call": e.CallEntry, "participant": e.ParticipantEntry, "recipient": e.RecipientEntry,
    "file": e.FileEntry,
    "clock": e.ClockStatement, "proof": e.ProofEntry, "stream": StreamEntry, "gap": Gap,
    "stream_clock": r.ClockEntry, "correction": r.Correction, "quality": r.QualityEntry, "key": r.KeyEntry,
    "rule": r.RuleEntry, "control": r.ControlEntry, "span": r.SilentSpan, "join": r.JoinEntry,
}  # fmt: skip
# What a schema cannot see: how two fields go together, and how the same value is written.
BEYOND = (
    "overlap", "beyond the end", "is not silent in one", "channel ", "stands twice",
    "is no name of a file of this recording",
)  # fmt: skip


@cache
def _schema() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(SCHEMA.read_text())
    return table


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(_schema())


def test_it_is_a_schema_and_comes_with_the_package() -> None:
    Draft202012Validator.check_schema(_schema())


@pytest.mark.parametrize("name", sorted(KINDS))
def test_it_lists_every_field_with_a_meaning_and_no_other(name: str) -> None:
    table = _schema()["$defs"][name] if name else _schema()
    assert list(table["properties"]) == [field.name for field in fields(KINDS[name])]
    assert all(row["description"] for row in table["properties"].values())
    assert table["additionalProperties"] is False


@given(manifests())
def test_every_manifest_that_the_code_writes_is_valid(manifest: Manifest) -> None:
    raw = encode_manifest(manifest)
    assert parse_manifest(raw) == manifest
    problems = [problem.message for problem in _validator().iter_errors(json.loads(raw))]
    assert problems == []


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([None, True, False, "", "x", "ab" * 32, "../x", "x" * 5000, [], {}, [""], [True], [{}]]),
    st.sampled_from([0, 1, -1, 2**31 + 1, 2**32, 2**62 + 1, 2**63 - 1, 2**63, -(2**62) - 1, 1.5]),
    st.sampled_from(["paused", "cms", "objected", "audio", "chrony", "AB" * 32, "x/y", "x.wav"]),
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, row in value.items():
            found += _paths(row, (*path, key))
    elif isinstance(value, list):
        for number, row in enumerate(value):
            found += _paths(row, (*path, number))
    return found


def _changed(table: dict[str, Any], data: Any) -> dict[str, Any]:
    """Spoil one place: another value there, nothing there, or something more beside it."""
    path = data.draw(st.sampled_from(_paths(table)))
    holder: Any = table
    for step in path[:-1]:
        holder = holder[step]
    how = data.draw(st.sampled_from(["set", "set", "set", "drop", "add"]))
    if how == "set":
        holder[path[-1]] = data.draw(VALUES)
    elif how == "drop":
        del holder[path[-1]]
    elif isinstance(holder, dict):
        holder[data.draw(st.sampled_from(["surplus", "clock", "proof", "encryption", "outcome"]))] = 1
    else:
        holder.append(data.draw(VALUES))
    return table


@given(manifests(), st.data())
def test_what_the_code_refuses_the_schema_refuses_and_what_it_takes_the_schema_takes(
    manifest: Manifest, data: Any
) -> None:
    table = _changed(json.loads(encode_manifest(manifest)), data)
    valid = _validator().is_valid(table)
    try:
        parse_manifest(canonical_json(table))
    except ManifestFormatError as problem:
        assert not valid or any(word in str(problem) for word in BEYOND), str(problem)
    else:
        assert valid, [problem.message for problem in _validator().iter_errors(table)]
