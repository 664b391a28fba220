"""What is typed into a search is understood or refused by name; a number has one form, however written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.app.archive_configuration import CatalogueSection
from recorderd.app.catalogue_configuration import catalogue_problems
from recorderd.app.schema import parse
from recorderd.archive.criteria import KINDS, Criteria, parse_criteria
from recorderd.archive.numbers import KEY_LIMIT, canonical, ending, parts_of
from recorderd.core.errors import ConfigurationError, SearchRefused

WRITTEN = st.text(max_size=80) | st.text(alphabet="0123456789+()-. @;:tels", max_size=30)


@given(st.dictionaries(st.sampled_from([*KINDS, "other"]), st.lists(st.text(max_size=220), max_size=25)))
def test_any_words_are_criteria_or_are_refused(words: dict[str, list[str]]) -> None:
    try:
        assert isinstance(parse_criteria(words), Criteria)
    except SearchRefused as refused:
        assert refused.fields["field"] in words or refused.fields["field"] in KINDS


def test_a_day_is_meant_to_its_end_however_it_is_written_and_a_week_is_no_day() -> None:
    spans = [
        parse_criteria({"since": [day], "until": [day]}) for day in ("2026-11-23", "20261123", " 20261123 ")
    ]
    assert {(criteria.until_ms or 0) - (criteria.since_ms or 0) for criteria in spans} == {86_400_000}
    assert len({criteria.until_ms for criteria in spans}) == 1
    for week in ("2026-W48", "2026W481", "2026-W48-1"):
        with pytest.raises(SearchRefused):
            parse_criteria({"until": [week]})


@given(WRITTEN, st.sampled_from(["", "GB", "DE", "US", "IT"]))
def test_the_one_form_of_a_number_is_the_form_of_itself(written: str, region: str) -> None:
    key = canonical(written, region)
    assert canonical(key, region) == key or not key.startswith("+")
    assert len(key) <= KEY_LIMIT
    assert all(key.removeprefix("+").endswith(part) for part in parts_of(key))


@given(st.integers(2_000_000_000, 2_099_999_999))
def test_notations_of_one_number_have_one_form(national: int) -> None:
    area, rest = str(national)[:2], str(national)[2:]
    written = (
        f"+44{national}",
        f"0044{national}",
        f"0{national}",
        f"(0{area}) {rest}",
        f"tel:+44-{area}-{rest}",
    )
    forms = {canonical(text, "GB") for text in written}
    valid = canonical(f"+44{national}", "GB") == canonical(f"0{national}", "GB")
    assert len(forms) == 1 or not valid


def test_a_short_number_is_an_extension_and_a_word_a_name() -> None:
    assert [canonical(text, "GB") for text in ("2001", " Alice  Smith ", "sip:BOB@office", "*44", "")] == [
        *("2001", "alice smith", "bob", "*44"),
        "",
    ]
    assert (ending("02079460000", ""), ending("02079460000", "GB"), ending("0123", "")) == (
        "2079460000",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"url": "postgresql://u:secret@host/name"}, "the password has a file of its own"),
        ({"url": "mysql://host/name"}, "postgresql://USER@HOST:PORT/NAME"),
        ({"region": "Britain"}, "two capital letters"),
    ],
)
def test_a_catalogue_that_cannot_be_meant_is_refused(table: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as told:
        parse(CatalogueSection, table, base=Path(), path=Path("archive.toml"))
    assert "secret" not in str(told.value)


def test_a_password_without_a_database_is_refused() -> None:
    section = CatalogueSection(password_file=Path("secret"))
    assert [problem.key for problem in catalogue_problems(section)] == ["catalogue.password_file"]
