"""What recorderd-flush tells of single recordings, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.markup import escape

from recorderd.app.archive_link_configuration import PRIMARY

SHOWN: Final = 5


def refusal_lines(flush: dict[str, Any]) -> Iterator[str]:
    """Tell which archive refuses what for good, and why; of many only the first."""
    pictures = {PRIMARY: flush, **flush.get("further", {})}
    for archive, picture in pictures.items():
        refused = picture.get("refused", {})
        for recording_id, reason in list(refused.items())[:SHOWN]:
            yield f"[red]{escape(archive)} refuses {escape(recording_id)}[/]: {escape(reason)}"
        if len(refused) > SHOWN:
            yield f"[red]{escape(archive)} refuses {len(refused) - SHOWN} more"
