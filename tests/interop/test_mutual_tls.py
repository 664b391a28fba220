"""SIP over TLS with certificates on both sides: who shows none, or a wrong one, is not let in."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recorderd.evidence.keys import create_self_signed
from tests.interop.stage import Play, Stage, check_audio, say, talk
from tests.support.field import rfc7865
from tests.support.sip_client import SipClient
from tests.support.sip_dialog import Dialog


@dataclass(frozen=True, kw_only=True)
class Strict:
    """A house that lets in who shows the exchange's certificate."""

    stage: Stage
    known: tuple[Path, Path]
    unknown: tuple[Path, Path]

    def client(self, certificate: tuple[Path, Path] | None, *, trusted: Path | None = None) -> SipClient:
        """Connect over TLS."""
        return SipClient(
            server=self.stage.server("tls"),
            transport="tls",
            certificate=certificate,
            trusted=trusted or self.stage.certificate,
        )


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    folder = tmp_path_factory.mktemp("strict")
    pairs = []
    for name in ("exchange", "stranger"):
        key, certificate = create_self_signed(common_name=f"{name}.example")
        (folder / f"{name}.pem").write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(key)
        pairs.append((folder / f"{name}.pem", folder / f"{name}.key"))
    house = folder / "house"
    house.mkdir()
    stage = Stage(house)
    text = stage.house.recorder_toml.read_text()
    options = f"ca_file = '{pairs[0][0]}'\nrequire_client_certificate = true\nverify_peer = false"
    stage.house.recorder_toml.write_text(text.replace("verify_peer = false", options))
    with stage:
        yield Strict(stage=stage, known=pairs[0], unknown=pairs[1])


def test_the_exchange_with_its_certificate_is_recorded(strict: Strict) -> None:
    play = Play(stage=strict.stage, transport="tls")
    with strict.client(strict.known) as client:
        dialog = Dialog(client=client)
        assert dialog.send(rfc7865.invite(play.scene(client))).code == 200
        talks = [talk(line) for line in dialog.lines]
        say(*talks)
        assert dialog.bye().code == 200
    check_audio(play.archived(dialog), *talks, channels=2)


@pytest.mark.parametrize("shown", ["none", "unknown"])
def test_whoever_shows_no_known_certificate_gets_no_answer(strict: Strict, shown: str) -> None:
    certificate = strict.unknown if shown == "unknown" else None
    with pytest.raises((OSError, TimeoutError)), strict.client(certificate) as client:
        Dialog(client=client).ask("OPTIONS").code  # noqa: B018
    with strict.client(strict.known) as client:
        assert client.options().code == 200


def test_a_client_that_pins_another_certificate_does_not_talk_to_us(strict: Strict) -> None:
    with pytest.raises(ssl.SSLError):
        strict.client(strict.known, trusted=strict.unknown[0])


def test_without_the_option_no_client_certificate_is_asked_for(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        server = stage.server("tls")
        with SipClient(server=server, transport="tls", trusted=stage.certificate) as client:
            assert client.options().code == 200
