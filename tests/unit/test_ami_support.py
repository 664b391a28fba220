"""What tests read from an exchange's manager interface means what they take it for."""

from __future__ import annotations

from tests.support.ami import linked_calls, parse_message

TRANSFER = """Event: AttendedTransfer
OrigTransfererChannel: PJSIP/1002-00000022
OrigTransfererChanVariable: REC_CALL=exchange-1.0
SecondTransfererChannel: PJSIP/1002-00000025
SecondTransfererChanVariable: REC_CALL=exchange-2.4
Result: {result}"""


def test_an_attended_transfer_names_the_calls_that_became_one() -> None:
    event = parse_message(TRANSFER.format(result="Success"))
    assert linked_calls(event) == ("exchange-1.0", "exchange-2.4")


def test_a_transfer_that_failed_and_other_events_link_nothing() -> None:
    assert linked_calls(parse_message(TRANSFER.format(result="Fail"))) is None
    assert linked_calls(parse_message("Event: Hangup\nChanVariable: REC_CALL=exchange-1.0")) is None
