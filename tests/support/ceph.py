"""A real S3 server with Object Lock: Ceph's gateway, one monitor and one OSD, ordinary processes on loopback.

Each is a child of the test, in a folder of the test's, and stopped by its id. The OSD holds all in memory.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import boto3
from botocore.config import Config

from recorderd.archive.bucket import Bucket, BucketSettings
from recorderd.archive.objects import Objects
from recorderd.core.clock import SystemClock
from tests.support.free_ports import free_ports

READY_S = 120
KMS_KEY = "of-the-test"
_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}]
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
pid file =
mon data = {folder}/mon
mon allow pool size one = true
mon data avail warn = 1
mon data avail crit = 0
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {device_bytes}
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rgw data = {folder}/rgw
rgw frontends = beast endpoint={address} ssl_endpoint={tls_address} ssl_certificate={certificate}
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {kms_key}=YmluCmJvb3N0CmJvb3N0LWJ1aWxkCmNlcGguY29uZgo=
"""


class ObjectServer:
    """One server with a user.

    Errors: AssertionError when there is no Ceph: that is a failure, not a reason to skip.
    """

    def __init__(self) -> None:
        missing = [name for name in _PROGRAMS if shutil.which(name) is None]
        assert not missing, f"no {missing}: apt-get install radosgw ceph-mon ceph-osd ceph-common"
        self.folder = Path(tempfile.mkdtemp(prefix="ceph-"))  # short: a socket's name has a limit of 107
        self.port = free_ports(4, kind=socket.SOCK_STREAM)
        self.tls_port = self.port + 1
        self.access_key, self.secret_key = "recorder-archive", secrets.token_hex(20)
        self.certificate = self.folder / "server.pem"
        self._buckets = count(1)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._make_certificate()
        try:
            self._start()
        except BaseException:
            self.remove()
            raise
        self.client: Any = boto3.session.Session(
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key, region_name="us-east-1"
        ).client("s3", endpoint_url=self.endpoint, config=Config(s3={"addressing_style": "path"}))

    @property
    def endpoint(self) -> str:
        """Where it answers without TLS."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self) -> str:
        """Where it answers with TLS."""
        return f"https://127.0.0.1:{self.tls_port}"

    def new_bucket(self, *, with_locks: bool = True) -> str:
        """Make an empty bucket."""
        name = f"evidence-{next(self._buckets)}"
        self.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=with_locks)
        return name

    def settings(self, bucket: str, **more: Any) -> BucketSettings:
        """Say how a bucket is spoken to."""
        told: dict[str, Any] = {
            "name": bucket,
            "prefix": "calls/",
            "endpoint": self.endpoint,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }
        return BucketSettings(**(told | more))

    def objects(self, bucket: str, **more: Any) -> Objects:
        """Give a bucket as the archive uses it."""
        pool = ThreadPoolExecutor(4, thread_name_prefix="store")
        return Objects(Bucket(self.settings(bucket, **more)), pool=pool, clock=SystemClock())

    def pause(self) -> None:
        """Let the gateway answer nobody, as a server that hangs."""
        self._processes[-1].send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._processes[-1].send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and remove all that was its."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait(60)
        shutil.rmtree(self.folder)

    # --- start -----------------------------------------------------------------------------------------

    def _start(self) -> None:
        fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
        text = _CONFIGURATION.format(
            fsid=fsid,
            folder=self.folder,
            mon_port=self.port + 2,
            address=f"127.0.0.1:{self.port}",
            tls_address=f"127.0.0.1:{self.tls_port}",
            certificate=self.certificate,
            device_bytes=1 << 30,
            kms_key=KMS_KEY,
        )
        (self.folder / "ceph.conf").write_text(text)
        keyring, monmap = str(self.folder / "keyring"), str(self.folder / "monmap")
        for name in ("mon", "osd", "rgw"):
            (self.folder / name).mkdir()
        self._run(
            "ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        for name, mon in (("client.admin", "allow *"), ("osd.0", "allow profile osd")):
            self._run(
                "ceph-authtool",
                keyring,
                "--gen-key",
                "-n",
                name,
                "--cap",
                "mon",
                mon,
                "--cap",
                "osd",
                "allow *",
            )
        address = f"[v2:127.0.0.1:{self.port + 2}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._child("ceph-mon", "-i", "a", "-f")
        self._run("ceph", "osd", "new", osd_id)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._child("ceph-osd", "-i", "0", "-f")
        self._wait(
            "the OSD", lambda: json.loads(self._run("ceph", "osd", "stat", "-f", "json"))["num_up_osds"]
        )
        self._child("radosgw", "-n", "client.admin", "-f")
        self._wait("the gateway", lambda: _answers(self.port))
        self._run("radosgw-admin", "user", "create", "--uid", "archive", "--display-name", "archive",
                  "--access-key", self.access_key, "--secret-key", self.secret_key)  # fmt: skip

    def _make_certificate(self) -> None:
        key = self.folder / "server.key"
        done = subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
             "-keyout", key, "-out", self.certificate],
            check=False, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        with self.certificate.open("ab") as stream:
            stream.write(key.read_bytes())

    def _run(self, program: str, *arguments: str) -> bytes:
        done = subprocess.run(
            [program, *arguments], check=False, env=self._environment(), capture_output=True, timeout=READY_S
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def _child(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [program, *arguments],
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def _wait(self, what: str, is_ready: Any) -> None:
        end = time.monotonic() + READY_S
        while not is_ready():
            process = self._processes[-1]
            assert process.poll() is None, f"{what} ended: {self._log()}"
            assert time.monotonic() < end, f"{what} is not ready: {self._log()}"
            time.sleep(0.1)

    def _log(self) -> str:
        return "".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.out")))

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CEPH_CONF": str(self.folder / "ceph.conf")}


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=2):
            return True
    except (OSError, HTTPException):
        return False
