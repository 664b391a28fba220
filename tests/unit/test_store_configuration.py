"""[store], [mirror], [scrub], [[deliveries]]: what is wrong is said with its key, what is right is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.app.archive_checks import check_archive
from recorderd.app.archive_configuration import ArchiveConfiguration, load_archive_configuration
from recorderd.core.errors import ConfigurationError
from tests.support.house import run_program

HEAD = """
[archive]
id = "arc-1"
bind = "tcp://127.0.0.1:5555"
secret_key_file = "s"
data_dir = "d"
run_dir = "r"
[receipt]
key_file = "k"
certificate_file = "c"
[recorders]
"""
STORE = """
[store]
url = "s3://evidence/calls/london"
endpoint = "https://objects.example.org:7480"
access_key = "archive"
secret_key_file = "store.secret"
"""
DELIVERY = """
[[deliveries]]
name = "customer"
host = "sftp.example.org"
user = "recorder"
key_file = "id"
host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"
"""


def _load(folder: Path, text: str) -> ArchiveConfiguration:
    path = folder / "archive.toml"
    path.write_text(HEAD + text)
    return load_archive_configuration(path)


def test_without_a_word_recordings_lie_in_the_data_folder_and_are_read_every_month(tmp_path: Path) -> None:
    found = _load(tmp_path, "")
    assert (found.store.is_s3, found.mirror, found.deliveries, found.scrub.every_days) == (
        False,
        None,
        (),
        30,
    )


def test_bucket_and_prefix_are_taken_from_the_url(tmp_path: Path) -> None:
    found = _load(tmp_path, STORE).store
    assert (found.is_s3, found.bucket, found.prefix) == (True, "evidence", "calls/london/")
    assert _load(tmp_path, STORE.replace("/calls/london", "")).store.prefix == ""


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (STORE.replace("s3://evidence", "https://evidence"), "store.url"),
        (STORE.replace('access_key = "archive"', ""), "store.access_key"),
        (STORE.replace("secret_key_file", "#"), "store.access_key"),
        (STORE.replace("https", "http") + 'tls_ca_file = "ca.pem"', "store.tls_ca_file"),
        (STORE + 'encryption_key = "k"', "store.encryption_key"),
        (STORE + 'lock = "for ever"', "store.lock"),
        ('[store]\nlock = "compliance"', "store.lock"),
        ('[store]\naccess_key = "a"', "store.url"),
        ('[mirror]\nurl = "file:relative"', "mirror.url"),
        (STORE + STORE.replace("[store]", "[mirror]"), "mirror.url"),
        (STORE.replace("[store]", "[mirror]").replace("secret_key_file", "#"), "mirror.access_key"),
        ("[scrub]\nevery_days = -1", "scrub.every_days"),
        (DELIVERY.replace("ssh-ed25519 ", ""), "host_key"),
        (DELIVERY + DELIVERY, "deliveries[1].name"),
        (DELIVERY + 'folder = "../x"', "folder"),
        (DELIVERY + 'at = "24:00"', "at"),
        ('[call_records]\ncall_ids = ["likedid"]', "call_records.call_ids"),
        ('[call_records]\nignore = ["context=rec-*"]', "call_records.ignore"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match="1 problem") as wrong:
        _load(tmp_path, text)
    assert f"{key}:" in str(wrong.value)


def test_keys_of_store_copy_and_deliveries_are_read_by_check_config(tmp_path: Path) -> None:
    run_program("recorderctl", "quickstart", tmp_path)
    path = tmp_path / "archive.toml"
    with path.open("a") as stream:
        stream.write(STORE + DELIVERY)
    configuration = load_archive_configuration(path)
    for name, key in (("store.secret", "store"), ("id", "deliveries[0].key_file")):
        with pytest.raises(ConfigurationError) as wrong:
            check_archive(path, configuration)
        assert f"{key}: " in str(wrong.value)
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("a key")
    check_archive(path, configuration)
    (tmp_path / "id").chmod(0o644)
    with pytest.raises(ConfigurationError, match="644"):
        check_archive(path, configuration)


MORE = """
[http]
address = "127.0.0.1"
certificate_file = "keys/signing-cert.pem"
key_file = "keys/receipt-key.pem"
[http.oidc]
issuer = "https://id.example.org"
client_id = "archive"
client_secret_file = "oidc.secret"
return_url = "https://archive.example.org/api/v1/session/oidc/return"
tls_ca_file = "oidc.pem"
[[webhooks]]
name = "desk"
url = "https://desk.example.org/hook"
secret_file = "hook.secret"
tls_ca_file = "hook.pem"
[catalogue]
url = "postgresql://archive@127.0.0.1:1/archive"
password_file = "database.secret"
[call_records]
rules_file = "rules.toml"
"""


def test_check_config_tells_of_every_file_that_a_start_the_interface_or_a_report_would_fail_by(
    tmp_path: Path,
) -> None:
    run_program("recorderctl", "quickstart", tmp_path)
    (tmp_path / "keys" / "receipt-key.pem").rename(tmp_path / "keys" / "other-key.pem")
    with (tmp_path / "archive.toml").open("a") as stream:
        stream.write(MORE)
    ended = run_program("archive", "check-config", "--config", tmp_path / "archive.toml", check=False)
    assert ended.returncode == 78
    told = {line.strip().partition(": ")[0] for line in ended.stderr.splitlines() if line.startswith("  ")}
    assert told >= {
        "receipt.key_file",
        "http.key_file",
        "http.oidc.client_secret_file",
        "http.oidc.tls_ca_file",
        "webhooks[0].secret_file",
        "webhooks[0].tls_ca_file",
        "catalogue.password_file",
        "call_records.rules_file",
    }
