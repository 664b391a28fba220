"""The nursery's process (see ``faults``): reads orders, splits programs off, and tells how they ended."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import alembic.command  # noqa: F401 - loaded once, for all that migrate a catalogue

from recorderd.app import archive, flush, recorderd
from recorderd.evidence.keys import Signer
from recorderd.record.recorder import Pace
from recorderd.spool.layout import Place, Spool
from tests.support import recorder_edges
from tests.support.descriptor_keeper import DescriptorKeeper
from tests.support.studio import DELAY_MS, Studio

SESSION: Final = "call"
CALL_MS: Final = 1200
END_MS: Final = 2600
PACE: Final = Pace(window_ms=500, delay_ms=DELAY_MS, checkpoint_s=1, silence_limit_s=0, proof_s=1)


def _studio(root: Path, keys: Path, *, now_ms: int = 0) -> Studio:
    signer = Signer.from_files(
        key_file=keys / "recorder.key.pem", certificate_file=keys / "recorder.cert.pem"
    )
    return Studio(root, signer, pace=PACE, now_ms=now_ms)


def play(root: Path, keys: Path) -> Studio:
    """Set a studio up in which one short call of two voices is placed."""
    studio = _studio(root, keys)
    session = studio.session(SESSION)
    for side in range(2):
        voice = studio.voice(session, f"{SESSION}/{side}", first_ms=0, packets=CALL_MS // 20, side_rank=side)
        studio.voices.append(voice)
    studio.end(session, ms=CALL_MS)
    return studio


def record(root: str, keys: str) -> int:
    """Record that call, and stop."""
    play(Path(root), Path(keys)).run(END_MS)
    return 0


def recover(root: str, keys: str) -> int:
    """Start again where a recorder has ended."""
    _studio(Path(root), Path(keys), now_ms=END_MS)  # nothing is signed before it has ended
    return 0


def publish(spool: str, pace_ms: str) -> int:
    """Publish the sealed drafts of a spool, one by one."""
    opened = Spool(Path(spool), quota_bytes=1 << 30)
    for recording_id in opened.ids(Place.DRAFTS):
        opened.publish(recording_id)
        time.sleep(int(pace_ms) / 1000)
    return 0


PROGRAMS: Final[dict[str, Callable[..., int]]] = {
    "call": record,
    "recover": recover,
    "publish": publish,
    "recorder": lambda config: recorderd.main(["--config", config]),
    "flush": lambda config: flush.main(["--config", config]),
    "archive": lambda config: archive.main(["serve", "--config", config]),
    "fsck": lambda config: archive.main(["fsck", "--config", config]),
    "operator": lambda *words: archive.main(list(words)),
}


def _watch(edge: dict[str, Any]) -> None:
    """Let the table that the program runs by be its end at one of its edges, and note those that it takes."""
    if edge["module"] in recorder_edges.MODULES:
        recorder_edges.watch(edge)
        return
    table = importlib.import_module(edge["module"])
    step, passed = table.step, 0
    log = os.open(edge["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def watched(machine: Any, event: Any, **options: Any) -> Any:
        nonlocal passed
        taken = (machine.state.name, type(event).__name__)
        if taken in {(state.name, kind.__name__) for state, kind in table.EDGES}:
            os.write(log, f"{' '.join(taken)}\n".encode())
        if taken == (edge["state"], edge["event"]):
            passed += 1
            if passed == edge["passing"]:
                if edge["how"] == "after":
                    step(machine, event, **options)
                os.kill(os.getpid(), signal.SIGKILL)
        return step(machine, event, **options)

    table.step = watched


def _child(order: dict[str, Any], library: ctypes.CDLL, keeper: DescriptorKeeper | None) -> None:
    code = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR)
        for wanted, descriptor in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(wanted, descriptor)
        if keeper is not None:
            keeper.hand_over()
        fault, edge = order["fault"], order["edge"]
        if edge is not None:
            _watch(edge)
        if fault is not None:
            text = [fault[name].encode() for name in ("under", "named", "kind", "how", "log")]
            library.arm_fault(*text[:3], ctypes.c_long(fault["at"]), *text[3:])
        if order["trace"] is not None:
            ctypes.CDLL(os.environ["TRACE_LIBRARY"]).arm_trace(*(path.encode() for path in order["trace"]))
        code = PROGRAMS[order["program"]](*order["arguments"])
    except BaseException:  # also what a program is not to survive
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _tell(**row: int) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def _main() -> None:
    library = ctypes.CDLL(os.environ["FAULT_LIBRARY"])
    os.environ.pop("LD_PRELOAD")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    alive: dict[int, int] = {}  # pid -> which child it is
    born = 0
    keepers: dict[str, DescriptorKeeper] = {}
    while True:
        ready, _, _ = select.select([0, reader, *(keeper.socket for keeper in keepers.values())], [], [])
        for keeper in keepers.values():
            keeper.take()
        if reader in ready:
            os.read(reader, 512)
        while alive:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            _tell(ended=alive.pop(pid), code=os.waitstatus_to_exitcode(status))
        if 0 not in ready:
            continue
        line = _read_line()
        if not line:
            break
        order = json.loads(line)
        kept = order["keeper"]
        if kept and kept not in keepers:
            keepers[kept] = DescriptorKeeper(Path(kept))
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(reader)
            os.close(writer)
            _child(order, library, keepers.get(kept))
        born += 1
        alive[pid] = born
        _tell(born=born, pid=pid)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


def _read_line() -> bytes:
    """Read one order and nothing behind it."""
    line = b""
    while not line.endswith(b"\n"):
        octet = os.read(0, 1)
        if not octet:
            return b""
        line += octet
    return line


if __name__ == "__main__":
    _main()
