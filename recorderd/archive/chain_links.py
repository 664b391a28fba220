"""How a recording's row stands to those before and after it in its recorder's chain, for many rows at once.

Contract: made within the transaction that adds the rows; asks once for all that stand around them, then keeps
in step with what is added. ``settle`` writes what became of rows that waited.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, bindparam, select, update

from recorderd.archive.tables import NUMBER_MAX, RECORDINGS
from recorderd.wire.manifest import GENESIS_SHA256

T = TypeVar("T")

_AT_ONCE: Final = 500  # values of one query
_R: Final = RECORDINGS.c
_AROUND: Final = select(
    _R.row_id, _R.sequence, _R.manifest_sha256, _R.previous_manifest_sha256, _R.chain
).where(_R.recorder_id == bindparam("recorder_id"), _R.sequence.in_(bindparam("sequences", expanding=True)))
_SETTLE: Final = (
    update(RECORDINGS).where(_R.row_id == bindparam("settled_id")).values(chain=bindparam("settled"))
)


class ChainState(StrEnum):
    """Whether a recording follows its recorder's previous one."""

    LINKED = "linked"
    PENDING = "pending"  # the previous one has not come yet
    BROKEN = "broken"


class Linked(Protocol):
    """What a row tells of its place in the chain."""

    @property
    def recorder_id(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def manifest_sha256(self) -> str: ...
    @property
    def previous_manifest_sha256(self) -> str: ...
    @property
    def chain(self) -> str: ...
    @property
    def row_id(self) -> int: ...


@dataclass(slots=True)
class _Waiting:
    """A row that stands before the one that it follows."""

    row_id: int
    previous_manifest_sha256: str


class Links:
    """The chains around rows that are being added: asked for once, then kept in step."""

    def __init__(self, connection: Connection, entries: Sequence[Linked]) -> None:
        self._connection = connection
        self._manifests: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        self._waiting: defaultdict[tuple[str, int], list[_Waiting]] = defaultdict(list)
        self._settled: list[dict[str, Any]] = []
        around: defaultdict[str, set[int]] = defaultdict(set)
        for entry in entries:
            last = min(entry.sequence + 1, NUMBER_MAX)
            around[entry.recorder_id].update(range(entry.sequence - 1, last + 1))
        for recorder_id, sequences in around.items():
            for some in few(sorted(sequences)):
                values = {"recorder_id": recorder_id, "sequences": some}
                for row in connection.execute(_AROUND, values):
                    self._note((recorder_id, row.sequence), row)

    def state_of(self, entry: Linked) -> ChainState:
        """Tell whether a row that is not there yet follows the one before it."""
        if self._manifests.get((entry.recorder_id, entry.sequence)):
            return ChainState.BROKEN  # two manifests with one number
        if entry.sequence == 1:
            genesis = entry.previous_manifest_sha256 == GENESIS_SHA256
            return ChainState.LINKED if genesis else ChainState.BROKEN
        before = self._manifests.get((entry.recorder_id, entry.sequence - 1))
        if not before:
            return ChainState.PENDING
        return ChainState.LINKED if entry.previous_manifest_sha256 in before else ChainState.BROKEN

    def add(self, entry: Linked) -> list[int]:
        """Take a row that is added, and settle what waited for it; give the rows that do not follow it."""
        self._note((entry.recorder_id, entry.sequence), entry)
        broken = []
        for row in self._waiting.pop((entry.recorder_id, entry.sequence + 1), ()):
            follows = row.previous_manifest_sha256 == entry.manifest_sha256
            chain = ChainState.LINKED if follows else ChainState.BROKEN
            self._settled.append({"settled_id": row.row_id, "settled": chain.value})
            if not follows:
                broken.append(row.row_id)
        return broken

    def settle(self) -> None:
        """Write down what was settled, when the rows stand."""
        if self._settled:
            self._connection.execute(_SETTLE, self._settled)

    def _note(self, place: tuple[str, int], row: Any) -> None:
        self._manifests[place].add(row.manifest_sha256)
        if row.chain == ChainState.PENDING:
            self._waiting[place].append(_Waiting(row.row_id, row.previous_manifest_sha256))


def few(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Give so many values at a time as one query may name."""
    for at in range(0, len(values), _AT_ONCE):
        yield values[at : at + _AT_ONCE]
