"""Why a stretch of a recording holds no sound: the words that stand in manifests.

The tap says what it knows of packets, the recording what it knows of the call; the words are the same.
"""

from __future__ import annotations

from typing import Final

NETWORK_LOSS: Final = "network_loss"  # sequence numbers are missing
LATE: Final = "late"  # came after its span had been read
SILENCE_SUPPRESSED: Final = "silence_suppressed"  # the sender had nothing to send and said so (RFC 3389)
HOLD: Final = "hold"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"
DOUBLED: Final = "doubled"  # another leg of the party brought the same
MASKED: Final = "masked"
BEFORE_FIRST: Final = "before_first"
AFTER_LAST: Final = "after_last"
RESTART: Final = "recorder_restart"
KERNEL_DROP: Final = "kernel_drop"  # came to this machine and found the socket's buffer full
RING_OVERRUN: Final = "ring_overrun"  # too far ahead of what had been read
NOT_RECEIVED: Final = "not_received"  # nothing more is known
DTMF: Final = "dtmf"  # the sender sent key events instead (RFC 4733)
DISK_FULL: Final = "disk_full"  # came while nothing could be written and no more could be held in memory
SKEW: Final = "skew"  # put in or left out for the sender's clock

ALL: Final = frozenset(
    {
        *(NETWORK_LOSS, LATE, SILENCE_SUPPRESSED, HOLD, PAUSED, STOPPED, DOUBLED, MASKED, BEFORE_FIRST),
        *(AFTER_LAST, RESTART, KERNEL_DROP, RING_OVERRUN, NOT_RECEIVED, DTMF, DISK_FULL, SKEW),
    }
)
