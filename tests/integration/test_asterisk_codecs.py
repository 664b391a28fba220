"""A real exchange hands its legs over in other codecs, as its own encoders make them."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.asterisk import Exchange
from tests.support.audio import tone_level_dbfs
from tests.support.phone import Phone
from tests.support.registered import RegisteredHouse

TALK_S = 1.0
LEAK_DBFS = -50.0
RATES_HZ = {"g722": 16_000, "opus": 48_000}


def test_legs_in_any_codec_are_clean_channels_at_the_rate_of_the_codec(tmp_path: Path) -> None:
    with Exchange() as exchange, RegisteredHouse(tmp_path, exchange, transport="udp") as house:
        recorder = house.recorder()
        exchange.registered("recorder", timeout_s=10)
        codecs = dict(RATES_HZ)
        if "codec_opus" not in exchange.cli("module show like codec_opus"):
            del codecs["opus"]  # an older exchange has none
        for number, (codec, rate_hz) in enumerate(codecs.items()):
            with (
                exchange.switched(REC_ENDPOINT="recorder-codecs", REC_CODECS=codec),
                Phone("1001", exchange, 400) as caller,
                Phone("1002", exchange, 1000) as callee,
            ):
                caller.call("1002")
                callee.wait("confirmed")
                time.sleep(TALK_S)
                caller.hangup()
            recorded = house.sealed(house.wait_sealed(recorder, number + 1)[-1])
            samples, found_hz = recorded.samples()
            assert (found_hz, samples.shape[1]) == (rate_hz, 2), codec
            assert {entry["encoding"].lower() for entry in recorded.streams()} == {codec}
            middle = samples[found_hz // 4 : -found_hz // 4]
            for channel, (tone_hz, other_hz) in enumerate(((1000, 400), (400, 1000))):
                assert tone_level_dbfs(middle[:, channel], found_hz, tone_hz) > -20, codec
                assert tone_level_dbfs(middle[:, channel], found_hz, other_hz) < LEAK_DBFS, codec
            assert not any(entry["packets_lost"] for entry in recorded.manifest["streams"]), codec
