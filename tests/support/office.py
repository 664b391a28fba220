"""An office: an exchange, its phones, the far end of its trunk and a recorder, shared by a module's tests."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.ami import TransferLink
from tests.support.asterisk import Exchange
from tests.support.phone import Event, Phone
from tests.support.programs import wait_until
from tests.support.registered import TONES_HZ, RegisteredHouse

TRUNK_NUMBER: Final = "02079460123"  # the far end's, when it calls in


class Office:
    """Everything starts with it and ends with it; a test begins with ``quiet``.

    The phones ``1001``, ``1002``, ``1003`` and the far end ``trunk`` each say a tone of their own and answer
    by themselves; what each call's peer said lies in WAV files (event ``recorded``).
    """

    def __init__(
        self, folder: Path, *, rules: str, transport: str = "udp", changes: dict[str, str] | None = None,
        **switches: str,
    ) -> None:  # fmt: skip
        self._folder = folder
        self._rules = rules
        self._transport = transport
        self._changes = changes
        self._switches = switches
        self._open = contextlib.ExitStack()
        self.phones: dict[str, Phone] = {}
        self.exchange: Exchange
        self.house: RegisteredHouse
        self.link: TransferLink

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def _start(self) -> None:
        self.exchange = self._open.enter_context(Exchange())
        for name, value in self._switches.items():
            self.exchange.set_global(name, value)
        self.link = self._open.enter_context(TransferLink(self.exchange))
        self.phones = {
            who: Phone(
                TRUNK_NUMBER if who == "trunk" else who, self.exchange, hz,
                trunk=who == "trunk", record_dir=self._folder,
            )
            for who, hz in TONES_HZ.items()
        }  # fmt: skip
        for phone in self.phones.values():
            self._open.push(phone)
        self.house = self._open.enter_context(
            RegisteredHouse(
                self._folder, self.exchange, transport=self._transport,
                extra=self._rules, changes=self._changes,
            )
        )  # fmt: skip
        self.house.register()
        for phone in self.phones.values():
            phone.wait("ready" if phone.trunk else "registered")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def quiet(self) -> None:
        """End what a test before has left behind, and forget it."""
        for phone in self.phones.values():
            phone.hangup()
            phone.tone(True)
        self.house.forget()
        self.house.mark()
        for phone in self.phones.values():
            phone.catch_up()

    def connect(self, caller: str, to: str, callee: str) -> Event:
        """Call and wait until both have each other; return the caller's event ``confirmed``."""
        self.phones[caller].call(to)
        self.phones[callee].wait("confirmed")
        return self.phones[caller].wait("confirmed")

    def meet(self, extension: str, *members: str, settle_s: float = 0.3) -> None:
        """Let phones enter a conference one after the other.

        The second calls when the recorder is in it: two that enter at once would each bring one along.
        """
        known = self.house.log().count(f"callee={extension}")
        for who in members:
            self.phones[who].call(extension)
            self.phones[who].wait("confirmed")
            wait_until(
                lambda: self.house.log().count(f"callee={extension}") > known,
                what=f"the recorder in {extension}",
                timeout_s=10,
            )
            time.sleep(settle_s)

    def disconnect(self, caller: str) -> None:
        """Hang up all calls of a phone and wait until the exchange has none."""
        self.phones[caller].hangup()
        self.house.wait_idle()

    def conversation(self, caller: str, to: str, callee: str, *, talk_s: float) -> float:
        """Let two talk for a while; return how long their call lasted."""
        start_ns = int(self.connect(caller, to, callee)["at_mono_ns"])
        time.sleep(talk_s)
        self.phones[caller].hangup()
        end_ns = int(self.phones[callee].wait("ended")["at_mono_ns"])
        return (end_ns - start_ns) / 1e9
