"""Configuration of the exchange appliance: one file for recorderd, recorderd-flush and recorderctl.

Secrets are named by file; the content of a secret never stands in the configuration.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from recorderd.app.archive_link_configuration import (
    FurtherArchiveSection,
    PrimaryArchiveSection,
    archives_problems,
)
from recorderd.app.checks import header_name as _header
from recorderd.app.checks import safe_id, sip_host, sip_user
from recorderd.app.encryption_configuration import EncryptionSection, encryption_problems
from recorderd.app.power_configuration import PowerSection, power_problems
from recorderd.app.restart_configuration import RestartSection
from recorderd.app.rules_configuration import (
    ConsentSection,
    ControlSection,
    NumberingSection,
    RuleSection,
    rule_problems,
)
from recorderd.app.schema import Problem, load, option, section
from recorderd.app.spool_configuration import SpoolSection, spool_problems
from recorderd.app.stamps_configuration import TimestampsSection, stamps_problems
from recorderd.core import outcomes
from recorderd.evidence.token_uri import uri_flaw
from recorderd.policy.file_names import DEFAULT_TEMPLATE, FACTS, TIME_PARTS, template_flaw
from recorderd.wire.sdes import SrtpPolicy


def _address(value: Any) -> str | None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return "give an IP address of this machine"
    return None


def _rtp_address(value: Any) -> str | None:
    flaw = _address(value)
    if flaw is None and ipaddress.ip_address(value).is_unspecified:
        return "give the one address that clients reach: told to them, this one holds the line"
    return flaw


def _token_uri(value: Any) -> str | None:
    return uri_flaw(value) if value else None


def _ipv4(value: Any) -> str | None:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return "give an IPv4 address of this machine; SIP over IPv6 is not supported yet"
    return None


def _networks(value: Any) -> str | None:
    try:
        for row in value:
            ipaddress.ip_network(row)
    except ValueError:
        return 'give a list of addresses or networks, for example ["192.0.2.7", "10.0.0.0/24"]'
    return None


def _outcomes(value: Any) -> str | None:
    unknown = sorted(set(value) - set(outcomes.CHOSEN))
    return f"give a list of {', '.join(outcomes.CHOSEN)}" if unknown else None


class Transport(StrEnum):
    """SIP over what."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSection:
    """[recorder]"""

    id: str = option("Name of this recorder in manifests and on the archive.", check=safe_id)
    state_dir: Path = option("Folder for the manifest chain; must survive restarts.")
    run_dir: Path = option("Folder for the control sockets.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationSection:
    """[sip.registration]"""

    registrar: str = option("Address of the exchange, HOST or HOST:PORT.", check=sip_host)
    user: str = option("User of the recorder's account at the exchange.", check=sip_user)
    password_file: Path = option("File with the account's password, mode 600.")
    auth_user: str = option("User for digest when it differs from `user`.", default="")
    realm: str = option("Digest realm; * answers any.", default="*")
    transport: Transport = option("udp, tcp or tls.", default=Transport.UDP)
    expires_s: int = option(
        "Life of a registration; an exchange that restarts may miss us for so long over UDP.",
        default=60,
        minimum=10,
        maximum=86_400,
    )
    retry_s: int = option("First wait after a failure; doubles up to 16 times that.", default=2, minimum=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegHeadersSection:
    """[sip.leg_headers]"""

    call_id: str = option("Header with the exchange's call id.", default="X-Call-ID", check=_header)
    leg: str = option("Header with the leg's name.", default="X-Call-Leg", check=_header)
    caller: str = option("Header with the caller.", default="X-Call-Caller", check=_header)
    callee: str = option("Header with the callee.", default="X-Call-Callee", check=_header)
    direction: str = option("Header with the direction.", default="X-Call-Direction", check=_header)
    extension: str = option("Header with the recorded extension.", default="X-Call-Extension", check=_header)
    trunk: str = option("Header with the trunk.", default="X-Call-Trunk", check=_header)
    queue: str = option("Header with the queue.", default="X-Call-Queue", check=_header)
    conference: str = option("Header with the conference.", default="X-Call-Conference", check=_header)
    kind: str = option(
        "Header with the kind of call: paging, intercom, voicemail or feature.",
        default="X-Call-Kind",
        check=_header,
    )
    linked: str = option(
        "Header with the id of another call that the exchange has made one with this.",
        default="X-Call-Linked",
        check=_header,
    )
    consent: str = option(
        "Header that says whether the parties agree to be recorded: yes or no.",
        default="X-Recording-Consent",
        check=_header,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSection:
    """[sip.tls]"""

    certificate_file: Path = option("Our certificate chain, PEM.")
    key_file: Path = option("Its private key, PEM, mode 600.")
    ca_file: Path | None = option("CAs that may vouch for the exchange, PEM.", default=None)
    verify_peer: bool = option("Refuse an exchange that no CA of ca_file vouches for.", default=True)
    require_client_certificate: bool = option(
        "Take calls over TLS only from whoever shows a certificate that ca_file vouches for.", default=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SipSection:
    """[sip]"""

    address: str = option("Address to listen on.", default="127.0.0.1", check=_ipv4)
    udp_port: int = option("UDP port; 0 = no UDP.", default=5060, minimum=0, maximum=65_535)
    tcp_port: int = option("TCP port; 0 = no TCP.", default=5060, minimum=0, maximum=65_535)
    tls_port: int = option("TLS port; 0 = no TLS.", default=0, minimum=0, maximum=65_535)
    allow_from: tuple[str, ...] = option(
        "Addresses that may send sessions; the registrar's is added.", default=("127.0.0.1",), check=_networks
    )
    max_calls: int = option("Dialogs at a time; more get 503.", default=1000, minimum=1, maximum=2000)
    registration: RegistrationSection | None = section(
        "Account at the exchange; absent = none.", default=None
    )
    leg_headers: LegHeadersSection = section("Names of headers.", default_factory=LegHeadersSection)
    tls: TlsSection | None = section("Needed for TLS.", default=None)


class RtpSource(StrEnum):
    """Whose RTP is taken."""

    STRICT = "strict"  # only from the address that was signalled
    LEARN = "learn"  # from the address that sends first
    ANY = "any"


class Skew(StrEnum):
    """What becomes of a sender's clock that runs fast or slow."""

    SILENCE = "silence"  # whole samples are put in or left out where nobody speaks
    RESAMPLE = "resample"
    OFF = "off"  # stated in the manifest only


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpSection:
    """[rtp]"""

    address: str = option("Address that receives RTP.", default="127.0.0.1", check=_rtp_address)
    port_min: int = option("First port, even.", default=30_000, minimum=1024, maximum=65_534)
    port_max: int = option("Last port.", default=39_999, minimum=1025, maximum=65_535)
    silence_limit_s: int = option(
        "End a session after so long without RTP, one that is held after 4 h; 0 = never.",
        default=120,
        minimum=0,
    )
    receive_buffer_bytes: int = option(
        "Kernel buffer per RTP socket.", default=1 << 20, minimum=1 << 14, maximum=1 << 30
    )
    max_streams: int = option("Streams at a time.", default=2000, minimum=1, maximum=8000)
    source: RtpSource = option(
        "Take RTP from the signalled address only (strict), from whichever sends first (learn) or from any.",
        default=RtpSource.ANY,
    )
    srtp: SrtpPolicy = option(
        "Encrypted media with keys in the SDP: never, offer (taken when offered) or require.",
        default=SrtpPolicy.OFFER,
    )


class TimeZone(StrEnum):
    """Whose time."""

    UTC = "utc"
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSection:
    """[record]"""

    window_ms: int = option(
        "How often audio is rendered; with 25 sessions open not more often than every 800 ms, with 200 every "
        "1600 ms, unless on battery.",
        default=500,
        minimum=100,
        maximum=1000,
    )
    delay_ms: int = option(
        "How long to wait for late packets; later ones are counted, not heard.",
        default=800,
        minimum=200,
        maximum=2000,
    )
    skew: Skew = option(
        "Keep streams aligned whose clocks differ: by samples in silence, by resample, or off (only stated).",
        default=Skew.SILENCE,
    )
    skew_threshold_ms: int = option(
        "How far a stream may drift before it is corrected.", default=5, minimum=1, maximum=1000
    )
    tones: bool = option(
        "Listen for keys in the audio (DTMF) and tell them in the manifest; three times the CPU. Keys that "
        "come as events are told in any case, and where a rule masks keys, none.",
        default=False,
    )
    checkpoint_s: int = option("How often a draft is synced to disk.", default=1, minimum=1, maximum=60)
    file_name: str = option(
        f"Name of a sealed recording's WAV: text, {' '.join(f'%{part}' for part in TIME_PARTS)} of its "
        f"beginning, {' '.join(f'{{{fact}}}' for fact in FACTS)}; ends with -{{id}}.",
        default=DEFAULT_TEMPLATE,
        check=template_flaw,
    )
    file_name_time: TimeZone = option(
        "utc, in which names sort also when clocks go back, or local.", default=TimeZone.UTC
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSection:
    """[evidence]"""

    keys_dir: Path | None = option(
        "Folder of keys and certificates that `recorderctl keys` keeps; in place of the next three.",
        default=None,
    )
    key_file: Path | None = option(
        "Signing key, PEM, mode 600; or credential:NAME is found by systemd.", default=None
    )
    key: str = option(
        "Signing key in a token, as PKCS #11 URI (RFC 7512) with module-path and pin-source; "
        "in place of key_file.",
        default="",
        check=_token_uri,
    )
    certificate_file: Path | None = option("Signing certificate (chain), PEM.", default=None)
    expiry_warning_days: int = option(
        "Warn so many days before the certificate expires.", default=30, minimum=1, maximum=3650
    )
    checkpoint_s: int = option(
        "How often the audio of a call that goes on is signed; 0 = not before its end.",
        default=10,
        minimum=0,
        maximum=3600,
    )
    entries: tuple[str, ...] = option(
        "What leaves a signed entry in the chain although nothing was recorded; the rest is only counted.",
        default=outcomes.CHOSEN,
        check=_outcomes,
    )
    entries_per_minute: int = option(
        "Above so many entries of refused calls, they are only counted.", default=120, minimum=1
    )
    head_every_s: int = option(
        "How often the head of the chain is signed and sent to the archive; at start and stop too.",
        default=3600,
        minimum=1,
        maximum=86_400,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSection:
    """[clock]"""

    offset_limit_ms: int = option(
        "Alarm when the machine's clock is known to be off by more; MiFID II allows a second.",
        default=1000,
        minimum=1,
        maximum=60_000,
    )
    check_s: int = option(
        "How often chronyd, systemd-timesyncd or the kernel is asked how good the clock is.",
        default=60,
        minimum=1,
        maximum=3600,
    )


class LogLevel(StrEnum):
    """How much to log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection:
    """[log]"""

    level: LogLevel = option("debug, info or warning.", default=LogLevel.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderConfiguration:
    """The whole of recorderd.toml."""

    recorder: RecorderSection = section("Who this recorder is.")
    sip: SipSection = section("Signalling.", default_factory=SipSection)
    rtp: RtpSection = section("Media.", default_factory=RtpSection)
    record: RecordSection = section("Rendering.", default_factory=RecordSection)
    evidence: EvidenceSection = section("Signing.")
    clock: ClockSection = section("The machine's clock.", default_factory=ClockSection)
    spool: SpoolSection = section("Buffer on disk.")
    archive: PrimaryArchiveSection = section("Link to the archive host.")
    archives: tuple[FurtherArchiveSection, ...] = option("Further archive hosts.", default=())
    timestamps: TimestampsSection | None = section("Trusted time; absent = none.", default=None)
    power: PowerSection | None = section("The UPSes that feed this machine; absent = none.", default=None)
    restart: RestartSection = section("Calls over a restart.", default_factory=RestartSection)
    log: LogSection = section("Logging.", default_factory=LogSection)
    numbering: NumberingSection = section("How numbers are dialled.", default_factory=NumberingSection)
    rules: tuple[RuleSection, ...] = section("Who is recorded; absent = every call.", default=())
    encryption: dict[str, EncryptionSection] = section(
        "To whom recordings are encrypted, by name.", default_factory=dict
    )
    control: ControlSection = section("Changing a running recording.", default_factory=ControlSection)
    consent: ConsentSection = section("How consent arrives.", default_factory=ConsentSection)

    def cross_check(self) -> Iterator[Problem]:
        """Find what is wrong between keys that are right by themselves."""
        if self.rtp.port_min % 2 or self.rtp.port_max <= self.rtp.port_min:
            yield Problem(
                key="rtp.port_min",
                reason=f"{self.rtp.port_min} to {self.rtp.port_max} is no port range",
                remedy="give an even port_min below port_max",
            )
        if not (self.sip.udp_port or self.sip.tcp_port or self.sip.tls_port):
            yield Problem(key="sip", reason="all ports are 0", remedy="give at least one SIP port")
        registration = self.sip.registration
        wants_tls = registration is not None and registration.transport is Transport.TLS
        if (self.sip.tls_port or wants_tls) and self.sip.tls is None:
            yield Problem(
                key="sip.tls", reason="missing", remedy="name certificate_file and key_file for TLS"
            )
        if self.sip.tls is not None and self.sip.tls.require_client_certificate and not self.sip.tls.ca_file:
            yield Problem(
                key="sip.tls.ca_file", reason="missing", remedy="name who may vouch for client certificates"
            )
        yield from _key_problems(self.evidence)
        yield from spool_problems(self.spool)
        yield from stamps_problems(self.timestamps)
        yield from power_problems(self.power)
        yield from archives_problems(self.archives)
        yield from rule_problems(self)
        yield from encryption_problems(self)


def _key_problems(evidence: EvidenceSection) -> Iterator[Problem]:
    """See that the signing key is named once: by its folder, or by key and certificate."""
    beside = [name for name in ("key_file", "key", "certificate_file") if getattr(evidence, name)]
    if evidence.keys_dir is not None:
        if beside:
            reason, remedy = "goes with keys_dir", "leave it out, or keys_dir"
            yield Problem(key=f"evidence.{beside[0]}", reason=reason, remedy=remedy)
    elif evidence.certificate_file is None:
        yield Problem(
            key="evidence.certificate_file", reason="missing", remedy="Signing certificate (chain), PEM."
        )
    elif bool(evidence.key_file) == bool(evidence.key):
        reason = "both are given" if evidence.key else "missing"
        remedy = "give one: key_file for a file or credential, key for a token"
        yield Problem(key="evidence.key_file", reason=reason, remedy=remedy)


def load_recorder_configuration(path: Path) -> RecorderConfiguration:
    """Read recorderd.toml.

    Errors: ConfigurationError with every problem of the file.
    """
    return load(RecorderConfiguration, path)
