"""What the signalling needs to know, and the pjsua2 configurations made of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pjsua2

from recorderd import __version__
from recorderd.core.messages import ControlAction
from recorderd.core.terms import Consent, RecordingTerms
from recorderd.policy.admission import Admission
from recorderd.policy.numbers import Numbering
from recorderd.policy.peers import Network
from recorderd.wire.offer import LegHeaderNames
from recorderd.wire.sdes import SrtpPolicy

LOG_LEVEL = 2  # errors and warnings of the library; see ``library_log``


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """The recorder's account at the exchange."""

    registrar: str
    user: str
    password: str
    auth_user: str
    realm: str
    transport: str
    expires_s: int
    retry_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificates for SIP over TLS."""

    certificate_file: Path
    key_file: Path
    ca_file: Path | None
    verify_peer: bool
    require_client_certificate: bool  # of whoever connects to us


Admit = Callable[[int, RecordingTerms], Admission]  # dialogs that are open, terms of the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Who may change a recording, and how it is asked for."""

    actions: Mapping[str, ControlAction] = field(default_factory=dict)  # by feature code
    digit_actions: Mapping[str, ControlAction] = field(default_factory=dict)  # by keys within a dialog
    supervisors: tuple[str, ...] = ()
    numbering: Numbering = field(default_factory=Numbering)
    announce: bool = True
    language: str = "en"

    def codes_for(self, terms: RecordingTerms) -> Mapping[str, ControlAction]:
        """Give what keys within a dialog ask for, by the terms of its session."""
        return self.actions if terms.consent is Consent.NONE else self.digit_actions


@dataclass(frozen=True, slots=True, kw_only=True)
class SipSettings:
    """Everything that the signalling is told at start."""

    address: str
    udp_port: int
    tcp_port: int
    tls_port: int
    rtp_address: str
    allowed: tuple[Network, ...]
    max_calls: int
    leg_headers: LegHeaderNames
    registration: Registration | None
    tls: Tls | None
    srtp: SrtpPolicy = SrtpPolicy.OFFER
    control: Control = field(default_factory=Control)


def endpoint_config(settings: SipSettings, writer: pjsua2.LogWriter) -> pjsua2.EpConfig:
    """Configure the library: one thread, no sound, no clock."""
    config = pjsua2.EpConfig()
    config.uaConfig.maxCalls = min(settings.max_calls + 16, 2048)  # room to refuse politely above the limit
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.uaConfig.userAgent = f"recorderd/{__version__}"
    config.medConfig.threadCnt = 0
    config.medConfig.hasIoqueue = False
    config.medConfig.noVad = True
    config.logConfig.level = LOG_LEVEL
    config.logConfig.consoleLevel = LOG_LEVEL  # the level of the writer, not of a console
    config.logConfig.decor = 0  # our own log has time and place
    config.logConfig.msgLogging = 0
    config.logConfig.writer = writer
    return config


def transport_config(
    settings: SipSettings, port: int, *, without_delay: bool = False
) -> pjsua2.TransportConfig:
    """Configure one listening transport; ``without_delay`` is for those over TCP."""
    config = pjsua2.TransportConfig()
    config.port = port
    config.boundAddress = settings.address
    if without_delay:  # else an answer waits for the acknowledgement of the one before: 50 ms instead of 4
        no_delay = pjsua2.SockOpt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config.sockOptParams.sockOpts.append(no_delay)
    if settings.tls is not None:
        config.tlsConfig.certFile = str(settings.tls.certificate_file)
        config.tlsConfig.privKeyFile = str(settings.tls.key_file)
        config.tlsConfig.verifyServer = settings.tls.verify_peer
        config.tlsConfig.verifyClient = settings.tls.require_client_certificate
        config.tlsConfig.requireClientCert = settings.tls.require_client_certificate
        if settings.tls.ca_file is not None:
            config.tlsConfig.CaListFile = str(settings.tls.ca_file)
    return config


def account_config(settings: SipSettings) -> pjsua2.AccountConfig:
    """Configure the account that receives sessions, registered or not."""
    config = pjsua2.AccountConfig()
    config.callConfig.siprecUse = pjsua2.PJSUA_SIP_SIPREC_OPTIONAL
    config.callConfig.timerUse = pjsua2.PJSUA_SIP_TIMER_OPTIONAL
    config.sipConfig.contactParams = ";+sip.srs"
    config.mediaConfig.transportConfig.boundAddress = settings.rtp_address
    config.mediaConfig.useLoopMedTp = True  # ours are the only RTP sockets: its own would run into our range
    config.mediaConfig.srtpUse = pjsua2.PJMEDIA_SRTP_OPTIONAL  # lets RTP/SAVP pass; keys and packets are ours
    config.mediaConfig.srtpSecureSignaling = 0
    config.videoConfig.autoShowIncoming = False
    config.natConfig.iceEnabled = False
    config.natConfig.contactRewriteUse = 0
    config.natConfig.viaRewriteUse = False
    config.natConfig.sdpNatRewriteUse = False
    config.natConfig.udpKaIntervalSec = 0
    registration = settings.registration
    if registration is None:
        config.idUri = f"sip:recorder@{settings.address}"
        return config
    host = registration.registrar
    config.idUri = f"sip:{registration.user}@{host.partition(':')[0]}"
    config.regConfig.registrarUri = f"sip:{host};transport={registration.transport}"
    config.regConfig.timeoutSec = registration.expires_s
    config.regConfig.registerOnAdd = False
    config.regConfig.retryIntervalSec = 0  # our own backoff decides, see ``registration``
    config.regConfig.dropCallsOnFail = False
    config.regConfig.unregWaitMsec = 1000
    credential = pjsua2.AuthCredInfo(
        "digest", registration.realm, registration.auth_user or registration.user, 0, registration.password
    )
    config.sipConfig.authCreds.append(credential)
    return config
