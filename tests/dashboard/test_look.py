"""One look at the folders: the same answer inside, a fresh one outside, also after an error."""

from __future__ import annotations

import threading

import pytest

from dashboard.look import once, one_look


def test_inside_a_look_a_question_is_asked_once():
    asked = []

    def read() -> int:
        asked.append(1)
        return len(asked)

    assert [once("q", read), once("q", read)] == [1, 2], "outside, every time"
    with one_look():
        assert [once("q", read), once("q", read), once("other", read)] == [3, 3, 4]
        with one_look():  # a fragment within a page
            assert once("q", read) == 3
        assert once("q", read) == 3
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(once("q", read)))
        thread.start()
        thread.join()
        assert elsewhere == [5], "another visitor's thread has a look of its own"
    assert once("q", read) == 6


def test_a_look_ends_with_an_error_and_errors_are_asked_again():
    def fail() -> None:
        raise OSError

    with pytest.raises(OSError), one_look():
        once("q", lambda: 1)
        once("bad", fail)
    assert once("q", lambda: 2) == 2
    with one_look():
        with pytest.raises(OSError):
            once("bad", fail)
        assert once("bad", lambda: 3) == 3
