"""The gates before every endpoint: who asks, may they, and do they say why; noted before anything is told.

Contract: an endpoint names its gate, and a gate its action; there is no other way to a recording. What is
refused to somebody known is a row in the audit log, as is what is granted, unless the deed writes its own.
"""

# Annotations are not put off here: FastAPI reads those of the gates, which are objects that are called.
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import unquote

from fastapi import Depends, Header, Query, Request
from fastapi import Path as InPath

from recorderd.archive.catalogue import Entry
from recorderd.archive.secrets_of_people import secret_is
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import Desk, address_of, desk_of
from recorderd.archive.web.labels import facts_of
from recorderd.archive.web.problems import Deed, Problem, unknown
from recorderd.core.errors import SignInRefused
from recorderd.core.events import Ev
from recorderd.policy.access import Action, Ruling, reach_of, rule_in_the_house, rule_on_recording

COOKIE: Final = "__Host-recorder"
CSRF_HEADER: Final = "X-CSRF-Token"
REASON_LIMIT: Final = 500
ENCODED_LIMIT: Final = REASON_LIMIT * len("%F0%9F%93%9E")  # the longest that one character is written
ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
_READING: Final = frozenset({"GET", "HEAD"})

RecorderId = Annotated[str, InPath(pattern=ID_PATTERN, description="The recorder's id.")]
RecordingId = Annotated[str, InPath(pattern=ID_PATTERN, description="The recording's id.")]


def identity_of(request: Request) -> Identity:
    """Recognise who asks: by API token, else by the session's cookie."""
    desk, address = desk_of(request), address_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.casefold() == "bearer":
            return desk.sign_in.by_token(token.strip(), address=address)
        if cookie := request.cookies.get(COOKIE):
            identity = desk.sign_in.by_session(cookie, address=address)
            _check_page(request, desk, identity)
            return identity
    except SignInRefused as problem:
        desk.log.warning(Ev.HTTP_REFUSED, subject=address, reason=problem, path=request.url.path[:200])
    raise Problem(401, "who-are-you", headers={"WWW-Authenticate": "Bearer"})


def _check_page(request: Request, desk: Desk, identity: Identity) -> None:
    """See that what writes comes from our own page, not from another that the browser has open."""
    if request.method in _READING or secret_is(request.headers.get(CSRF_HEADER, ""), identity.csrf_sha256):
        return
    subject = f"{request.method} {request.url.path}"
    desk.audit_log.note(identity.actor, "request_made", subject, outcome="refused", detail="no CSRF token")
    raise Problem(403, "csrf", f"A session writes with its token in {CSRF_HEADER}.")


Known = Annotated[Identity, Depends(identity_of)]


def reason_of(
    reason: Annotated[str, Query(max_length=REASON_LIMIT, description="Why, where that is wanted.")] = "",
    x_reason: Annotated[str, Header(max_length=ENCODED_LIMIT, description="The same, percent-encoded.")] = "",
) -> str:
    """Read why somebody wants something."""
    why = (reason or unquote(x_reason)).strip()
    if len(why) > REASON_LIMIT:
        raise Problem(422, "malformed", f"A reason has {REASON_LIMIT} characters at most.")
    return why


Reason = Annotated[str, Depends(reason_of)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A recording that somebody may do something with."""

    identity: Identity
    entry: Entry
    tags: tuple[str, ...]
    reason: str

    @property
    def subject(self) -> str:
        """How the audit log names it."""
        return subject_of(self.entry)


def subject_of(entry: Entry) -> str:
    """Say how the audit log names a recording."""
    return f"{entry.recorder_id}/{entry.id}"


@dataclass(frozen=True, slots=True)
class RecordingGate:
    """Before one recording; ``what`` is the word in the audit log."""

    action: Action
    what: str
    by_deed: bool = False  # the deed writes the row when it is done, in its own transaction

    def __call__(
        self,
        request: Request,
        recorder_id: RecorderId,
        recording_id: RecordingId,
        identity: Known,
        reason: Reason,
    ) -> Granted:
        """Let somebody to a recording, or say no."""
        desk = desk_of(request)
        entry = desk.catalogue.find(recorder_id, recording_id)
        subject = f"{recorder_id}/{recording_id}"
        if entry is None:
            self._refuse(desk, identity, subject, reason, "unknown")
            raise unknown()
        tags = desk.annotations.tags(entry.row_id)
        facts = facts_of(desk, [entry], {entry.row_id: tags})[entry.row_id]
        ruling = rule_on_recording(identity.viewer, self.action, facts)
        if ruling is Ruling.REFUSED:
            self._refuse(desk, identity, subject, reason, f"{reach_of(identity.viewer, facts)}")
            if rule_on_recording(identity.viewer, Action.VIEW, facts) is Ruling.REFUSED:
                raise unknown()
            raise Problem(403, "refused", "You may see this recording, but not do that with it.")
        if ruling is Ruling.REASON and not reason:
            self._refuse(desk, identity, subject, reason, "no reason")
            raise _reason_wanted()
        if self.by_deed:
            request.state.deed = Deed(who=identity.actor, what=self.what, subject=subject, reason=reason)
        else:
            detail = _shown(request.url.query[:REASON_LIMIT])
            desk.audit_log.note(identity.actor, self.what, subject, reason=reason, detail=detail)
        return Granted(identity=identity, entry=entry, tags=tags, reason=reason)

    def _refuse(self, desk: Desk, identity: Identity, subject: str, reason: str, why: str) -> None:
        desk.audit_log.note(identity.actor, self.what, subject, reason=reason, outcome="refused", detail=why)


@dataclass(frozen=True, slots=True)
class HouseGate:
    """Before what concerns no single recording."""

    action: Action
    what: str
    by_deed: bool = False
    wants_reason: bool = False

    def __call__(self, request: Request, identity: Known, reason: Reason) -> Identity:
        """Let somebody in, or say no."""
        desk, query = desk_of(request), _shown(request.url.query[:2000])
        subject = request.url.path
        if rule_in_the_house(identity.viewer, self.action) is Ruling.REFUSED:
            desk.audit_log.note(
                identity.actor, self.what, subject, reason=reason, outcome="refused", detail=query
            )
            raise Problem(403, "refused", "Your account may not do that.")
        if self.wants_reason and not reason:
            desk.audit_log.note(identity.actor, self.what, subject, outcome="refused", detail="no reason")
            raise _reason_wanted()
        if self.by_deed:
            request.state.deed = Deed(who=identity.actor, what=self.what, subject=subject, reason=reason)
        else:
            desk.audit_log.note(identity.actor, self.what, subject, reason=reason, detail=query)
        return identity


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Before what anybody may ask: it proves itself, or tells nothing; ``what`` says why it is open."""

    what: str

    def __call__(self) -> None:
        """Let everybody pass."""


def _reason_wanted() -> Problem:
    return Problem(403, "reason-wanted", "Say why: in the query as reason, or in X-Reason.")


def _shown(query: str) -> str:
    """Write a query as it was meant, for people who read the log."""
    return unquote(query.replace("+", " "), errors="replace")
