"""Every error that leaves over HTTP is one JSON object of RFC 9457, and tells nothing of our insides.

Rule: what is unknown and what is out of somebody's reach are answered alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from recorderd.archive.audit_log import Actor
from recorderd.core.errors import (
    AccountRefused,
    AccountUnknown,
    AlreadyRunning,
    AnnotationRefused,
    ArchiveServed,
    AudioUnplayable,
    CallRecordsUnreadable,
    CatalogueFailed,
    CodeWanted,
    ConfigurationError,
    ControlUnavailable,
    ErasureRefused,
    HoldRefused,
    JobUnderWay,
    NotConfigured,
    PasswordUnfit,
    ProviderFailed,
    PutOff,
    RecorderError,
    SearchRefused,
    SearchTooWide,
    SelectionEmpty,
    ShareRefused,
    ShareUnknown,
    SignInLocked,
    SignInRefused,
)
from recorderd.core.events import Ev, EventLog

CONTENT_TYPE: Final = "application/problem+json"
_PREFIX: Final = "urn:recorderd:problem:"
_DETAILS_LIMIT: Final = 10  # of what is wrong with a request


class Problem(Exception):
    """An answer that is no success; ``kind`` is a word for programs."""

    def __init__(
        self, status: int, kind: str, detail: str = "", *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {kind}")
        self.status, self.kind, self.detail, self.headers = status, kind, detail, headers or {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What somebody was let through to do; its row is written when it is done, or here when it is not."""

    who: Actor
    what: str
    subject: str
    reason: str


# Rule: an error of the catalogue that does not stand here is ours, and answered with 500.
STATUS_OF: Final[dict[type[RecorderError], tuple[int, str]]] = {
    CodeWanted: (401, "code-wanted"),
    SignInLocked: (429, "locked"),
    SignInRefused: (401, "not-let-in"),
    AccountUnknown: (404, "unknown"),
    AccountRefused: (409, "refused"),
    PasswordUnfit: (422, "password-unfit"),
    CallRecordsUnreadable: (422, "call-records"),
    CatalogueFailed: (503, "catalogue"),
    ConfigurationError: (503, "configuration"),
    SearchRefused: (422, "search"),
    SearchTooWide: (422, "search-too-wide"),
    SelectionEmpty: (422, "search"),
    AnnotationRefused: (422, "annotation"),
    AudioUnplayable: (409, "unplayable"),
    ShareUnknown: (404, "unknown"),
    ProviderFailed: (503, "provider"),
    HoldRefused: (409, "hold"),
    ErasureRefused: (409, "kept"),
    ShareRefused: (403, "share-refused"),
    JobUnderWay: (409, "under-way"),
    NotConfigured: (409, "not-configured"),
    AlreadyRunning: (409, "served"),
    ArchiveServed: (409, "served"),
    ControlUnavailable: (503, "not-running"),
    PutOff: (503, "put-off"),
}
_OPAQUE: Final = frozenset(
    {"not-let-in", "catalogue", "configuration", "provider", "unknown", "served", "not-running"}
)  # whose text is not for strangers


_AGAIN_S: Final = "30"  # where the store does not answer


def unknown() -> Problem:
    """Answer that there is no such thing, as far as the asker is concerned."""
    return Problem(404, "unknown", "There is nothing of this name that you may see.")


def problem_response(
    status: int, kind: str, detail: str = "", *, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """Write one problem."""
    content = {"type": _PREFIX + kind, "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        content["detail"] = detail
    return JSONResponse(content | more, status_code=status, headers=headers, media_type=CONTENT_TYPE)


def add_handlers(app: FastAPI, log: EventLog) -> None:
    """Have every way to fail answered as a problem, and a deed that failed noted."""

    def ours(request: Request, problem: Exception) -> JSONResponse:
        assert isinstance(problem, Problem)
        _note_failed(request, problem.kind)
        return problem_response(problem.status, problem.kind, problem.detail, headers=problem.headers)

    def framework(request: Request, problem: Exception) -> JSONResponse:
        status = problem.status_code if isinstance(problem, HTTPException) else 500
        headers = dict(getattr(problem, "headers", None) or {})
        phrase = HTTPStatus(status).phrase.lower().replace(" ", "-")
        kind = "too-long" if status == 413 else phrase
        _note_failed(request, kind)
        return problem_response(status, kind, headers=headers)

    def left(request: Request, problem: Exception) -> JSONResponse:
        """Note what its client did not wait for; the answer is nobody's."""
        _note_failed(request, "the client left")
        return problem_response(400, "bad-request")

    def malformed(request: Request, problem: Exception) -> JSONResponse:
        assert isinstance(problem, RequestValidationError)
        _note_failed(request, "malformed")
        rows = [
            {"at": ".".join(str(part) for part in row["loc"]), "reason": row["msg"]}
            for row in problem.errors()[:_DETAILS_LIMIT]
        ]
        return problem_response(422, "malformed", errors=rows)

    def catalogue(request: Request, problem: Exception) -> JSONResponse:
        for kind in type(problem).__mro__:
            if kind in STATUS_OF:
                status, word = STATUS_OF[kind]
                if status >= 500:
                    log.error(Ev.HTTP_FAILED, subject=request.url.path, reason=problem)
                if kind is not CatalogueFailed:  # which could not keep the row either
                    _note_failed(request, word)
                headers = {}
                if isinstance(problem, SignInLocked):
                    headers["Retry-After"] = str(problem.fields["wait_s"])
                return problem_response(
                    status, word, "" if word in _OPAQUE else str(problem), headers=headers
                )
        return unexpected(request, problem)

    def storage(request: Request, problem: Exception) -> JSONResponse:
        log.error(Ev.HTTP_FAILED, subject=request.url.path, reason=problem)
        _note_failed(request, "storage")
        return problem_response(503, "storage", headers={"Retry-After": _AGAIN_S})

    def unexpected(request: Request, problem: Exception) -> JSONResponse:
        reason = f"{type(problem).__name__}: {problem}"
        log.error(Ev.INTERNAL_ERROR, subject=f"{request.method} {request.url.path}", reason=reason)
        return problem_response(500, "internal")

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(RecorderError, catalogue)
    app.add_exception_handler(OSError, storage)
    app.add_exception_handler(Exception, unexpected)


def _note_failed(request: Request, why: str) -> None:
    deed: Deed | None = getattr(request.state, "deed", None)
    if deed is not None:
        request.app.state.desk.audit_log.note(
            deed.who, deed.what, deed.subject, reason=deed.reason, outcome="refused", detail=why
        )
