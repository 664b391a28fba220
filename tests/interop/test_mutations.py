"""A fixed corpus of SIPREC requests gone wrong: taken or refused, and a call beside them is whole."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.mutations import MUTATIONS
from tests.interop.stage import Stage
from tests.interop.witness import Connection, Witness
from tests.support.field.request import Scene
from tests.support.sip_text import Message

MUST_BE_TAKEN = (  # what is wrong with them is nothing that keeps a call from being recorded
    *("sdp_without_rtpmap", "sdp_label_empty", "sdp_label_twice", "sdp_newlines_only"),
    *("sdp_directions_all", "sdp_ptime_zero", "mixed_without_end", "mixed_of_two_metadata"),
    *("mixed_with_lying_lengths", "metadata_is_text", "metadata_cut_off"),
    *("metadata_with_entities", "metadata_from_outside", "metadata_deep", "metadata_wide"),
    *("metadata_without_ids", "metadata_without_labels", "metadata_labels_unknown"),
    *("metadata_ids_all_one", "metadata_root_unknown", "metadata_times_garbage", "metadata_twice_over"),
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("mutations")) as stage:
        yield stage


@pytest.fixture(scope="module")
def replies(stage: Stage) -> dict[str, list[Message]]:
    """Each request over a connection of its own, beside a call that comes out whole."""
    connection = Connection(server=stage.server("tcp"))
    found = {}
    with Witness(stage):
        for name, build in MUTATIONS.items():
            request = build(Scene(call=name, address="127.0.0.1", transport="tcp", labels=("96", "97")))
            raw = request.write(
                call_id=secrets.token_hex(8),
                uri=f"sip:srs@127.0.0.1:{stage.house.sip_port}",
                via="SIP/2.0/TCP 127.0.0.1:9",
                branch="z9hG4bK" + secrets.token_hex(8),
            )
            found[name] = connection.ask(raw)
    return found


@pytest.fixture
def answers(replies: dict[str, list[Message]]) -> dict[str, list[int]]:
    """The codes alone."""
    return {name: [reply.code for reply in got] for name, got in replies.items()}


def test_who_is_taken_gets_a_line_for_each_that_was_offered(replies: dict[str, list[Message]]) -> None:
    for name in ("sdp_lines_sixty", "sdp_lines_seventeen"):
        (reply,) = replies[name]
        offered = MUTATIONS[name](Scene()).body.count(b"m=audio")
        assert reply.code == 488 or reply.body.count(b"m=audio") == offered


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_request_gone_wrong_is_taken_or_refused(answers: dict[str, list[int]], name: str) -> None:
    assert answers[name], "no answer"
    assert answers[name][0] == 200 or 400 <= answers[name][0] < 500


@pytest.mark.parametrize("name", MUST_BE_TAKEN)
def test_what_does_not_keep_a_call_from_being_recorded_is_taken(
    answers: dict[str, list[int]], name: str
) -> None:
    assert answers[name] == [200]


def test_entities_and_files_never_reach_a_manifest(stage: Stage, answers: dict[str, list[int]]) -> None:
    assert answers
    host = Path("/etc/hostname").read_text().strip()
    for path in stage.house.folder.rglob("*.manifest.json"):
        text = path.read_text()
        assert "aaaaaaaaaa" not in text
        assert f'"name":"{host}"' not in text.replace(" ", "")
