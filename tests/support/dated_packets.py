"""Wait until the kernel dates packets, which it begins a moment after somebody has asked it to."""

import socket
import time

from recorderd.tap.batch import prepare_socket, stamp_utc_ns


def until_dated() -> None:
    """Return once packets that come now are dated as they come; who asks must go on asking."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        prepare_socket(sock)
        for _ in range(2_000):
            sock.sendto(b"?", sock.getsockname())
            sent_ns = time.time_ns()
            time.sleep(0.004)
            if 0 < stamp_utc_ns(sock.recvmsg(16, 64)[1]) <= sent_ns:
                return
    raise AssertionError("the kernel dates no packet")
