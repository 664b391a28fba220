"""A recipient's certificate that has ended: the recorder starts, encrypts, and says so every hour."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recorderd.app.recipient_watch import RecipientWatch
from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import RecipientExpired, RecipientUnusable
from recorderd.core.events import EventLog
from recorderd.evidence.envelope import CertificateRecipients
from recorderd.evidence.loading import load_recipients
from recorderd.evidence.recipients import load_certificate
from tests.support.recipients import make_recipient, openssl_opens


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, now: datetime) -> None:
        self.now, self.mono_s = now, 100

    def utc_ns(self) -> int:
        return int(self.now.timestamp()) * NS_PER_S

    def mono_ns(self) -> int:
        return self.mono_s * NS_PER_S


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("office")
    make_recipient(folder, "short", days="5")
    make_recipient(folder, "long", days="50")
    return folder


def _load(office: Path, *names: str, days: int) -> CertificateRecipients:
    now = datetime.now(tz=UTC) + timedelta(days=days)
    loaded = load_recipients([office / f"{name}.pem" for name in names], now=now)
    assert isinstance(loaded, CertificateRecipients)
    return loaded


def _opened(loaded: CertificateRecipients, office: Path, name: str, folder: Path) -> bytes | None:
    (folder / "x.p7m").write_bytes(b"".join(loaded.encrypt([b"what was said"], content_bytes=13)))
    return openssl_opens(folder / "x.p7m", office / f"{name}.pem")


def test_one_that_has_ended_is_left_out_while_another_is_valid(office: Path, tmp_path: Path) -> None:
    loaded = _load(office, "short", "long", days=10)
    assert _opened(loaded, office, "long", tmp_path) == b"what was said"
    assert _opened(loaded, office, "short", tmp_path) is None
    both = _load(office, "short", "long", days=0)
    assert [_opened(both, office, name, tmp_path) for name in ("short", "long")] == [b"what was said"] * 2


def test_when_all_have_ended_they_are_encrypted_to_all_the_same(office: Path, tmp_path: Path) -> None:
    loaded = _load(office, "short", "long", days=60)
    assert [_opened(loaded, office, name, tmp_path) for name in ("short", "long")] == [b"what was said"] * 2
    with pytest.raises(RecipientExpired, match="is valid from"):
        load_certificate(office / "long.pem", now=datetime.now(tz=UTC) + timedelta(days=60))
    with pytest.raises(RecipientUnusable) as caught:  # that has not begun is another matter
        load_certificate(office / "long.pem", now=datetime.now(tz=UTC) - timedelta(days=1))
    assert not isinstance(caught.value, RecipientExpired)


def test_it_is_told_at_start_and_every_hour_and_in_the_status(
    office: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(datetime.now(tz=UTC))
    log = EventLog(logger=logging.getLogger("watch"), clock=clock)
    watch = RecipientWatch({"bank": _load(office, "short", "long", days=0)}, clock=clock, log=log)
    watch.look()
    assert watch.describe() == [] and "recipient_expired" not in log.counters()
    clock.now += timedelta(days=10)  # it ends while the recorder runs, which still encrypts to it
    for seconds in (10, 3590, 10, 3000, 600):
        clock.mono_s += seconds
        watch.look()
    assert log.counters()["recipient_expired"] == 2
    assert [(row["section"], row["used"]) for row in watch.describe()] == [("bank", True)]
    assert "CN=short" in caplog.text
    restarted = RecipientWatch({"bank": _load(office, "short", "long", days=10)}, clock=clock, log=log)
    restarted.look()
    assert [row["used"] for row in restarted.describe()] == [False]
    assert log.counters()["recipient_expired"] == 3
