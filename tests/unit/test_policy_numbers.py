"""Numbers in one form, feature codes, and who may use them."""

from __future__ import annotations

import pytest

from recorderd.core.messages import ControlAction
from recorderd.policy.codes import FeatureCodes, action_of, is_feature_code, may_control
from recorderd.policy.numbers import Numbering, matches, normalise

UK = Numbering(country_code="44", trunk_prefix="0", international_prefix="00")
US = Numbering(country_code="1", trunk_prefix="1", international_prefix="011")
SPAIN = Numbering(country_code="34", international_prefix="00")
UNKNOWN = Numbering()
LONDON = "+442079460123"


@pytest.mark.parametrize(
    ("written", "plan", "canonical"),
    [
        ("+442079460123", UK, LONDON),
        ("00442079460123", UK, LONDON),
        ("02079460123", UK, LONDON),
        ("442079460123", UK, LONDON),
        ("sip:+442079460123@example.com;user=phone", UK, LONDON),
        ("sips:02079460123@example.com", UK, LONDON),
        ("tel:+44-20-7946-0123;phone-context=x", UK, LONDON),
        ('"Bob" <sip:02079460123@example.com>;tag=1', UK, LONDON),
        ("+44 (0)20 7946 0123", UK, LONDON),
        ("(020) 7946.0123", UK, LONDON),
        ("%2B442079460123", UK, LONDON),
        ("0049301234567", UK, "+49301234567"),
        ("1001", UK, "1001"),
        ("011234", UK, "011234"),  # six digits are an extension
        ("0112345", UK, "+44112345"),
        ("79460123", UK, "79460123"),  # without area code: whose, cannot be told
        ("sip:Alice@example.com", UK, "alice"),
        ("anonymous", UK, "anonymous"),
        ("*48", UK, "*48"),
        ("", UK, ""),
        ("12025550123", US, "+12025550123"),
        ("011442079460123", US, LONDON),
        ("2025550123", US, "2025550123"),
        ("912345678", SPAIN, "+34912345678"),
        ("34912345678", SPAIN, "+34912345678"),
        ("0034912345678", SPAIN, "+34912345678"),
        ("02079460123", UNKNOWN, "02079460123"),
        ("442079460123", UNKNOWN, "442079460123"),
    ],
)
def test_a_number_has_one_form_and_extensions_and_names_stay(
    written: str, plan: Numbering, canonical: str
) -> None:
    assert normalise(written, plan) == canonical
    assert normalise(canonical, plan) == canonical


@pytest.mark.parametrize(
    ("pattern", "number", "fits"),
    [
        ("02079460123", LONDON, True),
        (LONDON, "02079460123", True),
        ("442079460123", "00442079460123", True),
        ("0207946*", LONDON, True),
        ("+4420*", "02079460123", True),
        ("+4420*", "01612345678", False),
        ("004420*23", "02079460123", True),
        ("004420*24", "02079460123", False),
        ("020794601??", LONDON, True),
        ("0207946012?", "020794601234", False),
        ("*0123", "02079460123", True),
        ("+*", "02079460123", True),
        ("+*", "1001", False),
        ("00*", "+49301234567", True),
        ("0*", LONDON, True),
        ("0*", "012", True),
        ("0*", "+49301234567", False),
        ("10??", "1001", True),
        ("10??", "10011", False),
        ("10??", "100", False),
        ("?" * len(LONDON), LONDON, False),  # a plus is no digit
        ("44*", LONDON, False),  # 44.. may be extensions; +44* says what is meant
        ("44*", "4401", True),
        ("*", "1001", True),
        ("*", "", False),
        ("al?ce", "sip:Alice@h", True),
        ("", "1001", False),
    ],
)
def test_a_pattern_matches_however_a_number_is_written(pattern: str, number: str, fits: bool) -> None:
    assert matches(pattern, number, UK) is fits


CODES = FeatureCodes().actions()


@pytest.mark.parametrize(
    ("user", "is_code", "action"),
    [
        ("*44", True, ControlAction.START),
        ("*47", True, ControlAction.STOP),
        ("*48", True, ControlAction.PAUSE),
        ("*49", True, ControlAction.RESUME),
        ("*46", True, ControlAction.OBJECT),
        ("*45", True, ControlAction.CONSENT),
        ("%2A48", True, ControlAction.PAUSE),
        ("%2a48", True, ControlAction.PAUSE),
        ("*48;phone-context=h", True, ControlAction.PAUSE),
        ("*99", True, None),
        ("*", True, None),
        ("%2A1", True, None),
        ("48", False, None),
        ("recorder", False, None),
        ("1*48", False, None),
        ("", False, None),
    ],
)
def test_a_user_part_is_a_code_known_or_not_or_none(
    user: str, is_code: bool, action: ControlAction | None
) -> None:
    assert is_feature_code(user, CODES) is is_code
    assert action_of(user, CODES) is action


def test_codes_can_be_others_and_can_be_none() -> None:
    codes = FeatureCodes(pause="#7", object="").actions()
    assert action_of("%237", codes) is ControlAction.PAUSE
    assert is_feature_code("#7", codes)
    assert action_of("*48", codes) is None
    assert action_of("*46", codes) is None
    assert not is_feature_code("", codes)


@pytest.mark.parametrize(
    ("user", "may"),
    [
        ("1001", True),
        ("sip:1001@192.0.2.1", True),
        ("00442079460123", True),
        ("1900", True),
        ("1955", True),
        ("1002", False),
        ("100", False),
        ("", False),
    ],
)
def test_parties_and_supervisors_may_control_a_session_and_nobody_else(user: str, may: bool) -> None:
    parties, supervisors = ("1001", "02079460123", ""), ("1900", "195?")
    assert may_control(user, parties=parties, supervisors=supervisors, numbering=UK) is may
