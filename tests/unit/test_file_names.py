"""The audio's name: what a template says of the call, safe whatever is sent, and its own by the id."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.policy.file_names import FACTS, STEM_LIMIT, NameTemplate, plain_fact, template_flaw
from recorderd.record.vault import vault_name, wrapped_key_name
from recorderd.wire.names import (
    audio_among,
    audio_name,
    is_audio_name,
    required_names,
    signed_name,
)

ID = "20201124T164249-5f3c9a1e77d0"
BEGUN_UTC_NS = 1_606_236_169_900_000_000  # 2020-11-24 16:42:49.9 UTC
SUMMER_UTC_NS = (
    1_603_587_600_000_000_000  # 2020-10-25 01:00:00 UTC: in Berlin the hour from 2 to 3 comes twice
)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _stem(template: str, *, begun_utc_ns: int = BEGUN_UTC_NS, local: bool = False, **facts: str) -> str:
    assert template_flaw(template) is None
    facts = {name.rstrip("_"): value for name, value in facts.items()}
    return NameTemplate(text=template, local_time=local).stem(
        facts, recording_id=ID, begun_utc_ns=begun_utc_ns
    )


def test_the_default_tells_time_parties_direction_and_id() -> None:
    facts = {"from": "+44 29 2012 3123", "to": "sip:02077456456@exchange.example", "direction": "inbound"}
    stem = NameTemplate().stem(facts, recording_id=ID, begun_utc_ns=BEGUN_UTC_NS)
    assert stem == f"20201124164249-442920123123-02077456456-inbound-{ID}"


def test_facts_that_are_not_known_are_said_to_be_so() -> None:
    stem = NameTemplate().stem({}, recording_id=ID, begun_utc_ns=BEGUN_UTC_NS)
    assert stem == f"20201124164249-unknown-unknown-unknown-{ID}"


def test_a_template_of_ones_own_names_any_fact() -> None:
    stem = _stem(
        "{queue}-{trunk}_%Y-%m-%d-{extension}-{id}", queue="Sales DE", trunk="trunk-1", extension="7"
    )
    assert stem == f"sales_de-trunk_1_2020-11-24-7-{ID}"
    assert _stem("{id}", queue="x") == ID


@pytest.mark.usefixtures("berlin")
def test_time_is_utc_or_that_of_the_place() -> None:
    assert _stem("%H%M-{id}") == f"1642-{ID}"
    assert _stem("%H%M-{id}", local=True) == f"1742-{ID}"
    hour_ns = 3_600_000_000_000
    hours = [SUMMER_UTC_NS - hour_ns, SUMMER_UTC_NS]
    assert [_stem("%H-{id}", begun_utc_ns=at, local=True)[:2] for at in hours] == ["02", "02"]
    assert [_stem("%H-{id}", begun_utc_ns=at)[:2] for at in hours] == ["00", "01"]


@pytest.mark.parametrize(
    ("sent", "stands"),
    [
        ("../../etc/passwd", "etc_passwd"),
        ("..", "unknown"),
        (".hidden", "hidden"),
        ("a/b\\c", "a_b_c"),
        ("x\x00\r\n\x1b[31my", "x_31my"),
        ("\u202egnp.exe\u2066", "gnp_exe"),
        ("Zoë Müller", "zoe_muller"),
        ("ﬁve", "five"),
        ("Иван", "unknown"),
        ("☎ 4711", "4711"),
        ("*44", "44"),
        ("\ud800", "unknown"),
        ("  ", "unknown"),
        ("9" * 500, "9" * 32),
        ('"Alice" <sip:alice@example.com;transport=tls>', "alice"),
        ("-rf", "rf"),
    ],
)
def test_what_a_caller_sends_cannot_lead_elsewhere_or_deceive(sent: str, stands: str) -> None:
    assert plain_fact(sent) == stands


@pytest.mark.parametrize(
    ("template", "remedy"),
    [
        ("", "end it with"),
        ("%Y%m%d", "end it with"),
        ("%Y{id}", "end it with"),
        ("{id}-%Y", "end it with"),
        ("{id}-{id}", "end it with"),
        ("../{id}", "write letters"),
        ("a b-{id}", "write letters"),
        ("%A-{id}", "write letters"),
        ("%-{id}", "write letters"),
        ("{from!r}-{id}", "write letters"),
        ("{from.x}-{id}", "write letters"),
        ("{password}-{id}", "no field 'password'"),
        ("x" * 200 + "-{id}", "write letters"),
    ],
)
def test_a_template_that_cannot_name_every_recording_is_refused(template: str, remedy: str) -> None:
    flaw = template_flaw(template)
    assert flaw is not None and remedy in flaw


PARTS = st.sampled_from([*(f"{{{fact}}}" for fact in FACTS), "%Y", "%j", "-", "_", "x"])


@given(
    st.lists(PARTS, max_size=20).map("".join),
    st.dictionaries(st.sampled_from(FACTS), st.text() | st.text("./\\\0\u202e-%{}", min_size=1)),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True),
    st.integers(0, 4_000_000_000),
)
def test_any_call_gets_a_name_that_every_reader_takes(
    head: str, facts: dict[str, str], recording_id: str, begun_s: int
) -> None:
    template = f"{head}-{{id}}"
    if template_flaw(template) is not None:
        return
    stem = NameTemplate(text=template).stem(
        facts, recording_id=recording_id, begun_utc_ns=begun_s * 1_000_000_000
    )
    assert is_audio_name(audio_name(stem), recording_id)
    assert len(stem) <= STEM_LIMIT and stem.endswith(recording_id)


def test_a_name_is_cut_before_it_is_too_long_for_its_signature_and_keeps_the_id() -> None:
    facts = dict.fromkeys(("from_", "to", "queue", "trunk"), "9" * 40)
    stem = _stem("{from}-{to}-{queue}-{trunk}-{id}", **facts)
    assert stem == f"{'9' * 32}-{'9' * 32}-{'9' * (STEM_LIMIT - 67 - len(ID))}-{ID}"
    assert len(stem) == STEM_LIMIT and is_audio_name(audio_name(stem) + ".p7m", ID)


def test_the_longest_stem_leaves_room_for_every_ending_of_an_encrypted_recording() -> None:
    wav = audio_name(f"{'9' * (STEM_LIMIT - len(ID) - 1)}-{ID}")
    endings = (f"{wav}.p7m", f"{wav}.001.gpg", vault_name(wav), wrapped_key_name(wav, suffix=".p7m"))
    assert all(is_audio_name(name, ID) for name in endings)


@pytest.mark.parametrize(
    ("there", "audio", "signature"),
    [
        (("x-{id}.wav", "x-{id}.wav.p7s"), "x-{id}.wav", "x-{id}.wav.p7s"),
        (("{id}.wav.p7m", "{id}.wav.p7s"), "{id}.wav.p7m", "{id}.wav.p7s"),
        (("{id}.wav.002.gpg", "{id}.wav.001.gpg", "{id}.wav.p7s"), "{id}.wav.001.gpg", "{id}.wav.p7s"),
        (
            ("{id}.wav.key.p7m", "{id}.wav.draft.p7s", "{id}.wav.draft"),
            "{id}.wav.draft",
            "{id}.wav.draft.p7s",
        ),
        (("{id}.wav.p7s",), "{id}.wav", "{id}.wav.p7s"),
    ],
    ids=["plain", "encrypted", "in parts", "a draft", "without its audio"],
)
def test_the_audio_is_found_among_names_and_its_signature_is_that_of_the_plain_one(
    there: tuple[str, ...], audio: str, signature: str
) -> None:
    found = audio_among([name.format(id=ID) for name in there], ID)[0]
    assert found == audio.format(id=ID)
    assert required_names(ID, audio=found)[-2:] == (signature.format(id=ID), found)


def test_a_signature_is_over_what_an_envelope_holds_and_over_anything_else_itself() -> None:
    assert signed_name("x.wav.p7m") == signed_name("x.wav.017.gpg") == signed_name("x.wav") == "x.wav"
    for name in ("x.wav.draft", "x.wav.key.p7m", "x.wav.0017.p7m", "x.wav.p7m.p7m"):
        assert signed_name(name) == name
