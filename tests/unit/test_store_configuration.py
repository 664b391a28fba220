"""[store], [mirror], [scrub], [[deliveries]]: what is wrong is said with its key, what is right is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorderd.app.archive_configuration import ArchiveConfiguration, load_archive_configuration
from recorderd.app.store_duties import check_stores
from recorderd.core.errors import ConfigurationError, KeyUnusable

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
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError, match="1 problem") as wrong:
        _load(tmp_path, text)
    assert f"{key}:" in str(wrong.value)


def test_keys_of_store_copy_and_deliveries_are_read_by_check_config(tmp_path: Path) -> None:
    found = _load(tmp_path, STORE + DELIVERY)
    with pytest.raises(KeyUnusable, match=r"store\.secret"):
        check_stores(found)
    (tmp_path / "store.secret").touch(mode=0o600)
    (tmp_path / "store.secret").write_text("secret of the store")
    with pytest.raises(KeyUnusable, match="id"):
        check_stores(found)
    (tmp_path / "id").touch(mode=0o600)
    (tmp_path / "id").write_text("a key")
    check_stores(found)
    (tmp_path / "id").chmod(0o644)
    with pytest.raises(KeyUnusable):
        check_stores(found)
