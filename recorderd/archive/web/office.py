"""What concerns no single recording: the audit log, accounts, tokens, groups, the archive's state."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi import Path as InPath

from recorderd import __version__
from recorderd.archive.accounts import LONGEST_TOKEN_DAYS, Account, Reaching
from recorderd.archive.audit_heads import kept_heads
from recorderd.archive.audit_log import AuditFilter, AuditRow
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import desk_of
from recorderd.archive.web.gates import HouseGate
from recorderd.archive.web.ranks import check_account, check_groups, check_members, check_reach, check_scopes
from recorderd.policy.access import Action, Role

router: Final = APIRouter(tags=["office"])
PLACE: Final = r"^[^\s,/\x00-\x1f\x7f]{1,128}$"
AccountName = Annotated[str, InPath(pattern=r"^[a-z0-9][a-z0-9._@-]{0,63}$")]
Place = Annotated[str, Body(pattern=PLACE)]
Places = Annotated[list[str], Body(max_length=1000)]
Text = Annotated[str, Query(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
_ACCOUNTS: Final = "accounts_listed"


def _deed(what: str) -> Any:
    return Depends(HouseGate(Action.ACCOUNTS, what, by_deed=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Rows, the newest first; ``next_before`` goes into the question for older ones, 0 = there are none."""

    rows: list[AuditRow]
    next_before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadView:
    """A signed head; the document is base64."""

    number: int
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How the archive is."""

    archive_id: str
    version: str
    recordings: int
    audit_rows: int
    audit_sha256: str  # of the newest row
    events: dict[str, int]  # of this process since its start


@router.get("/audit")
def audit(
    request: Request,
    *,
    _: Annotated[Identity, Depends(HouseGate(Action.AUDIT, "audit_listed"))],
    who: Text = "",
    what: Text = "",
    subject: Text = "",
    outcome: Text = "",
    since: Text = "",
    until: Text = "",
    before: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """Read the audit log."""
    wanted = AuditFilter(
        who=who,
        what=what,
        subject=subject,
        outcome=outcome,
        since=since,
        until=until,
        before_number=before,
    )
    rows = desk_of(request).audit_log.rows(wanted, limit=limit)
    return AuditPage(rows=rows, next_before=rows[-1].number if len(rows) == limit else 0)


@router.get("/audit/heads")
def audit_heads(
    request: Request, _: Annotated[Identity, Depends(HouseGate(Action.AUDIT, "audit_exported"))]
) -> list[HeadView]:
    """Give the signed heads of the audit log: with its rows, proof for whoever holds our certificate."""
    return [
        HeadView(number=number, document=base64.b64encode(document).decode("ascii"))
        for number, document in kept_heads(desk_of(request).database)
    ]


@router.get("/status")
def status(
    request: Request, _: Annotated[Identity, Depends(HouseGate(Action.STATUS, "status_asked"))]
) -> Status:
    """Say how the archive is."""
    desk = desk_of(request)
    rows, sha256 = desk.audit_log.last()
    return Status(
        archive_id=desk.archive_id,
        version=__version__,
        recordings=desk.catalogue.count(),
        audit_rows=rows,
        audit_sha256=sha256,
        events=desk.log.counters(),
    )


@router.get("/accounts")
def accounts(
    request: Request, _: Annotated[Identity, Depends(HouseGate(Action.ACCOUNTS, _ACCOUNTS))]
) -> list[Account]:
    """List accounts."""
    return desk_of(request).accounts.all()


@router.put("/accounts/{name}")
def put_account(
    request: Request,
    *,
    name: AccountName,
    identity: Annotated[Identity, _deed("account_changed")],
    role: Annotated[Role, Body()],
    extensions: Places = [],  # noqa: B006 - FastAPI copies it
    groups: Places = [],  # noqa: B006
    recorders: Places = [],  # noqa: B006
    second_right: Annotated[bool, Body()] = False,
) -> Account:
    """Make an account, or give one another role and reach."""
    desk = desk_of(request)
    reaching = Reaching(extensions=tuple(extensions), groups=tuple(groups), recorders=tuple(recorders))
    check_reach(desk, identity, role, reaching, second_right=second_right)
    check_groups(desk, identity, groups)
    is_known = desk.accounts.is_known(name)
    if is_known:
        check_account(desk, identity, name)
    change = desk.accounts.change if is_known else desk.accounts.add
    return change(identity.actor, name, role, reaching, second_right=second_right)


@router.put("/accounts/{name}/password", status_code=204)
def put_password(
    request: Request,
    name: AccountName,
    identity: Annotated[Identity, _deed("password_set")],
    password: Annotated[str, Body(embed=True, max_length=1024)],
) -> None:
    """Give an account a password."""
    desk = desk_of(request)
    check_account(desk, identity, name)
    desk.accounts.set_password(identity.actor, name, password)


@router.put("/accounts/{name}/disabled", status_code=204)
def put_disabled(
    request: Request,
    name: AccountName,
    identity: Annotated[Identity, _deed("account_disabled")],
    disabled: Annotated[bool, Body(embed=True)],
) -> None:
    """Shut an account, or open it again."""
    desk = desk_of(request)
    check_account(desk, identity, name)
    desk.accounts.set_disabled(identity.actor, name, disabled=disabled)


@router.put("/accounts/{name}/totp")
def put_totp(
    request: Request,
    name: AccountName,
    identity: Annotated[Identity, _deed("totp_set")],
    wanted: Annotated[bool, Body(embed=True)],
) -> dict[str, str]:
    """Give an account a new seed for a telephone's app, told this once; or want no code any more."""
    desk = desk_of(request)
    check_account(desk, identity, name)
    return {"secret": desk.accounts.set_totp(identity.actor, name, wanted=wanted)}


@router.put("/accounts/{name}/oidc", status_code=204)
def put_oidc(
    request: Request,
    name: AccountName,
    identity: Annotated[Identity, _deed("oidc_subject_set")],
    subject: Annotated[str, Body(embed=True, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")],
) -> None:
    """Say whom an account is at the OpenID provider; empty = nobody."""
    desk = desk_of(request)
    check_account(desk, identity, name)
    desk.accounts.set_oidc_subject(identity.actor, name, subject)


@router.get("/accounts/{name}/tokens")
def tokens(
    request: Request,
    name: AccountName,
    _: Annotated[Identity, Depends(HouseGate(Action.ACCOUNTS, "tokens_listed"))],
) -> list[dict[str, Any]]:
    """List an account's API tokens."""
    return [asdict(token) for token in desk_of(request).accounts.tokens(name)]


@router.post("/accounts/{name}/tokens", status_code=201)
def add_token(
    request: Request,
    *,
    name: AccountName,
    identity: Annotated[Identity, _deed("token_added")],
    label: Place,
    scopes: Annotated[list[Action], Body(min_length=1, max_length=50)],
    days: Annotated[int, Body(ge=1, le=LONGEST_TOKEN_DAYS)] = 90,
) -> dict[str, str]:
    """Make an API token; it is told this once."""
    desk = desk_of(request)
    check_account(desk, identity, name)
    check_scopes(identity, scopes)
    token, text = desk.accounts.add_token(identity.actor, name, name=label, scopes=scopes, days=days)
    return {"id": token.id, "token": text}


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(
    request: Request,
    token_id: Annotated[str, InPath(pattern=r"^[0-9a-f]{16}$")],
    identity: Annotated[Identity, _deed("token_revoked")],
) -> None:
    """Make a token worthless."""
    desk = desk_of(request)
    for token in desk.accounts.tokens():
        if token.id == token_id:
            check_account(desk, identity, token.account)
    desk.accounts.revoke_token(identity.actor, token_id)


@router.get("/groups")
def groups(
    request: Request, _: Annotated[Identity, Depends(HouseGate(Action.ACCOUNTS, "groups_listed"))]
) -> dict[str, list[dict[str, str]]]:
    """List groups with their members."""
    found = desk_of(request).accounts.groups()
    return {
        group: [{"kind": kind, "name": name} for kind, name in members] for group, members in found.items()
    }


@router.put("/groups/{group}", status_code=204)
def put_group(
    request: Request,
    group: Annotated[str, InPath(pattern=PLACE)],
    identity: Annotated[Identity, _deed("group_set")],
    extensions: Places = [],  # noqa: B006
    queues: Places = [],  # noqa: B006
) -> None:
    """Say who belongs to a group; nobody = it is gone."""
    desk = desk_of(request)
    check_members(desk, identity, group, [*extensions, *queues])
    desk.accounts.set_group(identity.actor, group, extensions=extensions, queues=queues)
