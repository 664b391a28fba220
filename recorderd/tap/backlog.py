"""How much of what waits in the kernel is taken at a time.

Contract: a ring holds four seconds, the kernel's buffers of a socket ten at least. While the recording gets
no turn, packets stay in the kernel; after the process had none, they are taken in pieces that the ring can
hold until the recording has read them.
Thread: the tap's; plain arithmetic.
"""

from __future__ import annotations

from typing import Final

from recorderd.core.clock import NS_PER_MS

BEHIND_NS: Final = 1_200 * NS_PER_MS  # what a drain that takes all may find; two that follow are 0.5 s apart
AHEAD_NS: Final = 2_700 * NS_PER_MS  # of the recording, before such a drain; with it 3.9 s of the ring's 4.1
PIECE_PACKETS: Final = 25  # of a socket; 1.5 s at a ptime of 60 ms
LEAD_NS: Final = 300 * NS_PER_MS  # of a stream that has brought more than others: then it waits for them
PIECE_AHEAD_NS: Final = 2_100 * NS_PER_MS  # before a piece; more than the longest delay, to go on at all
PIECE_NS: Final = 150 * NS_PER_MS  # it reaches so far at least: a flood on one socket holds nobody up
AGAIN_MS: Final = 50  # between two pieces
EVERYTHING: Final = 1 << 30


def packets_to_take(*, now_ns: int, heard_until_ns: int, rendered_until_ns: int) -> int:
    """Say how many packets of a socket are taken now: ``EVERYTHING``, a piece, or none.

    ``heard_until_ns`` is the moment whose packets are all in the ring, ``rendered_until_ns`` what of them was
    read; 0 = nobody has read yet, and the ring was opened for all that waits.
    """
    if not rendered_until_ns:
        return EVERYTHING
    ahead_ns = heard_until_ns - rendered_until_ns
    if now_ns - heard_until_ns <= BEHIND_NS:
        return EVERYTHING if ahead_ns <= AHEAD_NS else 0
    return PIECE_PACKETS if ahead_ns <= PIECE_AHEAD_NS else 0
