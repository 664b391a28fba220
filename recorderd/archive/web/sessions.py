"""Coming in and leaving over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Body, Depends, Request, Response

from recorderd.archive.web.desk import address_of, desk_of
from recorderd.archive.web.gates import COOKIE, Known, OpenGate

router: Final = APIRouter(prefix="/session", tags=["session"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView:
    """A session that has begun; ``csrf`` goes into X-CSRF-Token of whatever writes."""

    account: str
    csrf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoView:
    """Who one is."""

    account: str
    role: str
    scopes: list[str]


@router.post("", dependencies=[Depends(OpenGate("proves itself by password"))])
def sign_in(
    request: Request,
    response: Response,
    account: Annotated[str, Body(max_length=256)],
    password: Annotated[str, Body(max_length=1024)],
    code: Annotated[str, Body(max_length=16)] = "",
) -> SessionView:
    """Come in by password, and by a telephone's code where the account wants one."""
    desk = desk_of(request)
    session = desk.sign_in.by_password(account, password, code=code, address=address_of(request))
    response.set_cookie(COOKIE, session.secret, secure=True, httponly=True, samesite="strict", path="/")
    return SessionView(account=session.account, csrf=session.csrf)


@router.get("")
def who(identity: Known) -> WhoView:
    """Say who one is."""
    viewer = identity.viewer
    scopes = sorted(scope.value for scope in viewer.scopes)
    return WhoView(account=identity.account, role=viewer.role.value, scopes=scopes)


@router.delete("", status_code=204)
def sign_out(request: Request, response: Response, identity: Known) -> None:
    """Leave."""
    desk_of(request).sign_in.leave(request.cookies.get(COOKIE, ""), identity.actor, identity.account)
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict", path="/")
