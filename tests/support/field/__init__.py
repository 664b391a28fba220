"""What recording clients send in the field, one module per family; ``INVITES``: each one's first request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.support.field import (
    avaya_sbce,
    broadworks,
    cisco_bib,
    cisco_cube,
    metaswitch,
    oracle_acme,
    rfc7865,
    ribbon_sonus,
    small_clients,
    webex,
)
from tests.support.field.request import FieldRequest, Scene

INVITES: Final[dict[str, Callable[[Scene], FieldRequest]]] = {
    "rfc7865": rfc7865.invite,
    "broadworks": broadworks.invite,
    "webex": webex.invite,
    "cisco_bib": cisco_bib.invite,
    "cisco_cube": cisco_cube.invite,
    "cisco_cube_siprec": cisco_cube.siprec_invite,
    "oracle_acme": oracle_acme.invite,
    "ribbon_sonus": ribbon_sonus.invite,
    "avaya_sbce": avaya_sbce.invite,
    "metaswitch": metaswitch.invite,
    "opensips": small_clients.opensips,
    "netsapiens": small_clients.netsapiens,
    "jambonz": small_clients.jambonz,
    "audiocodes": small_clients.audiocodes,
    "sems": small_clients.sems,
}
