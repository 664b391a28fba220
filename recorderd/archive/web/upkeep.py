"""What keeps an archive in order, over HTTP: long work as jobs, how copies and deliveries stand, the drain.

Rule: the command line does the same by the same functions. A job is begun only when it can be: what is known
beforehand to keep it from its work (no such copy, a daemon that runs, a host on battery) is the answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi import Path as InPath

from recorderd.archive.jobs import Job, Work
from recorderd.archive.sign_in import Identity
from recorderd.archive.web.desk import Order, desk_of
from recorderd.archive.web.gates import HouseGate
from recorderd.archive.web.problems import Problem, unknown
from recorderd.policy.access import Action

router: Final = APIRouter(tags=["upkeep"])
NAME: Final = r"^[A-Za-z0-9._-]{0,64}$"
DRAIN_REASON: Final = r"^[^\x00-\x1f\x7f]*$"
DAYS_MAX: Final = 36_500
Number = Annotated[int, InPath(ge=1, le=2**53)]


def _check(what: str, *, by_deed: bool = False) -> Any:
    return Depends(HouseGate(Action.CHECK, what, by_deed=by_deed))


def _maintain(what: str, *, wants_reason: bool = False) -> Any:
    return Depends(HouseGate(Action.MAINTAIN, what, by_deed=True, wants_reason=wants_reason))


# --- jobs -------------------------------------------------------------------------------------------


@router.get("/jobs")
def jobs(
    request: Request,
    _: Annotated[Identity, _check("jobs_listed")],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[Job]:
    """List jobs of every front end, the newest first."""
    return desk_of(request).jobs.newest(limit)


@router.get("/jobs/{number}")
def job(request: Request, number: Number, _: Annotated[Identity, _check("job_shown")]) -> Job:
    """Say how far a job is, or what came of it."""
    found = desk_of(request).jobs.find(number)
    if found is None:
        raise unknown()
    return found


@router.delete("/jobs/{number}", status_code=202)
def stop_job(
    request: Request, number: Number, identity: Annotated[Identity, _maintain("job_stopped")]
) -> Job:
    """Want a job stopped; it ends where what it did is whole."""
    jobs = desk_of(request).jobs
    is_stopped = jobs.stop(number, identity.actor, reason=request.state.deed.reason)
    found = jobs.find(number)
    if found is None:
        raise unknown()
    if not is_stopped:
        raise Problem(409, "ended", "It has ended.")
    return found


@router.post("/fsck", status_code=202)
def begin_fsck(
    request: Request,
    response: Response,
    identity: Annotated[Identity, _check("fsck_begun", by_deed=True)],
    mirror: Annotated[bool, Body(embed=True, description="Read the copy to its last octet too.")] = False,
) -> Job:
    """Check files, catalogue, receipts, chains, audit log and copy against each other; changes nothing."""
    return _begin(request, response, Work.FSCK, Order(who=identity.actor, deep=mirror))


@router.post("/reindex", status_code=202)
def begin_reindex(
    request: Request,
    response: Response,
    identity: Annotated[Identity, _maintain("reindex_begun", wants_reason=True)],
) -> Job:
    """Make the catalogue's recordings anew from the store; no daemon may run, and all else waits."""
    return _begin(request, response, Work.REINDEX, Order(who=identity.actor))


@router.post("/retention/sweep", status_code=202)
def begin_sweep(
    request: Request,
    response: Response,
    identity: Annotated[Identity, _maintain("sweep_begun", wants_reason=True)],
) -> Job:
    """Erase what is due, as `/retention/plan` tells it."""
    return _begin(request, response, Work.SWEEP, Order(who=identity.actor))


@router.post("/stamps/renewal", status_code=202)
def begin_renewal(
    request: Request,
    response: Response,
    identity: Annotated[Identity, _maintain("renew_begun")],
    days: Annotated[int, Body(embed=True, ge=0, le=DAYS_MAX, description="That end within so many.")] = 90,
) -> Job:
    """Renew time stamps whose authority's certificate ends soon."""
    return _begin(request, response, Work.RENEW, Order(who=identity.actor, days=days))


@router.post("/mirror", status_code=202)
def begin_mirror(
    request: Request, response: Response, identity: Annotated[Identity, _maintain("mirror_begun")]
) -> Job:
    """Copy now what the off-site copy does not have, also what could not be copied before."""
    return _begin(request, response, Work.MIRROR, Order(who=identity.actor))


@router.post("/deliveries", status_code=202)
def begin_delivery(
    request: Request,
    response: Response,
    identity: Annotated[Identity, _maintain("deliver_begun")],
    route: Annotated[str, Body(embed=True, pattern=NAME, description="This one; empty: all.")] = "",
) -> Job:
    """Deliver now what is not delivered."""
    return _begin(request, response, Work.DELIVER, Order(who=identity.actor, route=route))


@router.post("/scrub", status_code=202)
def begin_scrub(
    request: Request, response: Response, identity: Annotated[Identity, _check("scrub_begun", by_deed=True)]
) -> Job:
    """Read every published file again, and compare it with what was signed for."""
    return _begin(request, response, Work.SCRUB, Order(who=identity.actor))


def _begin(request: Request, response: Response, work: Work, order: Order) -> Job:
    desk, deed = desk_of(request), request.state.deed
    desk.upkeep.check(work, order)
    begun = desk.jobs.begin(
        work,
        order.who,
        lambda telling: desk.upkeep.run(work, order, telling),
        reason=deed.reason,
        detail=order.told,
    )
    response.headers["Location"] = f"{request.url.path.partition('/v1/')[0]}/v1/jobs/{begun.number}"
    return begun


# --- how it stands ----------------------------------------------------------------------------------


@router.get("/mirror")
def mirror(request: Request, _: Annotated[Identity, _check("mirror_shown")]) -> dict[str, Any]:
    """Say how far the off-site copy is, and what could not be copied."""
    return desk_of(request).upkeep.mirror()


@router.get("/deliveries")
def deliveries(
    request: Request,
    _: Annotated[Identity, _check("deliveries_shown")],
    limit: Annotated[int, Query(ge=1, le=1000, description="So many rows of each route.")] = 50,
    failed: Annotated[bool, Query(description="Only what could not be delivered.")] = False,
) -> list[dict[str, Any]]:
    """Say of each route what was delivered, and what was not."""
    return desk_of(request).upkeep.deliveries(limit=limit, failed_only=failed)


@router.get("/scrub")
def scrub(request: Request, _: Annotated[Identity, _check("scrub_shown")]) -> dict[str, Any]:
    """Say what reading everything again has found."""
    return desk_of(request).upkeep.scrub()


@router.get("/intake")
def intake(request: Request, _: Annotated[Identity, _check("intake_shown")]) -> dict[str, Any]:
    """Say whether this front end takes recordings, and why not."""
    return desk_of(request).upkeep.intake()


@router.put("/intake")
def put_intake(
    request: Request,
    identity: Annotated[Identity, _maintain("intake_set")],
    drained: Annotated[bool, Body(description="Take no new recordings; what is in flight may end.")],
    reason: Annotated[str, Body(max_length=200, pattern=DRAIN_REASON, description="Told to recorders.")] = "",
) -> dict[str, Any]:
    """Let this front end take no new recordings, or take them again; the word outlives its process."""
    desk, deed = desk_of(request), request.state.deed
    told = desk.upkeep.drain(on=drained, reason=reason)
    if problem := told.get("error"):
        raise Problem(503, "not-running", str(problem))
    detail = f"drained: {reason}" if drained else "open"
    desk.audit_log.note(identity.actor, deed.what, desk.archive_id, reason=deed.reason, detail=detail)
    return told
