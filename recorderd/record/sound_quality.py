"""How a stream sounded, as far as its packets and levels tell; for the manifest. Pure.

Source: ITU-T G.107 (E-model), RFC 3550 section 6.4.1 (jitter).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dsp import quality
from recorderd.core.gap_causes import KERNEL_DROP, LATE, NETWORK_LOSS, RING_OVERRUN
from recorderd.core.messages import Codec
from recorderd.record.account import Account
from recorderd.record.source import Counted
from recorderd.wire.manifest import Gap
from recorderd.wire.manifest_rows import QualityEntry

FRAME_MS: Final = 20  # of speech activity
PACKET_MS: Final = 20  # that are taken to be missing together where packets were lost
LOSSES: Final = (NETWORK_LOSS, LATE, KERNEL_DROP, RING_OVERRUN)


def quality_entry(codec: Codec, stats: Counted, account: Account, *, rate_hz: int) -> QualityEntry:
    """State a stream's quality; ``rate_hz`` is the recording's."""
    return QualityEntry(
        jitter_us=stats.jitter_ns // 1000,
        mos_x100=_mos_x100(
            codec,
            received=stats.counters["received"],
            lost=stats.packets_lost,
            gaps=account.gaps,
            rate_hz=rate_hz,
        ),
        clipped_samples=account.level.clipped,
        speech_ms=account.speech_frames * FRAME_MS,
    )


def _mos_x100(codec: Codec, *, received: int, lost: int, gaps: Sequence[Gap], rate_hz: int) -> int:
    """Estimate how the stream sounds to somebody who does not talk back; 0 when nothing came.

    ``rate_hz`` is the recording's, in whose samples gaps are counted, whatever the stream's own is.
    """
    if not received:
        return 0
    loss = lost / (received + lost)
    per_packet = rate_hz * PACKET_MS // 1000
    runs = [max(1, gap.length_samples // per_packet) for gap in gaps if gap.cause in LOSSES]
    burst = quality.burst_ratio(np.array(runs, dtype=np.int64), loss_fraction=loss)
    mos = quality.e_model_mos(
        loss_fraction=loss, burst_ratio=burst, delay_ms=0.0, codec=codec.encoding.value, concealed=False
    )
    return round(100 * mos)
