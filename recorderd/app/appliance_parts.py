"""What the recorder is put together from, as its configuration says.

Contract: each function opens what it makes and starts nothing; in which order, is the appliance's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from recorderd.app.archive_link_configuration import receipts_needed
from recorderd.app.backpressure import patience
from recorderd.app.continuing import Continuing
from recorderd.app.host_clock import HostClock
from recorderd.app.recorder_configuration import RecorderConfiguration, TimeZone
from recorderd.core.clock import Clock
from recorderd.core.events import EventLog
from recorderd.evidence.keys import Signer
from recorderd.policy.file_names import NameTemplate
from recorderd.record.chain import Chain
from recorderd.record.disk import Disks
from recorderd.record.encrypting import Recipients
from recorderd.record.entries import Entries, EntryPolicy
from recorderd.record.heads import Heads
from recorderd.record.recorder import Pace
from recorderd.record.seal import Sealer
from recorderd.record.shedding import Shedder
from recorderd.record.space import Space
from recorderd.record.steering import SkewMode, SkewPolicy
from recorderd.spool.head_box import HeadBox
from recorderd.spool.layout import Spool
from recorderd.spool.reserve import Reserve
from recorderd.spool.shed import ShedFolder
from recorderd.tap.drain import Tap
from recorderd.tap.ports import PortPool
from recorderd.tap.sources import SourcePolicy

PORT_MARK_NAME: Final = "rtp-ports"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingParts:
    """What stands between a finished draft and a sealed recording, and the books that are kept of it."""

    spool: Spool
    chain: Chain
    sealer: Sealer
    space: Space
    reserve: Reserve
    disks: Disks
    heads: Heads
    entries: Entries


def sealing_parts(
    configuration: RecorderConfiguration,
    *,
    signer: Signer | None,
    recipients: Mapping[str, Recipients],
    host_clock: HostClock,
    clock: Clock,
    log: EventLog,
) -> SealingParts:
    """Open the spool, the chain and its heads."""
    record, evidence, recorder = configuration.record, configuration.evidence, configuration.recorder
    spool = Spool(
        configuration.spool.dir,
        quota_bytes=configuration.spool.quota_bytes,
        receipts_needed=receipts_needed(configuration.archive, configuration.archives),
    )
    spool.prepare()
    chain = Chain(recorder.state_dir)
    sealer = Sealer(
        recorder_id=recorder.id,
        spool=spool,
        chain=chain,
        signer=signer,
        clock=clock,
        names=NameTemplate(text=record.file_name, local_time=record.file_name_time is TimeZone.LOCAL),
        host_clock=host_clock.statement,
        encryption=recipients,
    )
    space, reserve = patience(configuration.spool, clock=clock, log=log)
    disks = Disks.patient(space)
    heads = Heads(
        recorder.state_dir,
        recorder_id=recorder.id,
        chain=chain,
        box=HeadBox(configuration.spool.dir),
        signer=sealer.signer,
        clock=clock,
        log=log,
    )
    heads.begin()
    entries = Entries(
        sealer=sealer,
        spool=spool,
        disk=disks.sealing,
        policy=EntryPolicy(
            wanted=frozenset(evidence.entries), per_minute=evidence.entries_per_minute, count=heads.count
        ),
        clock=clock,
        log=log,
    )
    return SealingParts(
        spool=spool,
        chain=chain,
        sealer=sealer,
        space=space,
        reserve=reserve,
        disks=disks,
        heads=heads,
        entries=entries,
    )


def host_clock_of(configuration: RecorderConfiguration, *, clock: Clock, log: EventLog) -> HostClock:
    """Make what watches the machine's clock."""
    section = configuration.clock
    return HostClock(clock=clock, log=log, offset_limit_ms=section.offset_limit_ms, check_s=section.check_s)


def shedder_of(parts: SealingParts, *, clock: Clock, log: EventLog) -> Shedder:
    """Make what gives up recordings for room, and finish what the last process began."""
    shedder = Shedder(
        spool=parts.spool,
        folder=ShedFolder(parts.spool),
        entries=parts.entries,
        chain=parts.chain,
        clock=clock,
        log=log,
    )
    shedder.recover()
    return shedder


def ears_of(
    configuration: RecorderConfiguration, continuing: Continuing, *, clock: Clock, log: EventLog
) -> tuple[PortPool, Tap]:
    """Make the ports and the tap that listens on them."""
    rtp = configuration.rtp
    ports = PortPool(
        keeper=continuing.store,
        mark_path=configuration.recorder.run_dir / PORT_MARK_NAME,
        address=rtp.address,
        port_min=rtp.port_min,
        port_max=rtp.port_max,
        receive_buffer_bytes=rtp.receive_buffer_bytes,
    )
    tap = Tap(
        ports=ports,
        max_streams=rtp.max_streams,
        clock=clock,
        log=log,
        source_policy=SourcePolicy(rtp.source.value),
        memory_file=continuing.shelves,
    )
    return ports, tap


def pace_of(configuration: RecorderConfiguration) -> Pace:
    """Say how the recording goes about its work."""
    record = configuration.record
    return Pace(
        window_ms=record.window_ms,
        delay_ms=record.delay_ms,
        checkpoint_s=record.checkpoint_s,
        proof_s=configuration.evidence.checkpoint_s,
        silence_limit_s=configuration.rtp.silence_limit_s,
        tones=record.tones,
        skew=SkewPolicy(mode=SkewMode(record.skew.value), threshold_ms=record.skew_threshold_ms),
    )
