"""a=crypto lines: what is read, what is refused, and that no key leaves by a repr or an error."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.core.errors import SdpFormatError
from recorderd.wire.sdes import SrtpKeys, Suite, parse_crypto, without_keys, write_crypto
from recorderd.wire.sdp import parse_sdp

# RFC 4568 section 10.2
RFC_LINE = "1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4"
KEY30 = "inline:" + base64.b64encode(bytes(range(30))).decode()


def test_the_line_of_the_rfc_is_read_with_its_key_salt_lifetime_and_mki() -> None:
    line = parse_crypto(RFC_LINE)
    assert (line.tag, line.suite_name, line.problem) == (1, "AES_CM_128_HMAC_SHA1_80", "")
    assert line.keys is not None
    assert line.keys.master == b"YS___semctl () {\t220;}\n}\nunles"
    assert line.keys.mki == b"\0\0\0\1"


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("mki", [b"", b"\7", bytes(127) + b"\1"])
def test_each_suite_survives_a_round_trip(suite: Suite, mki: bytes) -> None:
    keys = SrtpKeys(suite=suite, master=bytes(range(suite.key_bytes + suite.salt_bytes)), mki=mki)
    line = parse_crypto(write_crypto(tag=7, suite_name=suite.value, keys=keys))
    assert (line.tag, line.keys, line.problem) == (7, keys, "")


@pytest.mark.parametrize("bits", ["80", "32"])
def test_the_other_spelling_of_aes_256_is_the_same_suite_and_kept_for_the_answer(bits: str) -> None:
    key = base64.b64encode(bytes(46)).decode()
    line = parse_crypto(f"1 AES_CM_256_HMAC_SHA1_{bits} inline:{key}")
    assert line.keys is not None
    assert line.keys.suite.value == f"AES_256_CM_HMAC_SHA1_{bits}"
    assert line.suite_name == f"AES_CM_256_HMAC_SHA1_{bits}"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (f"1 F8_128_HMAC_SHA1_80 {KEY30}", "suite F8_128_HMAC_SHA1_80 is not supported"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30} UNENCRYPTED_SRTP", "UNENCRYPTED_SRTP is refused"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30} unencrypted_srtcp", "UNENCRYPTED_SRTCP is refused"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30} UNAUTHENTICATED_SRTP", "UNAUTHENTICATED_SRTP is refused"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30} KDR=4", "session parameter 'KDR' is not supported"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30} FEC_ORDER=FEC_SRTP", "'FEC_ORDER' is not supported"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30}|1:4;{KEY30}|2:4", "several keys"),
        ("1 AES_CM_128_HMAC_SHA1_80 uri:somewhere", "not inline"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:AAAA", "its key and salt have 3 octets"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:!!!!", "not base64"),
        (f"1 AEAD_AES_128_GCM {KEY30}", "its key and salt have 30 octets"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30}|2^49", "lifetime"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30}|256:1", "MKI"),
        (f"1 AES_CM_128_HMAC_SHA1_80 {KEY30}|1:129", "MKI"),
    ],
)
def test_what_we_cannot_do_makes_the_line_unusable_and_says_why(value: str, why: str) -> None:
    line = parse_crypto(value)
    assert line.keys is None
    assert why in line.problem


@pytest.mark.parametrize(
    "value", [f"1 AES_CM_128_HMAC_SHA1_80 {KEY30} WSH=128", f"1 AES_CM_128_HMAC_SHA1_80 {KEY30} -X"]
)
def test_parameters_that_may_be_ignored_are(value: str) -> None:
    assert parse_crypto(value).keys is not None


@pytest.mark.parametrize("value", ["", "1", f"x AES_CM_128_HMAC_SHA1_80 {KEY30}", f"1 ?? {KEY30}"])
def test_what_is_no_crypto_line_raises_without_quoting_a_key(value: str) -> None:
    with pytest.raises(SdpFormatError) as caught:
        parse_crypto(value)
    assert KEY30[7:] not in str(caught.value)


@given(
    st.one_of(
        st.text(), st.lists(st.sampled_from([*RFC_LINE.split(), "|", ";", ":", "KDR=", "²"])).map(" ".join)
    )
)
def test_any_text_is_a_crypto_line_or_unusable_or_raises(value: str) -> None:
    try:
        line = parse_crypto(value)
    except SdpFormatError:
        return
    assert (line.keys is None) == bool(line.problem)


@given(st.binary(max_size=60))
def test_no_key_is_in_a_repr(tail: bytes) -> None:
    line = parse_crypto(RFC_LINE)
    assert "semctl" not in repr(line)
    assert "WVNf" not in repr(line)
    sdp = f"v=0\r\nm=audio 4000 RTP/SAVP 8\r\na=crypto:{RFC_LINE}\r\n".encode()
    assert "WVNf" not in repr(parse_sdp(sdp))
    broken = sdp.replace(b"|2^20", b"\xff" + tail.replace(b"\n", b"").replace(b"\r", b""))
    try:
        assert "WVNf" not in repr(parse_sdp(broken))
    except SdpFormatError as problem:
        assert "WVNf" not in str(problem)


def test_a_message_can_be_kept_without_its_keys() -> None:
    raw = f"INVITE sip:x SIP/2.0\r\n\r\nv=0\r\na=crypto:{RFC_LINE}\r\na=label:1\r\n".encode()
    blank = without_keys(raw)
    assert b"WVNf" not in blank
    assert len(blank) == len(raw)
    assert blank.endswith(b"|2^20|1:4\r\na=label:1\r\n")
