"""Configuration: all problems at once, each with its key and what would be right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recorderd.app.archive_configuration import ArchiveConfiguration, load_archive_configuration
from recorderd.app.recorder_configuration import (
    RecorderConfiguration,
    RtpSource,
    Skew,
    load_recorder_configuration,
)
from recorderd.core.errors import ConfigurationError
from recorderd.core.prompts import Prompt
from recorderd.evidence.keys import create_self_signed
from recorderd.policy.rules import Direction
from tests.support.free_ports import free_port
from tests.support.house import run_program
from tests.support.option_reference import option_rows
from tests.support.programs import ROOT

GOOD = """
[recorder]
id = "r1"
state_dir = "state"
run_dir = "run"
[evidence]
key_file = "k"
certificate_file = "c"
[spool]
dir = "/spool"
[archive]
endpoint = "tcp://127.0.0.1:5555"
server_public_key = "0123456789012345678901234567890123456789"
secret_key_file = "s"
receipt_certificate_file = "rc"
"""


REGISTRATION = """[sip.registration]
registrar = "pbx"
user = "rec"
password_file = "pw"
[spool]"""
STAMPS = """
[timestamps]
[[timestamps.authorities]]
url = "https://tsa.example.net/tsr"
ca_file = "root.pem"
user = "bank"
password_file = "tsa.secret"
"""


def _load(folder: Path, text: str) -> RecorderConfiguration:
    path = folder / "recorderd.toml"
    path.write_text(text)
    return load_recorder_configuration(path)


def test_defaults_fill_what_is_not_said_and_paths_start_at_the_file(tmp_path: Path) -> None:
    configuration = _load(tmp_path, GOOD)
    assert configuration.recorder.state_dir == tmp_path / "state"
    assert configuration.spool.dir == Path("/spool")
    assert configuration.sip.leg_headers.call_id == "X-Call-ID"
    assert configuration.sip.registration is None
    assert (configuration.rtp.source, configuration.record.skew) == (RtpSource.ANY, Skew.SILENCE)
    assert configuration.record.skew_threshold_ms == 5


def test_time_stamps_are_off_unless_named_and_have_defaults(tmp_path: Path) -> None:
    assert _load(tmp_path, GOOD).timestamps is None
    timestamps = _load(tmp_path, GOOD + STAMPS).timestamps
    assert timestamps is not None
    assert (timestamps.wait_s, timestamps.batch_s) == (60, 3600)
    assert timestamps.authorities[0].ca_file == tmp_path / "root.pem"


@pytest.mark.parametrize(
    ("change", "key", "word"),
    [
        (('url = "https:', 'url = "ftp:'), "authorities[0].url", "https://HOST"),
        (("tsa.example.net", "user:pass@tsa.example.net"), "authorities[0].url", "keys of their own"),
        (('url = "https:', 'url = "http:'), "authorities[0].url", "use https"),
        (('user = "bank"', ""), "authorities[0].user", "both"),
        (('password_file = "tsa.secret"', ""), "authorities[0].user", "both"),
        (("[timestamps]", "[timestamps]\nbatch_s = 1"), "timestamps.batch_s", "from 10"),
        ((STAMPS, "[timestamps]\nauthorities = []"), "timestamps.authorities", "at least one"),
        ((STAMPS, "[timestamps]"), "timestamps.authorities", "missing"),
    ],
)
def test_problems_of_time_stamps_name_the_authority(
    tmp_path: Path, change: tuple[str, str], key: str, word: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, GOOD + STAMPS.replace(*change))
    line = next(line for line in str(caught.value).splitlines() if key in line)
    assert word in line


def test_whose_rtp_is_taken_and_what_becomes_of_skew_can_be_chosen(tmp_path: Path) -> None:
    chosen = '[rtp]\nsource = "strict"\n[record]\nskew = "resample"\nskew_threshold_ms = 20\n[spool]'
    configuration = _load(tmp_path, GOOD.replace("[spool]", chosen))
    assert configuration.rtp.source is RtpSource.STRICT
    assert (configuration.record.skew, configuration.record.skew_threshold_ms) == (Skew.RESAMPLE, 20)


@pytest.mark.parametrize(
    ("change", "key", "word"),
    [
        (('id = "r1"', 'id = "r 1"'), "recorder.id", "letters"),
        (('id = "r1"', "id = 7"), "recorder.id", "string"),
        (("[evidence]", "odd = 1\n[evidence]"), "recorder.odd", "known here"),
        (('key_file = "k"', ""), "evidence.key_file", "missing"),
        (("5555", "x"), "archive.endpoint", "tcp://HOST:PORT"),
        (("5555", "99999"), "archive.endpoint", "65535"),
        (("[archive]", "[archive]\nfurther_endpoints = [5]"), "archive.further_endpoints[0]", "string"),
        (("[spool]", '[spool]\nalarm_hours = ["24"]'), "spool.alarm_hours[0]", "int"),
        (("[evidence]", '[evidence]\nentries = ["x", 5]'), "evidence.entries[1]", "string"),
        (("[spool]", "[spool]\nquota_bytes = 5"), "spool.quota_bytes", "at least"),
        (("[spool]", "[rtp]\nport_min = 4001\n[spool]"), "rtp.port_min", "even"),
        (("[spool]", f"[rtp]\nreceive_buffer_bytes = {1 << 31}\n[spool]"), "rtp.receive_buffer_bytes", "to"),
        (("[spool]", '[sip]\nallow_from = ["everyone"]\n[spool]'), "sip.allow_from", "networks"),
        (("[spool]", '[rtp]\nsource = "some"\n[spool]'), "rtp.source", "learn"),
        (("[spool]", '[record]\nfile_name = "../{id}"\n[spool]'), "record.file_name", "hyphens"),
        (("[spool]", '[record]\nfile_name = "%Y-{from}"\n[spool]'), "record.file_name", "-{id}"),
        (("[spool]", '[record]\nfile_name = "{who}-{id}"\n[spool]'), "record.file_name", "extension"),
        (("[spool]", '[record]\nfile_name_time = "mars"\n[spool]'), "record.file_name_time", "local"),
        (("[spool]", "[clock]\noffset_limit_ms = 0\n[spool]"), "clock.offset_limit_ms", "from 1"),
        (("[spool]", '[record]\nskew = "on"\n[spool]'), "record.skew", "resample"),
        (("[spool]", "[record]\nskew_threshold_ms = 0\n[spool]"), "record.skew_threshold_ms", "from 1"),
        (("[spool]", "[sip]\nudp_port = 0\ntcp_port = 0\n[spool]"), "sip", "at least one"),
        (("[spool]", "[sip]\ntls_port = 5061\n[spool]"), "sip.tls", "certificate_file"),
        (("[spool]", '[sip]\naddress = "::1"\n[spool]'), "sip.address", "IPv4"),
        (("[spool]", '[rtp]\naddress = "0.0.0.0"\n[spool]'), "rtp.address", "clients reach"),
        (("[spool]", '[rtp]\naddress = "::"\n[spool]'), "rtp.address", "clients reach"),
        (("[spool]", '[log]\nlevel = "loud"\n[spool]'), "log.level", "choose one of"),
        (("[spool]", '[sip.registration]\nuser = "x"\n[spool]'), "sip.registration.registrar", "missing"),
        (("[spool]", REGISTRATION.replace("pbx", "sip:pbx")), "sip.registration.registrar", "HOST:PORT"),
        (("[spool]", REGISTRATION.replace("pbx", "pbx:99999")), "sip.registration.registrar", "HOST:PORT"),
        (("[spool]", REGISTRATION.replace("rec", "rec@pbx")), "sip.registration.user", "without a host"),
    ],
)
def test_each_problem_names_its_key_and_the_remedy(
    tmp_path: Path, change: tuple[str, str], key: str, word: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, GOOD.replace(*change))
    line = next(line for line in str(caught.value).splitlines() if line.strip().startswith(f"{key}:"))
    assert word in line


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    text = GOOD.replace('id = "r1"', 'id = "r 1"').replace("5555", "x").replace("[spool]", "[spool]\nx = 1")
    with pytest.raises(ConfigurationError, match="3 problem"):
        _load(tmp_path, text)


@pytest.mark.parametrize("program", ["recorderd", "flush", "archive"])
def test_programs_refuse_a_bad_configuration_with_exit_78(tmp_path: Path, program: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[recorder]\nid = 5\n")
    ended = run_program(program, "check-config", "--config", path, check=False)
    assert ended.returncode == 78
    assert "hint:" in ended.stderr
    missing = run_program(program, "check-config", "--config", tmp_path / "none.toml", check=False)
    assert missing.returncode == 78


def test_check_config_of_a_quickstart_is_good_and_quickstart_never_overwrites(tmp_path: Path) -> None:
    run_program("recorderctl", "quickstart", tmp_path / "q")
    for program, name in (("recorderd", "recorderd"), ("flush", "recorderd"), ("archive", "archive")):
        ended = run_program(program, "check-config", "--config", tmp_path / "q" / f"{name}.toml")
        assert ended.returncode == 0
    key = (tmp_path / "q" / "keys" / "signing-key.pem").read_bytes()
    again = run_program("recorderctl", "quickstart", tmp_path / "q")
    assert "nothing was changed" in again.stdout
    assert (tmp_path / "q" / "keys" / "signing-key.pem").read_bytes() == key


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("[evidence]\nentries = [true, 'refused_capacity']", "evidence.entries[0]"),
        ("[archive]\nfurther_endpoints = [5555]", "archive.further_endpoints[0]"),
    ],
)
def test_a_wrong_type_within_a_list_is_a_problem_like_any_other(
    tmp_path: Path, section: str, key: str
) -> None:
    head, _, rest = section.partition("\n")
    with pytest.raises(ConfigurationError, match=re.escape(f"{key}: is of type")):
        _load(tmp_path, GOOD.replace(head, f"{head}\n{rest}"))


@pytest.mark.parametrize(
    "line",
    [
        'key = "pkcs11:token=recorder;object=signing?module-path=/x.so&pin-value=hush"',
        'key = "pkcs11:token=recorder?PIN-VALUE=hush;x"',
    ],
)
def test_a_pin_that_does_not_belong_there_is_not_told_on(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigurationError, match=r"evidence\.key") as caught:
        _load(tmp_path, GOOD.replace('key_file = "k"', line))
    assert "hush" not in str(caught.value)
    assert "token=recorder" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgres://bank:hush@db.example/archive",
        "postgres://bank:hu/hush@db.example/archive",
        "postgres://bank:hu hush@db.example/archive",
        "postgres://db.example/archive?user=bank&password=hush",
    ],
)
def test_a_password_in_an_address_is_not_told_on(tmp_path: Path, url: str) -> None:
    path = tmp_path / "archive.toml"
    path.write_text(f"[catalogue]\nurl = '{url}'\n")
    with pytest.raises(ConfigurationError, match=r"catalogue\.url") as caught:
        load_archive_configuration(path)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("broken", ["certificate_file", "key_file", "ca_file"])
def test_what_tls_cannot_use_stops_the_start_and_check_config_says_so(tmp_path: Path, broken: str) -> None:
    run_program("recorderctl", "quickstart", tmp_path)
    path, keys = tmp_path / "recorderd.toml", tmp_path / "keys"
    files = {
        "certificate_file": keys / "signing-cert.pem",
        "key_file": keys / "signing-key.pem",
        "ca_file": keys / "signing-cert.pem",
    }
    text = path.read_text().replace("udp_port", f"tls_port = {free_port()}\nudp_port")
    for wrong, code in ({}, 0), ({broken: keys / "none.pem"}, 78), ({broken: path}, 78):
        told = "".join(f"{name} = '{file}'\n" for name, file in (files | wrong).items())
        path.write_text(f"{text}\n[sip.tls]\n{told}")
        for command in ("check-config", "serve") if code else ("check-config",):
            ended = run_program("recorderd", command, "--config", path, check=False)
            assert ended.returncode == code, (wrong, ended.stderr)
            assert not code or any(str(file) in ended.stderr for file in (files | wrong).values())


def test_an_open_key_file_stops_the_start(tmp_path: Path) -> None:
    run_program("recorderctl", "quickstart", tmp_path)
    (tmp_path / "keys" / "signing-key.pem").chmod(0o644)
    ended = run_program("recorderd", "--config", tmp_path / "recorderd.toml", check=False)
    assert ended.returncode == 78
    assert "644" in ended.stderr


@pytest.mark.parametrize(
    ("program", "name", "trusted"),
    [("flush", "recorderd", "keys/receipt-cert.pem"), ("archive", "archive", "keys/signing-cert.pem")],
)
def test_a_trusted_certificate_that_is_none_is_told_by_its_path_and_ends_with_78(
    tmp_path: Path, program: str, name: str, trusted: str
) -> None:
    run_program("recorderctl", "quickstart", tmp_path)
    (tmp_path / "der.crt").write_bytes(b"\x30\x82 no PEM")
    path = tmp_path / f"{name}.toml"
    path.write_text(path.read_text().replace(trusted, "der.crt"))
    ended = run_program(program, "check-config", "--config", path, check=False)
    assert ended.returncode == 78
    assert "der.crt" in ended.stderr
    assert "Name a file that is there" in ended.stderr


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("sip.pem", "none.pem"), "none.pem"),
        (("sip.key", "none.key"), "none.key"),
        (("sip.key", "receipt-key.pem"), "MISMATCH"),
        (("sip.key", "open.key"), "644"),
        (("[rtp]", 'ca_file = "keys/none.pem"\n[rtp]'), "none.pem"),
    ],
)
def test_files_of_sip_over_tls_that_no_call_could_be_taken_with_stop_the_start(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    run_program("recorderctl", "quickstart", tmp_path)
    for name, mode in (("sip", 0o600), ("open", 0o644)):
        key, certificate = create_self_signed(common_name="recorder.example")
        (tmp_path / "keys" / f"{name}.pem").write_bytes(certificate)
        (tmp_path / "keys" / f"{name}.key").write_bytes(key)
        (tmp_path / "keys" / f"{name}.key").chmod(mode)
    path = tmp_path / "recorderd.toml"
    tls = '[sip.tls]\ncertificate_file = "keys/sip.pem"\nkey_file = "keys/sip.key"\n[rtp]'
    path.write_text(path.read_text().replace("[rtp]", tls))
    assert run_program("recorderd", "check-config", "--config", path).returncode == 0
    path.write_text(path.read_text().replace(*change))
    ended = run_program("recorderd", "--config", path, check=False)
    assert ended.returncode == 78
    assert reason in ended.stderr
    assert "hint:" in ended.stderr


def test_a_sip_port_that_is_taken_is_said_plainly(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        run_program("recorderctl", "quickstart", tmp_path, "--sip-port", str(port))
        ended = run_program("recorderd", "--config", tmp_path / "recorderd.toml", check=False)
    assert ended.returncode == 69
    assert str(port) in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["--sip-port", "99999"], ["--rtp-ports", "5-4"], ["--rtp-ports", "many"]]
)
def test_quickstart_refuses_ports_that_are_none(tmp_path: Path, arguments: list[str]) -> None:
    ended = run_program("recorderctl", "quickstart", tmp_path, *arguments, check=False)
    assert ended.returncode in (64, 78)
    assert arguments[0] in ended.stderr
    assert not (tmp_path / "archive.toml").exists()


@pytest.mark.parametrize("name", ["asterisk", "siprec", "rules"])
def test_the_examples_are_good(name: str) -> None:
    configuration = load_recorder_configuration(ROOT / "config" / f"{name}.toml")
    assert configuration.recorder.id == "recorder-1"
    prompts = {getattr(row, f"prompt_{way}") for row in configuration.rules for way in Direction}
    assert prompts - {""} <= set(Prompt)


def test_the_archives_example_is_good() -> None:
    assert load_archive_configuration(ROOT / "config" / "archive.toml").archive.id == "archive-1"


def test_the_readme_lists_every_option_as_the_code_declares_it() -> None:
    written = (ROOT / "config" / "README.md").read_text().splitlines()
    rows = [line for line in written if line.startswith("| `") and line.split("`")[1].count(".") >= 1]
    listed = [row for row in rows if not row.split("`")[1].endswith(".toml")]
    assert listed == [*option_rows(RecorderConfiguration), *option_rows(ArchiveConfiguration)]


def test_check_config_tells_all_files_that_do_not_do_and_not_only_the_first(tmp_path: Path) -> None:
    run_program("recorderctl", "quickstart", tmp_path)
    path, keys = tmp_path / "recorderd.toml", tmp_path / "keys"
    path.write_text(
        path.read_text().replace(
            "[rtp]",
            "[sip.registration]\nregistrar = '127.0.0.1'\nuser = 'r'\npassword_file = 'keys/none.password'\n"
            "[sip.tls]\ncertificate_file = 'keys/none.pem'\nkey_file = 'keys/signing-key.pem'\n[rtp]",
        )
        + "[[archives]]\nname = 'second'\nendpoint = 'tcp://127.0.0.1:1'\n"
        f"server_public_key = '{'x' * 40}'\n"
        "secret_key_file = 'keys/none.secret'\nreceipt_certificate_file = 'keys/none-receipt.pem'\n"
        "[[power.ups]]\nname = 'a'\nuser = 'u'\npassword_file = 'keys/none.ups'\n"
        "[[power.ups]]\nname = 'b'\ntls_ca_file = 'keys/none.ca'\n"
        "[[timestamps.authorities]]\nurl = 'http://127.0.0.1:1/'\nca_file = 'keys/none-tsa.pem'\n"
    )
    for name in "signing-key.pem", "flush-curve.secret":
        (keys / name).chmod(0o644)
    recorder = run_program("recorderd", "check-config", "--config", path, check=False)
    for key in ("evidence", "sip.registration.password_file", "sip.tls", "power.ups[0]", "power.ups[1]"):
        assert f"  {key}: " in recorder.stderr
    flush = run_program("flush", "check-config", "--config", path, check=False)
    files = ("secret_key_file", "receipt_certificate_file")
    wanted = ["archive.secret_key_file", *(f"archives[0].{name}" for name in files)]
    for key in (*wanted, "timestamps.authorities[0]", "power.ups[1]"):
        assert f"  {key}: " in flush.stderr
    assert (recorder.returncode, flush.returncode) == (78, 78)
    assert "archive.receipt_certificate_file: " not in flush.stderr
