"""Coming in over HTTP by an OpenID provider: there, and back again."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from recorderd.archive.audit_log import Actor
from recorderd.archive.oidc import ATTEMPT_S, Oidc
from recorderd.archive.web.desk import Desk, address_of, desk_of
from recorderd.archive.web.gates import COOKIE, OpenGate
from recorderd.archive.web.problems import unknown
from recorderd.archive.web.sessions import SessionView
from recorderd.core.errors import SignInRefused

router: Final = APIRouter(prefix="/session/oidc", tags=["session"])
STATE_COOKIE: Final = "__Host-recorder-oidc"
Text = Annotated[str, Query(max_length=4096)]


def _oidc(desk: Desk) -> Oidc:
    if desk.oidc is None:
        raise unknown()
    return desk.oidc


@router.get(
    "",
    status_code=303,
    response_class=RedirectResponse,
    dependencies=[Depends(OpenGate("leads to the provider"))],
)
def begin(request: Request) -> Response:
    """Go to the provider."""
    url, state = _oidc(desk_of(request)).begin()
    response = RedirectResponse(url, status_code=303)
    response.set_cookie(  # lax: the way back begins at another site
        STATE_COOKIE, state, max_age=ATTEMPT_S, secure=True, httponly=True, samesite="lax", path="/"
    )
    return response


@router.get("/return", dependencies=[Depends(OpenGate("proves itself by the provider's word"))])
def come_back(
    request: Request,
    response: Response,
    *,
    state: Text = "",
    code: Text = "",
    iss: Text = "",
    error: Text = "",
) -> SessionView:
    """Come back from the provider, and in."""
    desk, address = desk_of(request), address_of(request)
    oidc = _oidc(desk)
    try:
        if error or not code:
            raise SignInRefused(reason="the provider refused")
        kept_state = request.cookies.get(STATE_COOKIE, "")
        account = oidc.finish(state=state, kept_state=kept_state, code=code, issuer=iss)
        actor = Actor(name=f"account:{account}", address=address)
        session = desk.sign_in.begin_session(account, actor, how="OpenID")
    except SignInRefused as problem:
        actor = Actor(name="account:?", address=address)
        detail = str(problem.fields["reason"])
        desk.audit_log.note(actor, "signed_in", actor.name, outcome="refused", detail=detail)
        raise
    response.delete_cookie(STATE_COOKIE, secure=True, httponly=True, samesite="lax", path="/")
    response.set_cookie(COOKIE, session.secret, secure=True, httponly=True, samesite="strict", path="/")
    return SessionView(account=session.account, csrf=session.csrf)
