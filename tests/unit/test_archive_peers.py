"""What an archive knows of its recorders' connections."""

from __future__ import annotations

from recorderd.archive.peers import Peers


def test_why_a_recorder_left_is_known_after_its_connection_has_ended() -> None:
    peers = Peers()
    peers.greeted(b"one", recorder_id="rec-1", protocol=3)
    peers.leaves(b"one", "power", recorder_id="rec-1")
    peers.gone(b"one")
    assert peers.describe()["rec-1"]["farewell"] == "power"


def test_a_last_word_that_is_read_after_its_connection_has_ended_counts() -> None:
    peers = Peers()
    peers.greeted(b"one", recorder_id="rec-1", protocol=3)
    peers.gone(b"one")
    peers.leaves(b"one", "power", recorder_id="rec-1")
    assert peers.describe()["rec-1"]["farewell"] == "power"


def test_a_last_word_of_an_old_connection_says_nothing_of_the_new_one() -> None:
    peers = Peers()
    peers.greeted(b"one", recorder_id="rec-1", protocol=3)
    peers.gone(b"one")
    peers.greeted(b"two", recorder_id="rec-1", protocol=3)
    peers.leaves(b"one", "power", recorder_id="rec-1")
    peers.gone(b"two")
    assert peers.describe() == {}


def test_a_recorder_that_comes_back_has_not_left() -> None:
    peers = Peers()
    peers.greeted(b"one", recorder_id="rec-1", protocol=3)
    peers.leaves(b"one", "power", recorder_id="rec-1")
    peers.gone(b"one")
    peers.greeted(b"two", recorder_id="rec-1", protocol=3)
    assert peers.describe()["rec-1"]["farewell"] == ""


def test_a_connection_that_breaks_off_without_a_word_is_forgotten() -> None:
    peers = Peers()
    peers.greeted(b"one", recorder_id="rec-1", protocol=3)
    peers.gone(b"one")
    assert peers.describe() == {}
