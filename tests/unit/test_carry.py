"""What a process leaves to the next one in memory: whole records, whatever instant it ends at."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass

import pytest

from recorderd.carry import Carry, fingerprint_of
from recorderd.core.ids import SessionId
from recorderd.core.messages import SessionEnded, StreamEnd

FORM = bytes(32)


def ended(name: str) -> SessionEnded:
    return SessionEnded(session=SessionId(name), cause=StreamEnd.BYE, at_mono_ns=1, at_utc_ns=2)


def reopened(carry: Carry) -> Carry:
    again = Carry.open(os.dup(carry.descriptor), fingerprint=FORM)
    assert again is not None
    return again


def test_the_next_process_finds_the_last_value_of_every_key() -> None:
    carry = Carry.create(fingerprint=FORM)
    carry.put("a", ended("a"))
    carry.put("b", ended("b"))
    carry.put("a", ended("again"))
    carry.drop("b")
    assert reopened(carry).items() == {"a": ended("again")}


def test_a_process_that_ends_within_a_write_leaves_what_was_there_before() -> None:
    carry = Carry.create(fingerprint=FORM)
    carry.put("a", ended("before"))
    whole = os.fstat(carry.descriptor).st_size
    carry.put("a", ended("after"))
    end = os.fstat(carry.descriptor).st_size
    for cut in range(whole, end):
        os.ftruncate(carry.descriptor, cut)
        copy = os.memfd_create("copy")
        os.write(copy, os.pread(carry.descriptor, cut, 0))
        torn = Carry.open(copy, fingerprint=FORM)
        assert torn is not None
        assert torn.items() == {"a": ended("before")}
        torn.put("b", ended("goes on"))
        assert set(reopened(torn).items()) == {"a", "b"}
        os.close(copy)
        os.ftruncate(carry.descriptor, end)


def test_what_is_void_is_given_back_and_what_counts_stays() -> None:
    carry = Carry.create(fingerprint=FORM)
    carry.put("kept", ended("kept"))
    for number in range(20_000):
        carry.put("often", ended(f"{number:0100}"))
    carry.put("last", ended("last"))
    assert os.fstat(carry.descriptor).st_blocks * 512 < 4 << 20
    assert set(reopened(carry).items()) == {"kept", "often", "last"}
    assert reopened(carry).items()["often"] == ended(f"{19_999:0100}")


def test_another_format_is_not_guessed_at() -> None:
    @dataclass
    class One:
        number: int

    before = fingerprint_of([One])
    One.__annotations__["name"] = str

    @dataclass
    class Two:
        number: int
        name: str

    Two.__qualname__ = One.__qualname__
    assert fingerprint_of([Two]) != before
    assert Carry.open(Carry.create(fingerprint=FORM).descriptor, fingerprint=before) is None


def test_nothing_is_made_of_a_record_but_values_of_ours() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    carry = Carry.create(fingerprint=FORM)
    carry.put("a", 1)
    carry._rows["a"] = pickle.dumps(Evil())
    with pytest.raises(ValueError, match="none of ours"):
        carry.items()
