"""A machine that stamps, authorities that answer, and recorderd-flush and the archive that ask them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorderd.core.clock import NS_PER_S, SystemClock
from recorderd.core.events import EventLog
from recorderd.evidence.timestamp import make_request
from recorderd.evidence.verify import TrustStore
from recorderd.flush.authority import Authority, ask_authority
from recorderd.flush.stamping import WORKERS, Stamper, StampingSettings
from tests.support.bundles import Loopback
from tests.support.tsa import StampingMachine, TimeAuthority, openssl_ts_verify, sha256_hex

QUERY = make_request(sha256_hex=sha256_hex(b"x"), nonce=1)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> StampingMachine:
    return StampingMachine(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def authority(machine: StampingMachine) -> Iterator[TimeAuthority]:
    with TimeAuthority(machine) as running:
        yield running


def configured(*authorities: TimeAuthority | str, wait_s: int = 60, batch_s: int = 3600) -> str:
    """Write the part of recorderd.toml about time stamps."""
    rows = [f"[timestamps]\nwait_s = {wait_s}\nbatch_s = {batch_s}\nretry_s = 1"]
    for entry in authorities:
        url = entry if isinstance(entry, str) else entry.url
        ca_file = next(a for a in authorities if isinstance(a, TimeAuthority)).machine.ca_file
        rows.append(f'[[timestamps.authorities]]\nurl = "{url}"\nca_file = "{ca_file}"\ntimeout_s = 30')
    return "\n".join(rows)


@contextmanager
def stamping(
    loopback: Loopback,
    authority: TimeAuthority,
    *,
    wait_ns: int,
    workers: int = WORKERS,
    apart_limit_s: int = 2 * 86_400,
) -> Iterator[tuple[Stamper, list[str]]]:
    """Run a stamper as recorderd-flush does, with what it logs."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.Logger("stamps")
    logger.addHandler(Listener())
    clock = SystemClock()
    asked = Authority(url=authority.url, trust=TrustStore([authority.machine.root]), timeout_s=30)
    stamper = Stamper(
        settings=StampingSettings(
            authorities=(asked,),
            wait_ns=wait_ns,
            batch_ns=3600 * NS_PER_S,
            retry_ns=NS_PER_S // 5,
            apart_limit_ns=apart_limit_s * NS_PER_S,
        ),
        spool=loopback.spool,
        clock=clock,
        log=EventLog(logger=logger, clock=clock),
    )
    stop = threading.Event()
    running = [threading.Thread(target=stamper.run, args=(stop,)) for _ in range(workers)]
    for worker in running:
        worker.start()
    try:
        yield stamper, lines
    finally:
        stop.set()
        for worker in running:
            worker.join(10)


def stored(loopback: Loopback, recording_id: str) -> Path:
    (folder,) = (loopback.data_dir / "store").glob(f"*/*/*/{recording_id}")
    return folder


def stamp_names(recording_id: str) -> tuple[str, str]:
    return f"{recording_id}.manifest.json.p7s.tsr", f"{recording_id}.wav.p7s.tsr"


def stamps_of(folder: Path) -> tuple[str, ...]:
    """Name the stamps that a recording may have, the manifest's first."""
    audio = [f"{path.name}.p7s.tsr" for path in folder.glob("*.wav")]
    return (f"{folder.name}.manifest.json.p7s.tsr", *audio)


def assert_stamped(folder: Path, machine: StampingMachine) -> None:
    """Both signatures of a recording have a stamp that openssl takes."""
    for name in stamps_of(folder):
        signature = folder / name.removesuffix(".tsr")
        assert openssl_ts_verify(folder / name, ca_file=machine.ca_file, data=signature)


# --- one question -------------------------------------------------------------------------------------


def ask(authority: TimeAuthority, *, timeout_s: int = 5, **how: str) -> bytes:
    asked = Authority(url=authority.url, trust=TrustStore([]), timeout_s=timeout_s, **how)  # type: ignore[arg-type]
    return ask_authority(asked, QUERY)
