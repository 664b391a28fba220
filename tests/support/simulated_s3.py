"""A simulator of S3 for quick tests; what counts is tried on a real server (``ceph``, `make test-s3`)."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from recorderd.archive.bucket import Bucket, BucketSettings
from recorderd.archive.objects import Objects
from recorderd.core.clock import Clock, SystemClock
from tests.support.free_ports import free_ports

SECRET = "simulated"


class SimulatedServer:
    """One simulator in this process."""

    def __init__(self) -> None:
        port = free_ports(1, kind=socket.SOCK_STREAM)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        self._server.start()
        self._endpoint = f"http://127.0.0.1:{port}"
        self._buckets = count(1)

    def objects(self, *, lock: str = "", clock: Clock | None = None) -> Objects:
        """Give an empty bucket as the archive uses it."""
        name = f"simulated-{next(self._buckets)}"
        self._client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=bool(lock))
        settings = BucketSettings(
            name=name,
            prefix="calls/",
            endpoint=self._endpoint,
            access_key=SECRET,
            secret_key=SECRET,
            lock=lock,
        )
        pool = ThreadPoolExecutor(4, thread_name_prefix="store")
        return Objects(Bucket(settings), pool=pool, clock=clock or SystemClock())

    def _client(self) -> Any:
        session = boto3.session.Session(
            aws_access_key_id=SECRET, aws_secret_access_key=SECRET, region_name="us-east-1"
        )
        return session.client("s3", endpoint_url=self._endpoint)

    def stop(self) -> None:
        """Stop it."""
        self._server.stop()
