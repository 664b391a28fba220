"""How a sealed recording's audio is called: a template, the call's facts, and the recording's id at the end.

Rule: whatever a caller sends, a stem is ASCII letters, digits, hyphens and underscores, begins with a letter
or digit, is of bounded length and ends with the id, which makes it the only one of its kind. Hyphens are the
template's own: one within a fact becomes an underscore. Pure: the time is passed in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from recorderd.core.clock import NS_PER_S
from recorderd.policy.numbers import Numbering, normalise

DEFAULT_TEMPLATE: Final = "%Y%m%d%H%M%S-{from}-{to}-{direction}-{id}"
FACTS: Final = ("from", "to", "direction", "extension", "trunk", "queue", "conference", "call_id")
TIME_PARTS: Final = "YymdHMSjGVu"  # of strftime(3); none of them depends on a language
STEM_LIMIT: Final = 108  # octets; what is added (.wav.key.p7m.p7s.tsr at most) still fits a name of 128
FACT_LIMIT: Final = 32
UNKNOWN: Final = "unknown"
_ID: Final = "{id}"
_PART: Final = re.compile(rf"%([{TIME_PARTS}])|\{{([a-z_]+)\}}|([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTemplate:
    """A template without flaw; see ``template_flaw``."""

    text: str = DEFAULT_TEMPLATE
    local_time: bool = False  # else UTC, in whose order names sort also when clocks go back

    def stem(self, facts: Mapping[str, str], *, recording_id: str, begun_utc_ns: int) -> str:
        """Name the audio of a recording, without ending."""
        moment = datetime.fromtimestamp(begun_utc_ns // NS_PER_S, tz=UTC)
        if self.local_time:
            moment = moment.astimezone()
        parts = []
        for time_part, fact, plain in _PART.findall(self.text.removesuffix(_ID)):
            if time_part:
                parts.append(moment.strftime(f"%{time_part}"))
            else:
                parts.append(plain or plain_fact(facts.get(fact, "")))
        room = STEM_LIMIT - len(recording_id) - 1
        head = "".join(parts)[: max(room, 0)].strip("-_")
        return f"{head}-{recording_id}" if head else recording_id


def plain_fact(text: str) -> str:
    """Make of a number, an address or a name what may stand in a file name; never empty.

    Letters lose their accents; a run of anything else that is no ASCII letter or digit becomes one
    underscore.
    """
    known = normalise(text[:1024], Numbering())  # more than that is no name that anybody wants to read
    bare = "".join(sign for sign in unicodedata.normalize("NFKD", known) if not unicodedata.combining(sign))
    return re.sub(r"[^A-Za-z0-9]+", "_", bare)[:FACT_LIMIT].strip("_") or UNKNOWN


def template_flaw(text: str) -> str | None:
    """Say what would be right when ``text`` is no template; None when it is one."""
    if _PART.sub("", text) or len(text) > STEM_LIMIT:
        parts = " ".join(f"%{letter}" for letter in TIME_PARTS)
        return f"write letters, digits, hyphens, underscores, {parts} and fields in braces"
    unknown = [fact for _, fact, _ in _PART.findall(text) if fact and fact not in (*FACTS, "id")]
    if unknown:
        return f"no field {unknown[0]!r}; there are {', '.join((*FACTS, 'id'))}"
    head = text.removesuffix(_ID)
    if head == text or _ID in head or (head and head[-1] != "-"):
        return "end it with -{id}, which keeps every name apart, and name the id only there"
    return None
