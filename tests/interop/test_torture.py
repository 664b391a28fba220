"""The torture messages of RFC 4475: none ends the recorder, disturbs a call or is answered wrongly.

``ANSWERS`` says what the RFC lets a user agent server answer. ``None`` stands for silence: the library's
parser drops what it cannot read as a request, and responses get no answer.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.stage import Stage
from tests.interop.witness import ANSWER_S, Connection, Witness

CORPUS = Path(__file__).parent / "torture"
REFUSED = frozenset({400, None})  # malformed
NO_METHOD = frozenset({405, 501})
LIBERAL = frozenset({200, 400})  # wrong, but the RFC lets a receiver be liberal
ANSWERS: dict[str, frozenset[int | None]] = {
    # 3.1.1: valid
    "wsinv": frozenset({200, 481}),  # it has a To tag
    "intmeth": frozenset({405, 501, None}),
    "esc01": frozenset({200}),
    "escnull": NO_METHOD,
    "esc02": frozenset({405, 501, None}),
    "lwsdisp": frozenset({200}),
    "longreq": frozenset({200}),
    "dblreq": NO_METHOD | {400, 481},
    "semiuri": frozenset({200}),
    "transports": frozenset({200}),
    "mpart01": frozenset({200, 404, 405, 415}),
    "unreason": frozenset({None}),
    "noreason": frozenset({None}),
    # 3.1.2: invalid
    "badinv01": REFUSED,
    "clerr": REFUSED,
    "ncl": REFUSED,
    "scalar02": REFUSED,
    "scalarlg": frozenset({None}),
    "quotbal": REFUSED,
    "ltgtruri": REFUSED,
    "lwsruri": REFUSED,
    "lwsstart": LIBERAL,
    "trws": LIBERAL,
    "escruri": LIBERAL,
    "baddate": LIBERAL,
    "regbadct": NO_METHOD | {400, None},
    "badaspec": LIBERAL,
    "baddn": LIBERAL,
    "badvers": frozenset({505, None}),
    "mismatch01": REFUSED,
    "mismatch02": REFUSED | {501},
    "bigcode": frozenset({None}),
    # 3.2: transactions
    "badbranch": LIBERAL,
    # 3.3: application
    "insuf": REFUSED,
    "unkscm": frozenset({416, None}),
    "novelsc": frozenset({416, None}),
    "unksm2": NO_METHOD | {400, None},
    "bext01": frozenset({420}),
    "invut": frozenset({415}),
    "regaut01": NO_METHOD | {401, 403, None},
    "multi01": REFUSED,
    "mcl01": REFUSED,
    "bcast": frozenset({None}),
    "zeromf": frozenset({200, 483}),
    "cparam01": NO_METHOD,
    "cparam02": NO_METHOD,
    "regescrt": NO_METHOD | {400},
    "sdp01": frozenset({200, 406}),
    # 3.4: RFC 2543
    "inv2543": REFUSED | {200},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("torture")) as stage:
        yield stage


@pytest.fixture(scope="module")
def answers(stage: Stage) -> dict[str, list[int]]:
    """Every message over a connection of its own, beside a call that comes out whole."""
    found = {}
    with Witness(stage):
        for path in sorted(CORPUS.glob("*.dat")):
            may_be_silent = None in ANSWERS[path.stem]
            connection = Connection(server=stage.server("tcp"), wait_s=0.5 if may_be_silent else ANSWER_S)
            found[path.stem] = [reply.code for reply in connection.ask(path.read_bytes())]
    return found


def test_the_corpus_is_whole() -> None:
    assert {path.stem for path in CORPUS.glob("*.dat")} == set(ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_torture_message_is_answered_as_the_rfc_says(answers: dict[str, list[int]], name: str) -> None:
    got: int | None = answers[name][0] if answers[name] else None
    assert got in ANSWERS[name]


def test_torture_by_datagrams_and_over_one_connection_disturbs_nothing(stage: Stage) -> None:
    with (
        Witness(stage),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.create_connection(stage.server("tcp")) as stream,
    ):
        for path in sorted(CORPUS.glob("*.dat")):
            if path.stem not in ("esc01", "longreq", "sdp01", "inv2543"):  # taken, and ended by nobody
                datagrams.sendto(path.read_bytes(), stage.server("udp"))
        for path in sorted(CORPUS.glob("reg*.dat")):
            stream.sendall(path.read_bytes())
