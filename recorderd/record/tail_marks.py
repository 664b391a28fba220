"""Up to where a draft's container is known to be on disk, as the blocks of the tail were written.

Rule: what stood in a container when a block was written is there for good once everything was synced behind
that block, the draft's journal too. Until then rows tell what the draft begins with.
Thread: the disk's; ``lasts`` any.
"""

from __future__ import annotations


class TailMarks:
    """The ends of one draft's container, by block."""

    def __init__(self) -> None:
        self._container_id = b""
        self._ends: dict[int, int] = {}
        self.lasts = False  # whether everything was synced since a row was written

    def known(self, container_id: bytes, *, synced: int) -> int:
        """Say up to where a container is on disk when everything was synced behind a block; 0 = not at all.

        What was noted of another container, which this one has taken the place of, counts for nothing.
        """
        if container_id != self._container_id:
            self._container_id, self._ends = container_id, {}
        known = max((end for number, end in self._ends.items() if number <= synced), default=0)
        self._ends = {number: end for number, end in self._ends.items() if end >= known}
        self.lasts = self.lasts or known > 0
        return known

    def note(self, number: int, *, end: int) -> None:
        """Note where the container ends as a block is written."""
        self._ends[number] = end
