"""Deleting unsent recordings: what matters least goes first, and never without a signed entry that stands."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recorderd import durable
from recorderd.archive.lineage import Place as ChainPlace
from recorderd.archive.lineage import judge_chains
from recorderd.core.clock import SystemClock
from recorderd.core.events import EventLog
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.digest import sha256_bytes
from recorderd.record import shedding
from recorderd.record.chain import Chain
from recorderd.record.disk import InlineDisk
from recorderd.record.entries import Entries, EntryPolicy
from recorderd.record.shedding import Shedder
from recorderd.record.space import Space
from recorderd.spool.layout import Place
from recorderd.spool.reserve import Reserve
from recorderd.spool.shed import ShedFolder
from recorderd.wire.manifest import manifest_name
from tests.support.bundles import make_signer
from tests.support.small_disk import fill, small_disk
from tests.support.studio import Studio

CALLS = {
    "a-usual": RecordingTerms(),
    "b-low": RecordingTerms(priority=-2, rule="low"),
    "c-low": RecordingTerms(priority=-2, rule="low"),
    "d-must": RecordingTerms(priority=-5, mandatory=True),
    "e-high": RecordingTerms(priority=3),
}
STEPS = (
    *("publish", "publish_all", "replace", "discard", "discard_all", "remove_tree", "append", "put_all"),
    *("sync_all", "sync_dir", "sync_file"),
)


class PowerCut(BaseException):
    """The process is gone."""


def shedder_of(studio: Studio) -> Shedder:
    chain, log = Chain(studio.root), EventLog(logger=logging.getLogger("shed"), clock=studio)
    studio.sealer._chain = chain  # one process has one
    entries = Entries(
        sealer=studio.sealer,
        spool=studio.spool,
        disk=studio.disks.sealing,
        policy=EntryPolicy(wanted=frozenset()),  # this entry is not a matter of choice
        clock=studio,
        log=log,
    )
    shedder = Shedder(
        spool=studio.spool,
        folder=ShedFolder(studio.spool),
        entries=entries,
        chain=chain,
        clock=studio,
        log=log,
    )
    shedder.recover()
    return shedder


def with_calls(root: Path, **known: Any) -> Studio:
    studio = Studio(root, make_signer(root, "recorder"), slots=16, **known)
    for name, terms in CALLS.items():
        session = studio.session(name, ms=studio.now_ms, terms=terms)
        studio.voice(session, f"{name}/a", first_ms=studio.now_ms, packets=50)
        studio.end(session, ms=studio.now_ms + 1000)
        studio.run(studio.now_ms + 2500)
    assert studio.places() == {"ready": list(CALLS)}
    return studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return with_calls(tmp_path)


def shed_entries(studio: Studio) -> dict[str, list[str]]:
    """List the entries that tell of a shed recording, by its id; each verified."""
    found: dict[str, list[str]] = {}
    for name in studio.spool.ids(Place.READY):
        manifest = studio.manifest(name)
        if manifest.outcome == "shed":
            found.setdefault(manifest.end_cause.split(" at ")[0], []).append(name)
    return found


def left(studio: Studio) -> list[str]:
    return [name for name in studio.spool.ids(Place.READY) if name in CALLS]


def chain_places(studio: Studio) -> list[ChainPlace]:
    """Read what is left as an auditor would."""
    return [
        ChainPlace.of_manifest(
            studio.manifest(name),
            manifest_sha256=sha256_bytes((studio.folder(name) / manifest_name(name)).read_bytes()),
            signed_utc_s=None,
        )
        for name in studio.spool.ids(Place.READY)
    ]


def test_the_oldest_of_the_lowest_priority_goes_first_and_an_entry_tells_of_it(studio: Studio) -> None:
    manifest = studio.manifest("b-low")
    digest = sha256_bytes((studio.folder("b-low") / manifest_name("b-low")).read_bytes())
    shedder = shedder_of(studio)
    shedder.shed(1)
    assert left(studio) == ["a-usual", "c-low", "d-must", "e-high"]
    (entry_id,) = shed_entries(studio)["b-low"]
    entry = studio.manifest(entry_id)
    assert entry.end_cause == f"b-low at {manifest.sequence}: manifest {digest}"
    assert (entry.call.call_id, entry.rule.name, entry.files) == ("call-b-low", "low", ())
    assert shedder.shed_bytes > 16_000


def test_everything_but_mandatory_recordings_and_entries_may_go(studio: Studio) -> None:
    shedder_of(studio).shed(1 << 40)
    assert left(studio) == ["d-must"]
    assert sorted(shed_entries(studio)) == ["a-usual", "b-low", "c-low", "e-high"]
    assert judge_chains(chain_places(studio)) == ()
    before = studio.places()
    shedder_of(studio).shed(1 << 40)
    assert studio.places() == before


@pytest.mark.parametrize("reserve_bytes", [0, 1 << 20])
def test_on_a_full_disk_one_is_deleted_with_its_entry_or_all_of_them_can_be_sent(
    tmp_path: Path, reserve_bytes: int
) -> None:
    with small_disk(tmp_path / "small", size_bytes=8 << 20) as disk:
        (disk / "spool").mkdir()
        reserve = Reserve(disk / "spool", size_bytes=reserve_bytes)
        if reserve_bytes:
            reserve.prepare()
        space = Space(
            reserve, clock=SystemClock(), log=EventLog(logger=logging.getLogger("full"), clock=SystemClock())
        )
        studio = with_calls(disk, sealing=InlineDisk(space=space, waits=False))
        shedder = shedder_of(studio)
        fill(disk)
        for _ in range(3):
            if shedder.shed_recordings == 0:
                shedder.shed(1)
        gone = ["b-low"] if reserve_bytes else []
        assert left(studio) == [name for name in CALLS if name not in gone]
        assert sorted(shed_entries(studio)) == gone
        assert ShedFolder(studio.spool).ids() == []


def test_a_recording_that_the_flush_claims_first_is_the_flushs(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claim_meanwhile(utc_ns: int) -> Any:
        if "b-low" in studio.spool.ids(Place.READY):
            studio.spool.claim_all(["b-low"])
        return new_session_id(utc_ns)

    new_session_id = shedding.new_session_id
    monkeypatch.setattr(shedding, "new_session_id", claim_meanwhile)
    shedder_of(studio).shed(1)
    assert studio.places()["claimed"] == ["b-low"]
    assert list(shed_entries(studio)) == ["c-low"]


def test_without_a_key_nothing_is_deleted(studio: Studio) -> None:
    shedder = shedder_of(studio)
    studio.sealer._signer = None
    shedder.shed(1)
    assert studio.places() == {"ready": list(CALLS)}
    studio.sealer.use(studio.signer)
    shedder.shed(1)
    assert list(shed_entries(studio)) == ["b-low"]


def cut_before(number: int, patch: pytest.MonkeyPatch) -> list[int]:
    """Let the process end before its n-th step on the disk; counts the steps."""
    counted = [0]

    def stepping(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            counted[0] += 1
            if counted[0] > number:
                raise PowerCut
            return real(*arguments, **named)

        return step

    for name in STEPS:
        patch.setattr(durable, name, stepping(getattr(durable, name)))
    return counted


def test_a_cut_at_any_step_leaves_the_recording_or_its_entry(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts, number = 0, 0
    while left(studio) != ["d-must"]:
        before, told = left(studio), shed_entries(studio)
        with monkeypatch.context() as patch:
            shedder = shedder_of(studio)
            counted = cut_before(number, patch)
            try:
                shedder.shed(1)
            except PowerCut:
                cuts += 1
                number += 1
            else:
                assert counted[0] > 5
                number = 0
        studio.crash()
        shedder_of(studio)
        gone = set(before) - set(left(studio))
        fresh = {name: rows for name, rows in shed_entries(studio).items() if name not in told}
        assert set(fresh) == gone
        assert all(len(rows) == 1 for rows in fresh.values())
        places = studio.places()
        assert set(places) <= {"ready", "quarantine"}  # an entry's folder before its first line
        assert not set(places.get("quarantine", ())) & set(CALLS)
    assert cuts > 10
