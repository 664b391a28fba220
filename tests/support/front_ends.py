"""Several front ends over one PostgreSQL and one store, and recorders that know them all."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorderd.app.control import ask
from recorderd.archive.catalogue import Catalogue, Entry
from recorderd.archive.database import Database
from recorderd.flush.curve import make_keypair
from recorderd.spool.layout import Place, Spool
from tests.support.bundles import ChainHead, folder_digests, make_recording, make_signer
from tests.support.free_ports import free_port
from tests.support.programs import ROOT

if TYPE_CHECKING:
    from tests.support.ceph import ObjectServer


@dataclass
class Outpost:
    """One recorder with its spool."""

    name: str
    folder: Path
    public_key: str = ""
    chain: ChainHead = field(default_factory=ChainHead)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.signer = make_signer(self.folder, "recorder")
        self.public_key, secret = make_keypair()
        key = self.folder / "recorder.curve"
        key.touch(mode=0o600)
        key.write_text(secret)
        self.spool = Spool(self.folder / "spool", quota_bytes=1 << 30)
        self.spool.prepare()
        self.toml = self.folder / "recorderd.toml"

    def record(self, count: int, *, duration_s: float = 0.1) -> dict[str, dict[str, str]]:
        """Seal some recordings; the digests of their files, by id."""
        ids = [
            make_recording(
                self.spool,
                self.signer,
                recorder_id=self.name,
                chain=self.chain,
                duration_s=duration_s,
                seed=number,
            )
            for number in range(count)
        ]
        return {name: folder_digests(self.spool.path(Place.READY, name)) for name in ids}

    def is_empty(self) -> bool:
        """Tell whether nothing is left in the spool."""
        return not any(self.spool.ids(place) for place in Place)


class FrontHouse:
    """The set-up; programs are started by the test."""

    def __init__(
        self,
        root: Path,
        url: str,
        *,
        fronts: tuple[str, ...],
        recorders: int,
        chunk_bytes: int,
        objects: ObjectServer | None = None,
    ) -> None:
        self.root, self.url, self.data_dir = root, url, root / "archive"
        root.mkdir(parents=True, exist_ok=True)
        self.objects, self.bucket, self._store_text = objects, "", ""
        if objects is not None:
            self.bucket = objects.new_bucket()
            self._store_text = self._bucket_text(objects)
        make_signer(root, "archive")
        self.public_key, secret = make_keypair()
        key = root / "archive.curve"
        key.touch(mode=0o600)
        key.write_text(secret)
        self.outposts = [
            Outpost(f"rec-{number}", root / f"rec-{number}") for number in range(1, recorders + 1)
        ]
        self.ports = {name: free_port() for name in fronts}
        for name in fronts:
            self.toml(name).write_text(self.archive_text(name))
        for number, outpost in enumerate(self.outposts):
            outpost.toml.write_text(
                self._recorder_text(outpost, first=number % len(fronts), chunk_bytes=chunk_bytes)
            )

    def toml(self, front: str) -> Path:
        """Name a front end's archive.toml."""
        return self.root / f"archive-{front}.toml"

    def archive_text(self, front: str, *, data_dir: Path | None = None, port: int | None = None) -> str:
        """Write a front end's archive.toml."""
        recorders = "".join(
            f"[recorders.{outpost.name}]\ncurve_public_key = '{outpost.public_key}'\n"
            f'certificate_files = ["{outpost.folder}/recorder.cert.pem"]\n'
            for outpost in self.outposts
        )
        return f"""
[archive]
id = "arc-1"
bind = "tcp://127.0.0.1:{self.ports[front] if port is None else port}"
secret_key_file = "archive.curve"
data_dir = "{data_dir or self.data_dir}"
run_dir = "run-{front}"
front_end = "{front}"
[catalogue]
url = "{self.url}"
{self._store_text}[receipt]
key_file = "archive.key.pem"
certificate_file = "archive.cert.pem"
{recorders}"""

    def _bucket_text(self, server: ObjectServer) -> str:
        secret = self.root / "store.secret"
        secret.touch(mode=0o600)
        secret.write_text(server.secret_key)
        return f"""[store]
url = "s3://{self.bucket}/calls"
endpoint = "{server.endpoint}"
access_key = "{server.access_key}"
secret_key_file = "{secret}"
lock = "governance"
"""

    def _recorder_text(self, outpost: Outpost, *, first: int, chunk_bytes: int) -> str:
        endpoints = [f"tcp://127.0.0.1:{port}" for port in self.ports.values()]
        endpoints = endpoints[first:] + endpoints[:first]
        return f"""
[recorder]
id = "{outpost.name}"
state_dir = "state"
run_dir = "run"
[evidence]
key_file = "recorder.key.pem"
certificate_file = "recorder.cert.pem"
[spool]
dir = "spool"
local_grace_s = 0
[archive]
endpoint = "{endpoints[0]}"
further_endpoints = {endpoints[1:]}
server_public_key = '{self.public_key}'
secret_key_file = "recorder.curve"
receipt_certificate_file = "{self.root}/archive.cert.pem"
chunk_bytes = {chunk_bytes}
heartbeat_s = 1
retry_s = 1
"""

    def rows(self) -> list[Entry]:
        """Give the catalogue's rows."""
        database = Database(self.url)
        try:
            return Catalogue(database, read_only=True).all()
        finally:
            database.close()

    def count(self) -> int:
        """Count them."""
        database = Database(self.url)
        try:
            return Catalogue(database, read_only=True).count()
        finally:
            database.close()

    def stored(self) -> dict[str, dict[str, str]]:
        """Hash every file of every recording where the archive keeps them, past the archive."""
        if self.objects is None:
            folders = (self.data_dir / "store").glob("*/*/*/*")
            return {folder.name: folder_digests(folder) for folder in folders}
        return self._objects_stored(self.objects.client)

    def _objects_stored(self, client: Any) -> dict[str, dict[str, str]]:
        """Hash every version: two front ends may have put the same at once, but nothing else, ever."""
        listed = client.get_paginator("list_object_versions")
        pages = list(listed.paginate(Bucket=self.bucket, Prefix="calls/store/"))
        assert not [row for page in pages for row in page.get("DeleteMarkers", ())]
        versions = [(row["Key"], row["VersionId"]) for page in pages for row in page["Versions"]]

        def digest(version: tuple[str, str]) -> str:
            given = client.get_object(Bucket=self.bucket, Key=version[0], VersionId=version[1])
            return sha256(given["Body"].read()).hexdigest()

        found = dict[str, dict[str, str]]()
        with ThreadPoolExecutor(4) as several:
            for (key, _), value in zip(versions, several.map(digest, versions), strict=True):
                *_, name, file = key.split("/")
                assert found.setdefault(name, {}).setdefault(file, value) == value, f"{key} was put anew"
        return found

    def status(self, front: str) -> dict[str, object]:
        """Ask a front end."""
        return ask(self.root / f"run-{front}" / "archive.sock", {"command": "status"})

    def run(self, front: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of recorder-archive's commands as a front end's operator would."""
        code = "import sys; from recorderd.app.archive import main; sys.exit(main())"
        head, *rest = map(str, arguments)
        command = [sys.executable, "-c", code, head, "--config", str(self.toml(front)), *rest]
        environment = {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=environment, timeout=1800
        )


def assert_archived_once(house: FrontHouse, digests: dict[str, dict[str, str]]) -> None:
    """Every recording has one row, one number, one folder as it was sealed; fsck finds nothing else."""
    rows = house.rows()
    assert sorted(row.id for row in rows) == sorted(digests)
    assert sorted(row.row_id for row in rows) == list(range(1, len(digests) + 1))
    assert {row.chain for row in rows} == {"linked"}
    assert house.stored() == digests
    checked = house.run(next(iter(house.ports)), "fsck")
    assert checked.returncode == 0, checked.stdout + checked.stderr
