"""From the configuration to what the signalling is told: settings, rules, who may control.

Errors of secrets show here, so that `check-config` finds what a start would.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

from recorderd.app.named_files import Look
from recorderd.app.prompts import PromptLibrary
from recorderd.app.recorder_configuration import (
    RecorderConfiguration,
    RegistrationSection,
    SipSection,
    TlsSection,
)
from recorderd.app.rules_configuration import codes_of, consent_header_of, numbering_of, rules_of
from recorderd.app.schema import Problem
from recorderd.app.tls_files import check_tls_files
from recorderd.core.messages import CallDescription, ControlAction
from recorderd.core.terms import RecordingTerms
from recorderd.evidence.keys import read_secret_text, resolve_secret
from recorderd.policy.peers import Network, networks
from recorderd.policy.rules import decide, facts_of
from recorderd.sip.settings import Control, Registration, SipSettings, Tls
from recorderd.wire.offer import LegHeaderNames
from recorderd.wire.sdes import SrtpPolicy


def rule_of(configuration: RecorderConfiguration) -> Callable[[CallDescription], RecordingTerms]:
    """Give the function that says on what terms a call is recorded, by the rules and the local time."""
    rules, numbering = rules_of(configuration), numbering_of(configuration)

    def rule(description: CallDescription) -> RecordingTerms:
        facts = facts_of(description, at=datetime.now().astimezone())
        return decide(rules, facts, numbering=numbering).terms

    return rule


def prompt_problems(configuration: RecorderConfiguration, prompts: PromptLibrary) -> Iterator[Problem]:
    """Find rules that name prompts which nobody can say."""
    for number, row in enumerate(configuration.rules):
        for key in ("prompt_internal", "prompt_inbound", "prompt_outbound"):
            name = getattr(row, key)
            if name and name not in prompts.names:
                known = ", ".join(sorted(prompts.names))
                yield Problem(
                    key=f"rules[{number}].{key}",
                    reason=f"{name} is no prompt",
                    remedy=f"choose one of {known}",
                )


def sip_settings(configuration: RecorderConfiguration) -> SipSettings:
    """Turn the configuration into what the signalling is told; reads the account's password, and TLS's files.

    Errors: KeyUnusable when one of them is missing or open to others, or makes no TLS server.
    """
    sip, account = configuration.sip, configuration.sip.registration
    allowed: tuple[Network, ...] = networks(sip.allow_from)
    if account is not None:
        allowed += _registrar_networks(account.registrar)
    return SipSettings(
        address=sip.address,
        udp_port=sip.udp_port,
        tcp_port=sip.tcp_port,
        tls_port=sip.tls_port,
        rtp_address=configuration.rtp.address,
        srtp=SrtpPolicy(configuration.rtp.srtp.value),
        allowed=allowed,
        max_calls=sip.max_calls,
        leg_headers=leg_headers(configuration),
        registration=_registration(account) if account is not None else None,
        tls=_tls(sip.tls) if sip.tls is not None else None,
        control=control_of(configuration),
    )


def sip_looks(sip: SipSection) -> Iterator[Look]:
    """Give what reads the files of the signalling, for `check-config`."""
    if sip.registration is not None:
        yield "sip.registration.password_file", partial(_registration, sip.registration)
    if sip.tls is not None:
        yield "sip.tls", partial(_tls, sip.tls)


def _registration(account: RegistrationSection) -> Registration:
    return Registration(
        registrar=account.registrar,
        user=account.user,
        password=read_secret_text(resolve_secret(account.password_file)),
        auth_user=account.auth_user,
        realm=account.realm,
        transport=account.transport.value,
        expires_s=account.expires_s,
        retry_s=account.retry_s,
    )


def _tls(section: TlsSection) -> Tls:
    key_file, ca_file = resolve_secret(section.key_file), section.ca_file
    check_tls_files(certificate_file=section.certificate_file, key_file=key_file, ca_file=ca_file)
    return Tls(
        certificate_file=section.certificate_file,
        key_file=key_file,
        ca_file=ca_file,
        verify_peer=section.verify_peer,
        require_client_certificate=section.require_client_certificate,
    )


def leg_headers(configuration: RecorderConfiguration) -> LegHeaderNames:
    """Give the names of the headers that legs carry."""
    names = configuration.sip.leg_headers
    return LegHeaderNames(
        call_id=names.call_id,
        leg=names.leg,
        caller=names.caller,
        callee=names.callee,
        direction=names.direction,
        extension=names.extension,
        trunk=names.trunk,
        queue=names.queue,
        conference=names.conference,
        kind=names.kind,
        linked=names.linked,
        consent=consent_header_of(configuration),
        consent_yes=configuration.consent.yes,
        consent_no=configuration.consent.no,
    )


def control_of(configuration: RecorderConfiguration) -> Control:
    """Give who may change recordings and how that is asked for."""
    control, consent = configuration.control, configuration.consent
    actions = codes_of(configuration).actions()
    keys = {
        consent.dtmf_consent: ControlAction.CONSENT,
        consent.dtmf_objection: ControlAction.OBJECT,
    }
    return Control(
        actions=actions,
        digit_actions={**{key: action for key, action in keys.items() if key}, **actions},
        supervisors=control.supervisors,
        numbering=numbering_of(configuration),
        announce=control.announce,
        language=control.language,
    )


def _registrar_networks(registrar: str) -> tuple[Network, ...]:
    """Addresses of the exchange that we register at, looked up once at start."""
    host = registrar.rpartition(":")[0] if registrar.count(":") == 1 else registrar
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_DGRAM)
    except OSError:
        return ()
    return networks({str(entry[4][0]) for entry in found})
