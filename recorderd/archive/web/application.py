"""The application: endpoints behind gates, errors as problems, limits before everything."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Depends, FastAPI

from recorderd import __version__
from recorderd.archive.web import (
    disposing,
    giving,
    holding,
    keeping,
    office,
    provider,
    reconciling,
    recordings,
    sessions,
    sharing,
    upkeep,
)
from recorderd.archive.web.desk import Desk
from recorderd.archive.web.gates import OpenGate
from recorderd.archive.web.limits import STANDARD_PATIENCE, Limits, Patience
from recorderd.archive.web.problems import CONTENT_TYPE, add_handlers
from recorderd.core.clock import Clock
from recorderd.core.events import EventLog

PREFIX: Final = "/api/v1"
PARTS: Final = tuple(
    part.router
    for part in (
        *(sessions, provider, recordings, keeping, holding, disposing),
        *(giving, reconciling, sharing, office, upkeep),
    )
)
_PROBLEM: Final = {
    "description": "A problem (RFC 9457).",
    "content": {
        CONTENT_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                },
            }
        }
    },
}


def make_application(
    *, log: EventLog, clock: Clock, requests_per_minute: int, patience: Patience = STANDARD_PATIENCE
) -> FastAPI:
    """Make the application; who runs it puts the desk into its state."""
    app = FastAPI(
        title="recorder-archive",
        version=__version__,
        description="Recordings: found, heard, kept and erased; every look is in the audit log.",
        docs_url=None,  # nothing is loaded from elsewhere
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses={"default": _PROBLEM, "422": _PROBLEM},
    )
    api = APIRouter(prefix=PREFIX)
    for part in PARTS:
        api.include_router(part)

    @api.get("/openapi.json", include_in_schema=False, dependencies=[Depends(OpenGate("tells no secret"))])
    def document() -> dict[str, object]:
        """Give the description of all this."""
        return app.openapi()

    app.include_router(api)
    add_handlers(app, log)
    app.add_middleware(Limits, per_minute=requests_per_minute, clock=clock, log=log, patience=patience)
    return app


def put_desk(app: FastAPI, desk: Desk) -> None:
    """Give the application what it works on."""
    app.state.desk = desk
