"""An entry is tried alone: with nothing else of the process under way, and one at a time."""

import threading
from collections.abc import Callable

import pytest

from pipeline.validator.quarantine import Quarantine
from tests.servers import eventually


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_without_suspects_there_is_no_trial() -> None:
    with Quarantine().trial() as waiting:
        assert waiting == []


def test_a_trial_waits_for_the_work_under_way_and_work_for_the_trial() -> None:
    quarantine = Quarantine()
    quarantine.admit([b"1", b"2", b"1"])
    noted: list[object] = []
    tried = threading.Event()

    def trial() -> None:
        with quarantine.trial() as waiting:
            noted.append(waiting)
            tried.wait(120)
            noted.append("tried")

    def work() -> None:
        with quarantine.company():
            noted.append("work")

    with quarantine.company():
        trying = in_thread(trial)
        eventually(lambda: quarantine._house.is_trial)
        working = in_thread(work)
        assert noted == []
    eventually(lambda: noted == [[b"1", b"2"]])
    with quarantine.trial() as second:
        assert second == [], "one at a time"
    tried.set()
    trying.join(120)
    working.join(120)
    assert noted == [[b"1", b"2"], "tried", "work"]


def test_what_was_released_waits_no_more_and_a_rest_is_kept() -> None:
    quarantine = Quarantine()
    quarantine.admit([b"1", b"2"])
    quarantine.release([b"1", b"3"])
    quarantine.rest(60)
    with quarantine.trial() as waiting:
        assert waiting == []
    quarantine.rest(0)
    with quarantine.trial() as waiting:
        assert waiting == [b"2"]


def test_a_trial_that_fails_ends_all_the_same() -> None:
    quarantine = Quarantine()
    quarantine.admit([b"1"])
    with pytest.raises(ValueError, match=r"^$"), quarantine.trial():
        raise ValueError
    with quarantine.company():
        pass
