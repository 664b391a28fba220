"""recorderctl keys: made here, certified by an authority that is openssl, changed, and never overwritten."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recorderd.app.keyring import Keyring
from recorderd.app.quickstart import Ports, quickstart
from recorderd.app.recorder_configuration import load_recorder_configuration
from recorderd.app.recorderctl import main
from recorderd.app.recorderd import main as recorderd_main
from recorderd.app.signing import key_source
from recorderd.evidence.digest import sha256_bytes
from recorderd.evidence.verify import TrustStore, verify_detached
from tests.support.signing_material import openssl_accepts

CONTENT = b"RIFF....WAVE" * 100
EXTENSIONS = "keyUsage=critical,digitalSignature\nbasicConstraints=CA:FALSE\n"
NOBODY = 65534


@dataclass(kw_only=True)
class Desk:
    """A recorder's configuration with a folder of keys, and an authority with a root and one below it."""

    folder: Path
    toml: Path
    capsys: pytest.CaptureFixture[str]

    def keys(self, *words: str | Path) -> tuple[int, str]:
        """Run recorderctl keys; its exit code and what it said."""
        code = main(["keys", str(words[0]), "--config", str(self.toml), *map(str, words[1:])])
        told = self.capsys.readouterr()
        return code, told.out + told.err

    def done(self, *words: str | Path) -> str:
        """Run it; it must do its work."""
        code, told = self.keys(*words)
        assert code == 0, told
        return told

    def shown(self) -> list[dict[str, Any]]:
        """What `keys show --json` tells."""
        rows: list[dict[str, Any]] = json.loads(self.done("show", "--json"))
        return rows

    @property
    def ring(self) -> Keyring:
        """The folder as recorderd reads it."""
        return Keyring(self.folder / "ring")

    def openssl(self, *words: str | Path) -> None:
        """Run openssl where the authority's files are."""
        subprocess.run(["openssl", *map(str, words)], cwd=self.folder, check=True, capture_output=True)

    def found_authority(self, name: str, *, above: str = "", days: int = 300) -> None:
        """Make NAME.pem and NAME.key."""
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        extensions = self.folder / f"{name}.ext"
        extensions.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
        signing = ("-CA", f"{above}.pem", "-CAkey", f"{above}.key") if above else ("-key", f"{name}.key")
        self.openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-days", str(days),
                     "-extfile", extensions, "-out", f"{name}.pem")  # fmt: skip

    def certify(
        self, answer: str, *, by: str = "middle", days: int = 90, extensions: str = EXTENSIONS
    ) -> Path:
        """Answer the request that the recorder writes: its certificate alone."""
        request = self.folder / "request.pem"
        request.unlink(missing_ok=True)
        self.done("csr", "--out", request)
        (self.folder / "leaf.ext").write_text(extensions)
        self.openssl("x509", "-req", "-in", request, "-CA", f"{by}.pem", "-CAkey", f"{by}.key",
                     "-days", str(days), "-extfile", "leaf.ext", "-out", answer)  # fmt: skip
        return self.folder / answer

    def bundle(self, name: str, *parts: str) -> Path:
        """Put several files into one."""
        path = self.folder / name
        path.write_bytes(b"".join((self.folder / part).read_bytes() for part in parts))
        return path

    def signature(self) -> tuple[bytes, bytes]:
        """Sign as recorderd does after a start: the signature, and the certificate beside it."""
        signer = key_source(load_recorder_configuration(self.toml).evidence).open()
        return signer.sign_bytes(CONTENT, signing_time_utc_s=int(time.time())), signer.certificate_pem


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    list(quickstart(tmp_path / "setup", Ports(sip=5060, archive=5555, rtp_min=30_000, rtp_max=30_100)))
    toml = tmp_path / "setup" / "recorderd.toml"
    text = toml.read_text()
    pair = 'key_file = "keys/signing-key.pem"\ncertificate_file = "keys/signing-cert.pem"\n'
    assert pair in text
    toml.write_text(text.replace(pair, f'keys_dir = "{tmp_path}/ring"\n'))
    capsys.readouterr()
    return Desk(folder=tmp_path, toml=toml, capsys=capsys)


@pytest.fixture
def authority(desk: Desk) -> Desk:
    desk.found_authority("root")
    desk.found_authority("middle", above="root")
    return desk


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-3072"])
def test_a_key_made_here_and_certified_by_an_authority_signs_what_openssl_verifies(
    authority: Desk, kind: str
) -> None:
    assert "Next: `recorderctl keys csr`" in authority.done("init", "--kind", kind)
    authority.certify("leaf.pem")
    told = authority.done("install", authority.bundle("answer.pem", "root.pem", "middle.pem", "leaf.pem"))
    assert "CN=recorder-1, by CN=middle" in told
    signature, certificate_pem = authority.signature()
    assert openssl_accepts(authority.folder, signature, CONTENT, (authority.folder / "root.pem").read_bytes())
    assert certificate_pem.count(b"BEGIN CERTIFICATE") == 2
    alone = TrustStore.from_pem((authority.folder / "ring" / "0001" / "signer.pem").read_bytes())
    assert len(alone.certificates) == 1
    verify_detached(signature, sha256_hex=sha256_bytes(CONTENT), trust=alone, subject="x")
    (row,) = authority.shown()
    assert (row["kind"], row["state"], row["where"]) == (kind, "in use", "file")
    assert row["certificates"][0]["days_left"] == 89


def test_a_key_may_vouch_for_itself_at_first(desk: Desk) -> None:
    desk.done("init", "--self-signed", "--days", "40", "--subject", "CN=rec,O=Bank")
    signature, certificate_pem = desk.signature()
    assert openssl_accepts(desk.folder, signature, CONTENT, certificate_pem)
    (row,) = desk.shown()
    (certificate,) = row["certificates"]
    assert (certificate["subject"], certificate["self_signed"], certificate["days_left"]) == (
        "CN=rec,O=Bank", True, 39,
    )  # fmt: skip


def test_show_tells_fingerprints_as_openssl_gives_them_and_nothing_of_the_key(desk: Desk) -> None:
    desk.done("init", "--self-signed")
    told = desk.done("show")
    command = ["openssl", "x509", "-in", "ring/0001/certificate.pem", "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run(command, cwd=desk.folder, capture_output=True, text=True, check=True).stdout
    assert printed.strip().partition("=")[2].replace(":", "").lower() in told
    assert ", 3649 days left" in told
    secret = (desk.folder / "ring" / "0001" / "key.pem").read_text().splitlines()[1]
    assert secret[:16] not in told
    assert stat.S_IMODE((desk.folder / "ring" / "0001" / "key.pem").stat().st_mode) == 0o600


def test_a_second_init_changes_nothing(desk: Desk) -> None:
    desk.done("init")
    before = (desk.folder / "ring" / "0001" / "key.pem").read_bytes()
    assert "There is a key already: 0001 (P-256" in desk.done("init", "--kind", "RSA-3072")
    assert (desk.folder / "ring" / "0001" / "key.pem").read_bytes() == before
    assert [entry.name for entry in desk.ring.generations()] == ["0001"]


def test_the_key_in_use_goes_on_until_the_next_one_is_let_to_sign(authority: Desk) -> None:
    authority.done("init", "--self-signed")
    first, first_pem = authority.signature()
    authority.done("rotate", "--kind", "P-384")
    assert [row["state"] for row in authority.shown()] == ["in use", "waits for a certificate"]
    code, told = authority.keys("rotate", "--finish")
    assert (code, "has no certificate yet" in told) == (65, True)
    authority.certify("leaf.pem")
    authority.done("install", authority.bundle("answer.pem", "leaf.pem", "middle.pem"), "--ca",
                   authority.folder / "root.pem")  # fmt: skip
    assert [row["state"] for row in authority.shown()] == ["in use", "ready"]
    assert authority.signature()[1] == first_pem
    authority.done("rotate", "--finish")
    assert [row["state"] for row in authority.shown()] == ["retired", "in use"]
    second, second_pem = authority.signature()
    assert second_pem != first_pem
    assert openssl_accepts(authority.folder, second, CONTENT, (authority.folder / "root.pem").read_bytes())
    assert openssl_accepts(authority.folder, first, CONTENT, first_pem)
    kept = authority.folder / "ring" / "0001" / "certificate.pem"
    assert kept.read_bytes() == first_pem
    assert "signs already" in authority.done("rotate", "--finish")
    (authority.folder / "ring" / "0001" / "key.pem").unlink()
    assert [row["where"] for row in authority.shown()] == ["destroyed", "file"]


def test_a_second_rotate_makes_no_second_key(desk: Desk) -> None:
    desk.done("init", "--self-signed")
    desk.done("rotate", "--self-signed")
    assert "A key waits to be used already: 0002" in desk.done("rotate")
    assert len(desk.ring.generations()) == 2


def test_a_renewed_certificate_of_the_same_key_takes_the_older_ones_place_which_is_kept(
    authority: Desk,
) -> None:
    authority.done("init")
    authority.certify("first.pem", days=10)
    authority.done("install", authority.bundle("answer.pem", "first.pem", "middle.pem", "root.pem"))
    authority.certify("second.pem", days=200)
    for _ in range(2):
        told = authority.done(
            "install", authority.bundle("answer.pem", "second.pem", "middle.pem", "root.pem")
        )
        assert "systemctl reload recorderd" in told
    (row,) = authority.shown()
    assert [entry["days_left"] for entry in row["certificates"]] == [199, 9]
    signature, _ = authority.signature()
    assert openssl_accepts(authority.folder, signature, CONTENT, (authority.folder / "root.pem").read_bytes())


def _of_another_key(desk: Desk) -> Path:
    desk.found_authority("stranger")
    return desk.folder / "stranger.pem"


def _without_the_middle(desk: Desk) -> Path:
    desk.certify("leaf.pem")
    return desk.bundle("answer.pem", "leaf.pem", "root.pem")


def _without_the_root(desk: Desk) -> Path:
    desk.certify("leaf.pem")
    return desk.bundle("answer.pem", "leaf.pem", "middle.pem")


def _by_one_who_may_not(desk: Desk) -> Path:
    desk.found_authority("plain", above="root")
    (desk.folder / "plain.ext").write_text("basicConstraints=CA:FALSE\n")
    desk.openssl("x509", "-req", "-in", "plain.csr", "-CA", "root.pem", "-CAkey", "root.key",
                 "-extfile", "plain.ext", "-days", "9", "-out", "plain.pem")  # fmt: skip
    desk.certify("leaf.pem", by="plain")
    return desk.bundle("answer.pem", "leaf.pem", "plain.pem", "root.pem")


def _not_for_signing(desk: Desk) -> Path:
    desk.certify("leaf.pem", extensions="keyUsage=critical,keyEncipherment\n")
    return desk.bundle("answer.pem", "leaf.pem", "middle.pem", "root.pem")


def _expired(desk: Desk) -> Path:
    desk.done("csr", "--out", desk.folder / "request.pem")
    (desk.folder / "index").touch()
    (desk.folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\n"
        "policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nkeyUsage=digitalSignature\n"
    )
    desk.openssl("ca", "-batch", "-config", "ca.cnf", "-cert", "middle.pem", "-keyfile", "middle.key",
                 "-startdate", "20200101000000Z", "-enddate", "20210101000000Z",
                 "-in", "request.pem", "-out", "leaf.pem")  # fmt: skip
    return desk.bundle("answer.pem", "leaf.pem", "middle.pem", "root.pem")


def _rubbish(desk: Desk) -> Path:
    (desk.folder / "answer.pem").write_bytes(b"no certificate")
    return desk.folder / "answer.pem"


def _nothing(desk: Desk) -> Path:
    return desk.folder / "none.pem"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_of_another_key, "is for another key than"),
        (_without_the_middle, "leads to no root: the issuer CN=middle is missing"),
        (_without_the_root, "leads to no root: the issuer CN=root is missing"),
        (_by_one_who_may_not, "leads to no root: the issuer CN=plain is missing, or may not issue"),
        (_not_for_signing, "its key usage permits neither digitalSignature nor nonRepudiation"),
        (_expired, "is valid from 2020-01-01 to 2021-01-01; today is"),
        (_rubbish, "holds no certificates in PEM"),
        (_nothing, "No such file"),
    ],
)
def test_an_answer_that_will_not_do_is_refused_and_changes_nothing(
    authority: Desk, answer: Callable[[Desk], Path], reason: str
) -> None:
    authority.done("init")
    path = answer(authority)
    code, told = authority.keys("install", path)
    assert code == 65
    assert reason in told
    assert not (authority.folder / "ring" / "0001" / "certificate.pem").exists()


def test_a_root_that_is_not_among_the_given_ones_does_not_count(authority: Desk) -> None:
    authority.done("init")
    authority.found_authority("stranger")
    authority.certify("leaf.pem")
    answer = authority.bundle("answer.pem", "leaf.pem", "middle.pem", "root.pem")
    code, told = authority.keys("install", answer, "--ca", authority.folder / "stranger.pem")
    assert code == 65
    assert "does not lead to a root in --ca: the issuer CN=root is missing there" in told


def test_a_certificate_for_a_retired_key_is_refused(authority: Desk) -> None:
    authority.done("init")
    authority.certify("leaf.pem")
    answer = authority.bundle("answer.pem", "leaf.pem", "middle.pem", "root.pem")
    authority.done("install", answer)
    authority.done("rotate", "--self-signed")
    authority.done("rotate", "--finish")
    code, told = authority.keys("install", answer)
    assert (code, "is for a key that is no longer in use" in told) == (65, True)


def test_steps_out_of_order_say_what_comes_first(desk: Desk) -> None:
    for step in (["csr"], ["rotate"], ["install", desk.toml]):
        code, told = desk.keys(*step)
        assert code == 65
        assert "begin with init" in told
    desk.done("init")
    (desk.folder / "there").write_text("mine")
    code, _ = desk.keys("csr", "--out", desk.folder / "there")
    assert (code, (desk.folder / "there").read_text()) == (73, "mine")
    code, told = desk.keys("csr", "--subject", "no name")
    assert (code, "is no name as RFC 4514 writes it" in told) == (65, True)


def test_a_configuration_that_names_the_pair_itself_is_shown_and_left_alone(desk: Desk) -> None:
    text = desk.toml.read_text()
    pair = 'key_file = "keys/signing-key.pem"\ncertificate_file = "keys/signing-cert.pem"\n'
    desk.toml.write_text(text.replace(f'keys_dir = "{desk.folder}/ring"\n', pair))
    (row,) = desk.shown()
    assert (row["state"], row["where"], row["kind"]) == ("in use", "file", "P-256")
    code, told = desk.keys("init")
    assert (code, "put evidence.keys_dir in their place" in told) == (65, True)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("", "evidence.certificate_file: missing"),
        ('certificate_file = "c"', "evidence.key_file: missing; give one"),
        ('certificate_file = "c"\nkey_file = "k"\nkey = "URI"', "evidence.key_file: both are given"),
        ('keys_dir = "d"\nkey_file = "k"', "evidence.key_file: goes with keys_dir"),
        ('certificate_file = "c"\nkey = "pkcs11:token=x"', "evidence.key: 'pkcs11:token=x' is not right"),
    ],
)
def test_a_key_is_configured_once(desk: Desk, lines: str, reason: str) -> None:
    uri = "pkcs11:token=x;object=y?module-path=/l.so&pin-source=/p"
    text = desk.toml.read_text().replace(f'keys_dir = "{desk.folder}/ring"', lines.replace("URI", uri))
    desk.toml.write_text(text)
    code, told = desk.keys("show")
    assert code == 78
    assert reason in told


def test_a_folder_without_a_key_that_is_ready_ends_the_start(desk: Desk) -> None:
    for prepare, reason in (
        (lambda: None, "holds no key that is ready to sign; `recorderctl keys init` makes one"),
        (lambda: desk.done("init"), "holds no key that is ready to sign"),
        (lambda: (desk.folder / "ring" / "current").write_text("0007\n"), "names '0007', which is not there"),
    ):
        prepare()
        code = recorderd_main(["check-config", "--config", str(desk.toml)])
        assert (code, reason in desk.capsys.readouterr().err) == (78, True)


class PowerCut(BaseException):
    """The machine is off."""


def _cut_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Let so many of the calls through that change or sync something, and no more."""
    left = [calls]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if left[0] == 0:
                raise PowerCut
            left[0] -= 1
            return real(*arguments, **named)

        return call

    for name in ("fsync", "rename", "mkdir", "write", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def _prepare_nothing(desk: Desk) -> None:
    pass


def _prepare_key(desk: Desk) -> None:
    desk.done("init")
    desk.certify("leaf.pem")
    desk.bundle("answer.pem", "leaf.pem", "middle.pem", "root.pem")


def _prepare_renewal(desk: Desk) -> None:
    desk.done("init", "--self-signed")
    desk.certify("leaf.pem")
    desk.bundle("answer.pem", "leaf.pem", "middle.pem", "root.pem")


def _prepare_first(desk: Desk) -> None:
    desk.done("init", "--self-signed")


def _prepare_second(desk: Desk) -> None:
    desk.done("init", "--self-signed")
    desk.done("rotate", "--self-signed")


@pytest.mark.parametrize(
    ("prepare", "command", "states"),
    [
        (_prepare_nothing, ["init", "--self-signed"], ["in use"]),
        (_prepare_key, ["install", "answer.pem"], ["in use"]),
        (_prepare_renewal, ["install", "answer.pem"], ["in use"]),
        (_prepare_first, ["rotate", "--self-signed"], ["in use", "ready"]),
        (_prepare_second, ["rotate", "--finish"], ["retired", "in use"]),
    ],
    ids=["init", "install", "renew", "rotate", "finish"],
)
def test_a_command_cut_anywhere_loses_no_key_and_is_done_when_it_is_given_again(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    authority: Desk,
    prepare: Callable[[Desk], None],
    command: list[str],
    states: list[str],
) -> None:
    prepare(authority)
    words = [authority.folder / word if word.endswith(".pem") else word for word in command]
    ring = authority.folder / "ring"
    before = {path: path.read_bytes() for path in ring.rglob("key.pem")}
    start = subprocess.run(["tar", "-C", ring, "-cf", "-", "."], capture_output=True, check=False).stdout
    for calls in range(200):
        subprocess.run(["rm", "-rf", ring], check=True)
        if before:
            ring.mkdir()
            subprocess.run(["tar", "-C", ring, "-xf", "-"], input=start, check=True)
        with pytest.MonkeyPatch.context() as patch:
            _cut_after(patch, calls)
            try:
                authority.keys(*words)
                ended = True
            except PowerCut:
                ended = False
        capsys.readouterr()
        if before and authority.ring.current() is not None:
            authority.signature()  # a start in between finds a pair that fits
        told = authority.done(*words)
        assert [row["state"] for row in authority.shown()] == states, (calls, told)
        assert all(path.read_bytes() == content for path, content in before.items())
        authority.signature()
        if ended:
            assert calls > 3
            return
    raise AssertionError("never came to its end")


def test_what_root_makes_belongs_to_the_folders_owner(desk: Desk) -> None:
    owner = NOBODY if os.geteuid() == 0 else os.geteuid()  # who is not root can only be himself
    ring = desk.folder / "ring"
    ring.mkdir()
    os.chown(ring, owner, -1)
    for folder in (desk.folder, *desk.folder.parents):
        if folder.stat().st_uid == 0 and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    desk.done("init", "--self-signed")
    desk.done("rotate", "--self-signed")
    desk.done("rotate", "--finish")
    made = list(ring.rglob("*"))
    assert len(made) >= 9
    assert {path.stat().st_uid for path in made} == {owner}
    assert os.geteuid() in (0, owner)
