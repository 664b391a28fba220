"""Who may do what with which recording: the whole answer, as a table.

Rule: this file is the only place where a role and how near a recording is to somebody become permission.
What no row allows is refused. A recording that is restricted needs a second right, and then always a reason.
Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What an account is for."""

    USER = "user"  # own extensions
    SUPERVISOR = "supervisor"  # own extensions, and groups
    ADMINISTRATOR = "administrator"  # a site: recorders
    AUDITOR = "auditor"  # the audit log only


class Reach(StrEnum):
    """How near a recording is to an account."""

    OWN = "own"
    GROUP = "group"
    SITE = "site"
    FOREIGN = "foreign"


class Action(StrEnum):
    """What can be asked for; the words are the scopes of API tokens too."""

    SEARCH = "search"
    VIEW = "view"  # who, when, how long, notes, tags
    PLAY = "play"  # hear it, see its level
    DOWNLOAD = "download"  # take files away
    NOTE = "note"
    TAG = "tag"
    SHARE = "share"
    HOLD = "hold"
    RELEASE = "release"
    ERASE = "erase"
    ANONYMISE = "anonymise"
    SUBJECT_ACCESS = "subject_access"  # give somebody everything about them
    RECONCILE = "reconcile"  # call records of the exchange against recordings
    PLAN = "plan"  # see what is due for erasure
    CHECK = "check"  # have everything read and compared; see jobs, and how copies and deliveries stand
    MAINTAIN = "maintain"  # sweep, copy, deliver, renew, reindex, drain
    AUDIT = "audit"  # read the audit log
    ACCOUNTS = "accounts"
    STATUS = "status"


class Ruling(StrEnum):
    """The answer."""

    ALLOWED = "allowed"
    REASON = "reason"  # allowed to who says why
    REFUSED = "refused"


ON_RECORDINGS: Final = (
    *(Action.VIEW, Action.PLAY, Action.DOWNLOAD, Action.NOTE, Action.TAG, Action.SHARE),
    *(Action.HOLD, Action.RELEASE, Action.ERASE, Action.ANONYMISE),
)
# Of a selection too: then each recording that it covers is asked for as well.
OF_SELECTIONS: Final = (Action.HOLD, Action.RELEASE, Action.ERASE, Action.ANONYMISE)
# What cannot be told apart by recorder: of administrators, for those of every recorder only.
WHOLE_HOUSE: Final = frozenset({Action.RECONCILE, Action.CHECK, Action.MAINTAIN})
IN_THE_HOUSE: Final = tuple(action for action in Action if action not in ON_RECORDINGS)
_HEARING: Final = (Action.PLAY, Action.DOWNLOAD)

_OWN: Final = dict.fromkeys((Action.VIEW, Action.PLAY, Action.DOWNLOAD, Action.NOTE), Ruling.ALLOWED)
_GROUP: Final = _OWN | {Action.TAG: Ruling.ALLOWED, Action.SHARE: Ruling.REASON}
_SITE: Final = {
    **dict.fromkeys((Action.VIEW, Action.NOTE, Action.TAG), Ruling.ALLOWED),
    **dict.fromkeys((Action.PLAY, Action.DOWNLOAD, Action.SHARE), Ruling.REASON),
    **dict.fromkeys(OF_SELECTIONS, Ruling.REASON),
}
# Rule: only what stands here is allowed.
RECORDING_RIGHTS: Final[dict[tuple[Role, Reach], dict[Action, Ruling]]] = {
    (Role.USER, Reach.OWN): _OWN,
    (Role.SUPERVISOR, Reach.OWN): _OWN,
    (Role.SUPERVISOR, Reach.GROUP): _GROUP,
    (Role.ADMINISTRATOR, Reach.SITE): _SITE,
}
HOUSE_RIGHTS: Final[dict[Role, frozenset[Action]]] = {
    Role.USER: frozenset({Action.SEARCH}),
    Role.SUPERVISOR: frozenset({Action.SEARCH}),
    Role.ADMINISTRATOR: frozenset(
        {
            *(Action.SEARCH, Action.PLAN, Action.AUDIT, Action.ACCOUNTS, Action.STATUS),
            *(Action.SUBJECT_ACCESS, Action.RECONCILE, Action.CHECK, Action.MAINTAIN, *OF_SELECTIONS),
        }
    ),
    Role.AUDITOR: frozenset({Action.AUDIT, Action.STATUS, Action.CHECK}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """What somebody's rights depend on.

    An extension or queue is written ``100``, or ``rec-1:100`` where only that recorder's is meant.
    """

    role: Role
    extensions: frozenset[str] = frozenset()
    group_extensions: frozenset[str] = frozenset()
    group_queues: frozenset[str] = frozenset()
    recorders: frozenset[str] = frozenset()
    all_recorders: bool = False
    second_right: bool = False  # to what is restricted
    scopes: frozenset[Action] = frozenset(Action)  # of the token that is used; a person has all


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a recording's nearness depends on."""

    recorder_id: str
    extension: str
    queue: str
    restricted: bool = False
    wants_reason: bool = False  # its class or a tag demands one


def reach_of(viewer: Viewer, facts: Facts) -> Reach:
    """Say how near a recording is; each role has its own reach, and no other."""
    if viewer.role is Role.AUDITOR:
        return Reach.FOREIGN
    if viewer.role is Role.ADMINISTRATOR:
        near = viewer.all_recorders or facts.recorder_id in viewer.recorders
        return Reach.SITE if near else Reach.FOREIGN
    if _names(viewer.extensions, facts.recorder_id, facts.extension):
        return Reach.OWN
    if viewer.role is Role.SUPERVISOR and (
        _names(viewer.group_extensions, facts.recorder_id, facts.extension)
        or _names(viewer.group_queues, facts.recorder_id, facts.queue)
    ):
        return Reach.GROUP
    return Reach.FOREIGN


def rule_on_recording(viewer: Viewer, action: Action, facts: Facts) -> Ruling:
    """Say whether somebody may do this with this recording."""
    right = RECORDING_RIGHTS.get((viewer.role, reach_of(viewer, facts)), {}).get(action, Ruling.REFUSED)
    if right is Ruling.REFUSED or action not in viewer.scopes:
        return Ruling.REFUSED
    if facts.restricted:
        return Ruling.REASON if viewer.second_right else Ruling.REFUSED
    if facts.wants_reason and action in _HEARING:
        return Ruling.REASON
    return right


def rule_in_the_house(viewer: Viewer, action: Action) -> Ruling:
    """Say whether somebody may do this, which concerns no single recording."""
    allowed = action in HOUSE_RIGHTS[viewer.role] and action in viewer.scopes
    if action in WHOLE_HOUSE and viewer.role is Role.ADMINISTRATOR and not viewer.all_recorders:
        return Ruling.REFUSED
    return Ruling.ALLOWED if allowed else Ruling.REFUSED


def reaches_as_far(
    viewer: Viewer,
    *,
    places: Iterable[str],
    recorders: Iterable[str],
    second_right: bool,
    role: Role | None = None,
) -> bool:
    """Tell whether an account with this reach reaches no further than somebody who gives or changes it.

    ``places`` are extensions and queues, its groups' too; of those that are meant at any recorder, only
    administrators of every recorder dispose, and of auditors, who may check all of the house.
    """
    if second_right and not viewer.second_right:
        return False
    if viewer.all_recorders:
        return True
    if role is Role.AUDITOR:
        return False
    named = {place.rpartition(":")[0] for place in places}
    return named | set(recorders) <= viewer.recorders


def _names(names: frozenset[str], recorder_id: str, number: str) -> bool:
    return bool(number) and (number in names or f"{recorder_id}:{number}" in names)


_SIGNS: Final = {Ruling.ALLOWED: "yes", Ruling.REASON: "with a reason", Ruling.REFUSED: ""}
_COLUMNS: Final = (
    (Role.USER, Reach.OWN),
    (Role.SUPERVISOR, Reach.OWN),
    (Role.SUPERVISOR, Reach.GROUP),
    (Role.ADMINISTRATOR, Reach.SITE),
)


def rights_table() -> list[str]:
    """Write the rights as a Markdown table, for policy/README.md."""
    heads = [f"{role}, {reach}" for role, reach in _COLUMNS]
    lines = [f"| action | {' | '.join(heads)} | auditor |", f"| --- |{' --- |' * (len(heads) + 1)}"]
    for action in Action:
        if action in ON_RECORDINGS:
            cells = [_SIGNS[RECORDING_RIGHTS[c].get(action, Ruling.REFUSED)] for c in _COLUMNS] + [""]
        else:
            yes = "yes, of every recorder" if action in WHOLE_HOUSE else "yes"
            cells = [yes if action in HOUSE_RIGHTS[role] else "" for role, _ in _COLUMNS]
            cells.append("yes" if action in HOUSE_RIGHTS[Role.AUDITOR] else "")
        lines.append(f"| {action} | {' | '.join(cells)} |")
    return lines
