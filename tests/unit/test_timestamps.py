"""Time stamps: what openssl made holds, and holds no longer when anything of it changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import algos, cms, core, tsp
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from recorderd.core.clock import NS_PER_S
from recorderd.core.errors import AuthorityUnknown, EvidenceError, TimestampInvalid
from recorderd.evidence.renewal import renewal_reasons, verify_renewals
from recorderd.evidence.timestamp import (
    TIMESTAMP_MAX_BYTES,
    accept_response,
    inspect_timestamp,
    make_request,
    verify_timestamp,
)
from recorderd.evidence.verify import TrustStore
from tests.support.signing_material import make_certificate, p256
from tests.support.tsa import (
    StampingMachine,
    openssl_ts_verify,
    p384,
    resigned,
    rsa_key,
    sha256_hex,
    stamping_certificate,
)

CONTENT = b"a signature"
DIGEST = sha256_hex(CONTENT)
KINDS: dict[str, Callable[[Path], StampingMachine]] = {
    "p256": StampingMachine,
    "p384": lambda folder: StampingMachine(folder, key=p384(), digest="sha384"),
    "intermediate": lambda folder: StampingMachine(folder, intermediate=True),
    "rsa": lambda folder: StampingMachine(folder, key=rsa_key(3072), digest="sha512"),
    "old": lambda folder: StampingMachine(folder, key=rsa_key(2048), ess="sha1"),
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> StampingMachine:
    return StampingMachine(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def tsr(machine: StampingMachine) -> bytes:
    return stamp(machine)


def stamp(machine: StampingMachine, content: bytes = CONTENT) -> bytes:
    digest = sha256_hex(content)
    answer = machine.reply(make_request(sha256_hex=digest, nonce=7))
    return accept_response(answer, sha256_hex=digest, nonce=7, trust=TrustStore([machine.root]), subject="x")[
        0
    ]


def verify(tsr: bytes, machine: StampingMachine, **how: Any) -> Any:
    how = {"sha256_hex": DIGEST, "trust": TrustStore([machine.root]), "subject": "x", **how}
    return verify_timestamp(tsr, **how)


# --- what holds ---------------------------------------------------------------------------------------


def test_openssl_reads_the_question_as_it_is_meant(tmp_path: Path) -> None:
    path = tmp_path / "q.tsq"
    path.write_bytes(make_request(sha256_hex=DIGEST, nonce=0xFEDCBA9876543210))
    text = subprocess.run(
        ["openssl", "ts", "-query", "-in", str(path), "-text"], capture_output=True, text=True, check=True
    ).stdout
    assert "Hash Algorithm: sha256" in text
    assert "Nonce: 0xFEDCBA9876543210" in text
    assert "Certificate required: yes" in text
    assert DIGEST[:32] in text.replace(" ", "").replace("-", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stamp_says_when_and_by_whom_and_openssl_agrees(tmp_path: Path, kind: str) -> None:
    machine = KINDS[kind](tmp_path / "tsa")
    tsr = stamp(machine)
    said = verify(tsr, machine)
    now_utc_ns = datetime.now(tz=UTC).timestamp() * NS_PER_S
    assert abs(said.gen_time_utc_ns - now_utc_ns) < 5 * NS_PER_S
    assert (said.authority, said.accuracy_ms, said.policy) == ("Test TSA", 1500, "1.2.3.4.1")
    assert said.certificate_ends_utc_s == machine.certificate.not_valid_after_utc.timestamp()
    weak = ("RSA of 2048 bits", "names its certificate by sha1") if kind == "old" else ()
    assert said.weaknesses == weak
    assert inspect_timestamp(tsr, sha256_hex=DIGEST, subject="x") == said
    (tmp_path / "x").write_bytes(CONTENT)
    (tmp_path / "x.tsr").write_bytes(tsr)
    assert openssl_ts_verify(tmp_path / "x.tsr", ca_file=machine.ca_file, data=tmp_path / "x")
    assert openssl_ts_verify(tmp_path / "x.tsr", ca_file=machine.ca_file, digest=DIGEST)


def test_a_stamp_outlives_its_certificate(tsr: bytes) -> None:
    root_key, key = p256(), p256()
    root = make_certificate("Root", root_key, ca=True, days=(-400, -1))
    ended = stamping_certificate("Ended", key, (root, root_key), days=(-20, -1))
    moment = datetime.now(tz=UTC) - timedelta(days=5)
    old = resigned(tsr, key, ended, content=lambda table: table.__setitem__("gen_time", moment))
    said = verify_timestamp(old, sha256_hex=DIGEST, trust=TrustStore([root]), subject="x")
    assert said.gen_time_utc_ns // NS_PER_S == int(moment.timestamp())
    assert renewal_reasons(said, now_utc_s=int(datetime.now(tz=UTC).timestamp()))


@pytest.mark.parametrize("status", ["granted", "granted_with_mods"])
def test_what_an_authority_says_around_its_token_is_not_kept(
    machine: StampingMachine, tsr: bytes, status: str
) -> None:
    answer = tsp.TimeStampResp.load(tsr)
    answer["status"] = {"status": status, "status_string": ["have a nice day"]}
    talkative = answer.dump(force=True)
    how: dict[str, Any] = {"sha256_hex": DIGEST, "trust": TrustStore([machine.root]), "subject": "x"}
    assert accept_response(talkative, nonce=7, **how)[0] == tsr
    with pytest.raises(TimestampInvalid, match="form in which stamps are kept"):
        verify_timestamp(talkative, **how)


# --- what does not ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"sha256_hex": sha256_hex(b"something else")}, "something else"),
        ({"nonce": 8}, "nonce differs"),
    ],
)
def test_a_stamp_over_something_else_or_for_somebody_else_is_refused(
    machine: StampingMachine, tsr: bytes, how: dict[str, Any], word: str
) -> None:
    verify(tsr, machine, nonce=7)
    with pytest.raises(TimestampInvalid, match=word):
        verify(tsr, machine, **how)


def test_an_authority_that_nobody_vouches_for_is_named(
    tmp_path: Path, machine: StampingMachine, tsr: bytes
) -> None:
    stranger = StampingMachine(tmp_path / "other")  # of the very same names
    for trust in (TrustStore([]), TrustStore([stranger.root])):
        with pytest.raises(AuthorityUnknown, match="Test TSA"):
            verify(tsr, machine, trust=trust)


def test_a_refusal_is_told_in_the_authoritys_words(machine: StampingMachine) -> None:
    question = tsp.TimeStampReq.load(make_request(sha256_hex=DIGEST, nonce=7))
    question["message_imprint"] = {
        "hash_algorithm": algos.DigestAlgorithm({"algorithm": "sha512"}),
        "hashed_message": bytes(64),
    }
    answer = machine.reply(question.dump(force=True))
    with pytest.raises(TimestampInvalid, match=r"refused \(rejection\).*algorithm"):
        accept_response(answer, sha256_hex=DIGEST, nonce=7, trust=TrustStore([machine.root]), subject="x")


def _drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda attributes: attributes.pop(name)


def _put(name: str, value: Any) -> Callable[[Any], None]:
    return lambda table: table.__setitem__(name, value)


CRITICAL = tsp.Extensions([{"extn_id": "1.2.3", "critical": True, "extn_value": b"x"}])
UNSIGNED = cms.CMSAttributes([cms.CMSAttribute({"type": "1.2.3.4", "values": [core.Null()]})])
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("", {}),  # re-signed as it is, it holds
    ("not of version 1", {"content": _put("version", "v2")}),
    ("critical extension", {"content": _put("extensions", CRITICAL)}),
    ("not name its certificate by hash", {"attributes": _drop("signing_certificate_v2")}),
    ("malformed", {"attributes": _drop("message_digest")}),
    ("content type is not", {"attributes": _put("content_type", cms.ContentType("data"))}),
    ("not what was signed", {"attributes": _put("message_digest", core.OctetString(bytes(32)))}),
    (
        "certificate that signed is not in it",
        {
            "attributes": _put(
                "signing_certificate_v2", tsp.SigningCertificateV2({"certs": [{"cert_hash": bytes(32)}]})
            )
        },
    ),
    ("CMS version 3", {"signed": _put("version", "v1")}),
    ("2 signers", {"signed": lambda signed: signed["signer_infos"].append(signed["signer_infos"][0])}),
    ("nobody signed", {"signed": lambda signed: _put("unsigned_attrs", UNSIGNED)(signed["signer_infos"][0])}),
    ("is not in it", {"signed": _put("certificates", [])}),
]


@pytest.mark.parametrize(("word", "change"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_well_signed_stamp_that_says_the_wrong_thing_is_refused(
    machine: StampingMachine, tsr: bytes, word: str, change: dict[str, Any]
) -> None:
    forged = resigned(tsr, machine.key, machine.certificate, **change)  # type: ignore[arg-type]
    if not word:
        assert verify(forged, machine).authority == "Test TSA"
        return
    with pytest.raises(TimestampInvalid, match=word):
        verify(forged, machine)


@pytest.mark.parametrize(
    ("word", "certificate"),
    [
        ("not for time stamping alone", {"usages": (ExtendedKeyUsageOID.CODE_SIGNING,)}),
        (
            "not for time stamping alone",
            {"usages": (ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)},
        ),
        ("critically", {"critical": False}),
        ("not valid when it stamped", {"days": (-20, -1)}),
        ("not valid when it stamped", {"days": (1, 20)}),
    ],
)
def test_a_certificate_that_may_not_stamp_now_is_refused(
    tmp_path: Path, tsr: bytes, word: str, certificate: dict[str, Any]
) -> None:
    root_key, key = p256(), p256()
    root = make_certificate("Root", root_key, ca=True, days=(-400, 400))
    leaf = stamping_certificate("Odd", key, (root, root_key), **certificate)
    forged = resigned(tsr, key, leaf)
    with pytest.raises(TimestampInvalid, match=word):
        verify_timestamp(forged, sha256_hex=DIGEST, trust=TrustStore([root]), subject="x")
    good = stamping_certificate("Good", key, (root, root_key))
    trust = TrustStore([root])
    assert verify_timestamp(resigned(tsr, key, good), sha256_hex=DIGEST, trust=trust, subject="x")


def test_a_signing_certificate_does_not_stamp(tmp_path: Path, tsr: bytes) -> None:
    key = p256()
    signer = make_certificate("A recorder", key)
    with pytest.raises(TimestampInvalid, match="not for time stamping"):
        verify_timestamp(
            resigned(tsr, key, signer), sha256_hex=DIGEST, trust=TrustStore([signer]), subject="x"
        )


@pytest.mark.parametrize(("kind", "bits"), [("p256", (0x01,)), ("intermediate", (0x80,))])
def test_every_flipped_octet_is_noticed(tmp_path: Path, kind: str, bits: tuple[int, ...]) -> None:
    machine = KINDS[kind](tmp_path)
    whole, unnoticed = stamp(machine), []
    for at in range(len(whole)):
        for bit in bits:
            changed = bytearray(whole)
            changed[at] ^= bit
            try:
                verify(bytes(changed), machine)
            except EvidenceError:
                continue
            unnoticed.append((at, bit))
    assert unnoticed == []


def test_cut_and_lengthened_stamps_are_refused(machine: StampingMachine, tsr: bytes) -> None:
    for changed in (*(tsr[:size] for size in range(0, len(tsr), 7)), tsr + b"\0", tsr + tsr):
        with pytest.raises(TimestampInvalid):
            verify(changed, machine)
    with pytest.raises(TimestampInvalid, match="longer than"):
        verify(tsr + bytes(TIMESTAMP_MAX_BYTES), machine)


def test_lengths_have_one_writing(machine: StampingMachine, tsr: bytes) -> None:
    assert tsr[:2] == b"\x30\x82"
    roundabout = b"\x30\x83\x00" + tsr[2:]
    with pytest.raises(TimestampInvalid, match="not in DER"):
        verify(roundabout, machine)


@settings(max_examples=150)
@given(st.binary(max_size=200), st.integers(0, 1000), st.integers(0, 40))
def test_any_octets_give_an_evidence_error(
    machine: StampingMachine, tsr: bytes, garbage: bytes, at: int, cut: int
) -> None:
    trust = TrustStore([machine.root])
    for raw in (garbage, tsr[:at] + garbage + tsr[at + cut :]):
        if raw == tsr:
            continue
        with pytest.raises(EvidenceError):
            verify_timestamp(raw, sha256_hex=DIGEST, trust=trust, subject="x")
        with pytest.raises(EvidenceError):
            accept_response(raw, sha256_hex=DIGEST, nonce=8, trust=trust, subject="x")


@pytest.mark.parametrize(("digest", "nonce"), [("00", 1), (DIGEST, 0), (DIGEST, 1 << 64), ("zz" * 32, 1)])
def test_a_question_about_nothing_is_not_asked(digest: str, nonce: int) -> None:
    with pytest.raises(ValueError):
        make_request(sha256_hex=digest, nonce=nonce)


# --- renewal ------------------------------------------------------------------------------------------


def test_a_renewed_stamp_holds_by_the_newer_authority(tmp_path: Path, machine: StampingMachine) -> None:
    newer = StampingMachine(tmp_path / "newer", name="Newer TSA", days=(-1, 3000))
    first = stamp(machine)
    second = stamp(newer, first)
    trust = TrustStore([machine.root, newer.root])
    said = verify_renewals([first, second], sha256_hex=DIGEST, trust=trust, subject="x")
    assert [entry.authority for entry in said] == ["Test TSA", "Newer TSA"]
    for wrong in ([second, first], [first, stamp(newer, second)], [], [first] * 17):
        with pytest.raises(TimestampInvalid):
            verify_renewals(wrong, sha256_hex=DIGEST, trust=trust, subject="x")
    (tmp_path / "x.tsr").write_bytes(first)
    (tmp_path / "x.tsr.tsr").write_bytes(second)
    assert openssl_ts_verify(tmp_path / "x.tsr.tsr", ca_file=newer.ca_file, data=tmp_path / "x.tsr")


def test_a_renewal_that_came_too_late_or_too_early_does_not_hold(
    tmp_path: Path, machine: StampingMachine, tsr: bytes
) -> None:
    root_key, key = p256(), p256()
    root = make_certificate("Root", root_key, ca=True, days=(-400, 4000))
    long = stamping_certificate("Long", key, (root, root_key), days=(-400, 4000))
    trust = TrustStore([machine.root, root])
    first = stamp(machine)
    renewal = stamp(machine, first)  # of the right imprint, to be re-signed with another time
    for days, word in ((31, "had expired"), (-2, "is older")):
        moment = datetime.fromtimestamp(datetime.now(tz=UTC).timestamp() + days * 86_400, tz=UTC)
        moved = resigned(renewal, key, long, content=_put("gen_time", moment))
        with pytest.raises(TimestampInvalid, match=word):
            verify_renewals([first, moved], sha256_hex=DIGEST, trust=trust, subject="x")


def test_what_ends_soon_or_grows_weak_is_due(tmp_path: Path, machine: StampingMachine, tsr: bytes) -> None:
    said = verify(tsr, machine)
    day_s, ends_utc_s = 86_400, said.certificate_ends_utc_s
    assert renewal_reasons(said, now_utc_s=ends_utc_s - 91 * day_s) == ()
    assert renewal_reasons(said, now_utc_s=ends_utc_s - 10 * day_s) == ("its certificate ends in 10 days",)
    assert "too late" in renewal_reasons(said, now_utc_s=ends_utc_s + 1)[0]
    old = KINDS["old"](tmp_path)
    reasons = renewal_reasons(verify(stamp(old), old), now_utc_s=0)
    assert reasons == ("weak: RSA of 2048 bits", "weak: names its certificate by sha1")
