"""What the archive needs of the place where published recordings lie: folders, or an object store.

Contract: what is published stays as it is, and nothing is ever overwritten. ``publish_all`` returns only when
every file of those without a problem is there for good, and confirmed. Only a signed tombstone lets files go
(``removal``). Every failure is an OSError; the caller may try again.

    store/YYYY/MM/DD/<id>/<name>    recordings; a group's path is all before its names
    receipts/...                    notes: small files beside them, which may be replaced and removed
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from recorderd.archive.groups import Group

Thing = TypeVar("Thing")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A verified upload that is to be published."""

    folder: Path  # its files under their final names, none of them open
    target: str  # the group's path
    note: Path  # says where it goes; written, not synced
    locked_until_utc_s: int = 0  # nobody is to remove it before, where the place can see to that


class Published(ABC):
    """The published recordings of one archive.

    Thread: any.
    """

    keeps_uploads: bool  # what was published stands in its upload's folder too, until that is concluded

    @abstractmethod
    def prepare(self, *, is_new: bool = True) -> None:
        """See that recordings can be published here; what is not new must be there already."""

    @abstractmethod
    def shown(self, path: str) -> str:
        """Say for people where a group lies."""

    @abstractmethod
    def group(self, path: str) -> Group:
        """Give the group of this path, whether or not it is there."""

    @abstractmethod
    def days(self) -> list[str]:
        """List the days of which there are recordings, in order."""

    @abstractmethod
    def groups_of(self, day: str) -> list[str]:
        """List the paths of a day's groups, in order."""

    def files_of(self, day: str) -> Iterator[str]:
        """List the files of a day's groups, each with its group's path."""
        for path in self.groups_of(day):
            yield from (f"{path}/{name}" for name in self.group(path).names())

    def looked_at(self, look: Callable[[Thing], Found], things: Iterable[Thing]) -> Iterator[Found]:
        """Look at one thing after the other, in their order; several at once where answers take long.

        Thread: ``look`` is called in any.
        """
        return map(look, things)

    @abstractmethod
    def is_settling(self, path: str) -> bool:
        """Tell whether a group may be another front end's, whose row is still on its way."""

    @abstractmethod
    def publish_all(self, moves: Sequence[Move]) -> list[OSError | None]:
        """Publish uploads; returns what went wrong with each.

        Durable: after return those without a problem survive, every file of them.
        A place that holds something else is a FileExistsError.
        """

    @abstractmethod
    def secure(self, path: str) -> None:
        """See that a group survives that somebody else has published, who may not have come so far.

        Durable: after return it does.
        """

    @abstractmethod
    def copy(self, path: str, source: Group, names: Sequence[str], *, locked_until_utc_s: int = 0) -> None:
        """Copy files of a group that lies elsewhere; those that are the same here already are left.

        Durable: after return they survive; a group that was not here appears whole, or its manifest last.
        Errors: FileExistsError when one of that name is another.
        """

    @abstractmethod
    def put(self, path: str, name: str, content: bytes) -> None:
        """Add a small file to a group, also to one that is not there any more; in place of one of that name.

        Durable: after return it survives.
        """

    @abstractmethod
    def take(self, path: str, name: str, source: Path) -> None:
        """Move a complete file into a group, in place of one of that name; done already if it is not there.

        Durable: after return it survives; at every instant it stands at ``source`` or in the group.
        """

    @abstractmethod
    def remove(self, path: str, names: Sequence[str]) -> None:
        """Remove files from a group, those that are there.

        Durable: after return they are gone for good.
        """

    @abstractmethod
    def why_kept(self, path: str) -> str:
        """Say why files of a group cannot be removed, whatever we decide; empty when they can."""

    @abstractmethod
    def read_note(self, path: str, *, limit_bytes: int) -> bytes:
        """Read a note; empty when there is none."""

    @abstractmethod
    def put_note(self, path: str, content: bytes) -> None:
        """Write a note; not waited for (see ``sync_notes``)."""

    @abstractmethod
    def drop_note(self, path: str) -> None:
        """Remove a note for good, if there is one."""

    @abstractmethod
    def sync_notes(self) -> None:
        """Have every note that was written survive."""
