"""recorderctl keys: the signing key made here, vouched for by an authority or itself, and followed by others.

Contract: works on the folder of evidence.keys_dir; every command may be cut and given again. Shown of a key
are only its kind and the hash of its public half.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recorderd import durable
from recorderd.app.keyring import SIGNER_NAME, Generation, Keyring
from recorderd.app.recorder_configuration import RecorderConfiguration, load_recorder_configuration
from recorderd.app.signing import key_source
from recorderd.core.errors import CertificateRefused, ExportBlocked, KeyringRefused
from recorderd.evidence.certificates import (
    CertificateFacts,
    describe_certificate,
    judge_answer,
    key_fingerprint,
    make_request,
    self_signed,
    subject_of,
)
from recorderd.evidence.signing_key import FileKey, KeyKind, SigningKey, key_to_pem, kind_name, make_key
from recorderd.evidence.token_key import take_or_make
from recorderd.evidence.token_uri import parse_token_uri


def add_command(commands: Any) -> None:
    """Add ``keys`` to the commands of ``recorderctl``."""
    keys = commands.add_parser("keys", help="the signing key: make it, have it certified, change it")
    steps = keys.add_subparsers(required=True, metavar="STEP")
    parsers = {
        name: steps.add_parser(name, help=text)
        for name, text in {
            "init": "make the first key",
            "csr": "write a request for an authority's certificate",
            "install": "take the authority's answer",
            "rotate": "make the key that follows, or let it sign (--finish)",
            "show": "list keys and certificates",
        }.items()
    }
    for name, parser in parsers.items():
        parser.add_argument("--config", type=Path, required=True, metavar="F", help="recorderd.toml")
        parser.set_defaults(run=_STEPS[name])
    for parser in (parsers["init"], parsers["rotate"]):
        kinds = [kind.value for kind in KeyKind]
        parser.add_argument("--kind", choices=kinds, default=kinds[0], help="P-256 unless you must")
        parser.add_argument(
            "--token", default="", metavar="URI", help="make or take it in a token (RFC 7512)"
        )
        parser.add_argument("--self-signed", action="store_true", help="let it vouch for itself")
        parser.add_argument(
            "--days", type=_days, default=3650, metavar="N", help="of a self-signed certificate"
        )
    parsers["rotate"].add_argument("--finish", action="store_true", help="let the key that is ready sign")
    for name in ("init", "csr", "rotate"):
        parsers[name].add_argument("--subject", metavar="DN", help="CN=x,O=y,C=de; else the recorder's id")
    parsers["csr"].add_argument("--out", type=Path, metavar="F", help="else to the standard output")
    parsers["install"].add_argument("certificate", type=Path, metavar="CERT", help="with its issuers, PEM")
    parsers["install"].add_argument("--ca", type=Path, metavar="F", help="the roots that count, PEM")
    parsers["show"].add_argument("--json", action="store_true", help="for programs")


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 36_500:
        raise argparse.ArgumentTypeError("give 1 to 36500")
    return days


# --- the steps --------------------------------------------------------------------------------------


def _init(arguments: argparse.Namespace) -> int:
    configuration, ring = _ring(arguments)
    with ring.locked():
        there = next(iter(ring.generations()), None)
        if there is not None:
            print(f"There is a key already: {there.describe()}; nothing was changed.")
        else:
            there = _add(ring, arguments, configuration)
            print(f"Made key {there.describe()}.")
        return _next_step(ring)


def _rotate(arguments: argparse.Namespace) -> int:
    configuration, ring = _ring(arguments)
    with ring.locked():
        current, following = ring.current(), ring.following()
        if current is None:
            raise KeyringRefused(path=ring.folder, reason="no key is in use yet; begin with init")
        if arguments.finish:
            return _finish(ring, current, following)
        if following is not None:
            print(f"A key waits to be used already: {following.describe()}; nothing was changed.")
        else:
            print(f"Made key {_add(ring, arguments, configuration).describe()}.")
        return _next_step(ring)


def _finish(ring: Keyring, current: Generation, following: Generation | None) -> int:
    if following is None and len(ring.generations()) > 1:
        print(f"Key {current.describe()} signs already; nothing was changed.")
        return 0
    fresh = ring.switch()
    print(f"Key {fresh.describe()} signs from the next reload on: systemctl reload recorderd")
    print(f"Recordings of key {current.describe()} stay valid: its certificate is kept in {current.folder}.")
    return 0


def _csr(arguments: argparse.Namespace) -> int:
    configuration, ring = _ring(arguments)
    with ring.locked():
        asked = ring.following() or ring.current()
        if asked is None:
            raise KeyringRefused(path=ring.folder, reason="there is no key yet; begin with init")
        request = make_request(asked.key(), subject=_subject(arguments, configuration))
    if arguments.out is None:
        sys.stdout.write(request.decode())
        return 0
    try:
        durable.create(arguments.out, request, mode=0o644)
    except FileExistsError:
        raise ExportBlocked(path=arguments.out) from None
    print(f"Wrote a request for key {asked.describe()} to {arguments.out}.")
    return 0


def _install(arguments: argparse.Namespace) -> int:
    _, ring = _ring(arguments)
    answer_pem = _read(arguments.certificate)
    roots_pem = _read(arguments.ca) if arguments.ca is not None else None
    with ring.locked():
        ours = [key_fingerprint(entry.public) for entry in ring.generations()]
        if not ours:
            raise KeyringRefused(path=ring.folder, reason="there is no key yet; begin with init")
        answer = judge_answer(
            answer_pem,
            keys_sha256=ours,
            roots_pem=roots_pem,
            now=datetime.now(tz=UTC),
            name=arguments.certificate,
        )
        taken = ring.install(answer)
        facts = answer.facts
        print(f"Key {taken.describe()}: {facts.subject}, by {facts.issuer}, until {facts.valid_to:%Y-%m-%d}.")
        if taken == ring.current():
            print("It is used from recorderd's next start or reload on: systemctl reload recorderd")
        return _next_step(ring)


def _show(arguments: argparse.Namespace) -> int:
    configuration = load_recorder_configuration(arguments.config)
    now = datetime.now(tz=UTC)
    rows = (
        _ring_rows(Keyring(configuration.evidence.keys_dir), now)
        if configuration.evidence.keys_dir is not None
        else _pair_rows(configuration, now)
    )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        print(f"{row['key']}  {row['state']}, {row['kind']}, {row['where']}")
        print(f"      key          {row['key_sha256']}")
        for entry in row["certificates"]:
            by = "itself" if entry["self_signed"] else entry["issuer"]
            span = f"{entry['valid_from'][:10]} to {entry['valid_to'][:10]}"
            print(f"      certificate  {entry['sha256']}")
            print(f"                   {entry['subject']}, by {by}, {span}, {entry['days_left']} days left")
    return 0


_STEPS = {"init": _init, "csr": _csr, "install": _install, "rotate": _rotate, "show": _show}


# --- parts ------------------------------------------------------------------------------------------


def _ring(arguments: argparse.Namespace) -> tuple[RecorderConfiguration, Keyring]:
    configuration = load_recorder_configuration(arguments.config)
    if configuration.evidence.keys_dir is None:
        reason = (
            "this configuration names a key and a certificate itself; put evidence.keys_dir in their place"
        )
        raise KeyringRefused(path=arguments.config, reason=reason)
    return configuration, Keyring(configuration.evidence.keys_dir)


def _subject(arguments: argparse.Namespace, configuration: RecorderConfiguration) -> str:
    return arguments.subject or subject_of(configuration.recorder.id)


def _add(ring: Keyring, arguments: argparse.Namespace, configuration: RecorderConfiguration) -> Generation:
    key: SigningKey
    kind = KeyKind(arguments.kind)
    if arguments.token:
        key, _ = take_or_make(parse_token_uri(arguments.token), kind)
        secret = arguments.token.encode() + b"\n"
        if key_fingerprint(key.public) in [key_fingerprint(entry.public) for entry in ring.generations()]:
            reason = "this key of the token is known here already; name another object for the next one"
            raise KeyringRefused(path=ring.folder, reason=reason)
    else:
        private = make_key(kind)
        key, secret = FileKey(private), key_to_pem(private)
    certificate_pem = b""
    if arguments.self_signed:
        subject = _subject(arguments, configuration)
        certificate_pem = self_signed(key, subject=subject, valid_days=arguments.days)
    return ring.add(
        key.public, secret=secret, in_token=bool(arguments.token), certificate_pem=certificate_pem
    )


def _next_step(ring: Keyring) -> int:
    following = ring.following()
    waits = following or next(iter(ring.generations()), None)
    if waits is not None and not waits.has_certificate:
        print("Next: `recorderctl keys csr`, the authority, `recorderctl keys install`.")
    elif following is not None:
        print(
            f"Next: add {following.folder / SIGNER_NAME} to the archive's certificate_files and restart it,"
        )
        print("then `recorderctl keys rotate --finish`.")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise CertificateRefused(path=path, reason=problem.strerror) from None


def _ring_rows(ring: Keyring, now: datetime) -> list[dict[str, Any]]:
    current, following = ring.current(), ring.following()
    rows = []
    for entry in ring.generations():
        state = "retired"
        if entry == current:
            state = "in use"
        elif entry == following:
            state = "ready" if entry.has_certificate else "waits for a certificate"
        where = "token" if entry.uri else "file" if entry.key_file is not None else "destroyed"
        public = entry.public
        rows.append(
            {
                "key": entry.name,
                "state": state,
                "kind": kind_name(public),
                "where": where,
                "key_sha256": key_fingerprint(public),
                "certificates": [_certificate_row(facts, now) for facts in entry.certificates()],
            }
        )
    return rows


def _pair_rows(configuration: RecorderConfiguration, now: datetime) -> list[dict[str, Any]]:
    source = key_source(configuration.evidence)
    try:
        facts = describe_certificate(source.certificate_file.read_bytes())
    except (OSError, ValueError):
        raise CertificateRefused(path=source.certificate_file, reason="cannot be read") from None
    return [
        {
            "key": "-",
            "state": "in use",
            "kind": facts.kind,
            "where": "token" if source.uri else "file",
            "key_sha256": facts.key_sha256,
            "certificates": [_certificate_row(facts, now)],
        }
    ]


def _certificate_row(facts: CertificateFacts, now: datetime) -> dict[str, Any]:
    return {
        "subject": facts.subject,
        "issuer": facts.issuer,
        "self_signed": facts.self_signed,
        "sha256": facts.sha256,
        "valid_from": f"{facts.valid_from:%Y-%m-%dT%H:%M:%SZ}",
        "valid_to": f"{facts.valid_to:%Y-%m-%dT%H:%M:%SZ}",
        "days_left": facts.days_left(now),
    }
