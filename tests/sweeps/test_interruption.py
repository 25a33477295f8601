"""Signals, sent for real to this process."""

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from conftest import Makemore
from fake_tasks import FAKE

from sweeps.study.interruption import Interruption

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@SIGNALS
def test_an_interruption_raises_where_it_is_allowed(number: signal.Signals) -> None:
    interruption = Interruption()
    with interruption.watched():
        with pytest.raises(KeyboardInterrupt), interruption.allowed():
            signal.raise_signal(number)
        assert interruption.times == 1


@SIGNALS
def test_an_interruption_is_only_counted_elsewhere(number: signal.Signals) -> None:
    interruption = Interruption()
    with interruption.watched():
        signal.raise_signal(number)
        assert interruption.times == 1


def test_an_interruption_that_was_held_back_raises_when_it_is_allowed_again() -> None:
    interruption, done = Interruption(), []
    with interruption.watched():
        with interruption.allowed(), interruption.held_back():
            signal.raise_signal(signal.SIGINT)
            done.append("what must not be cut in two")
        with pytest.raises(KeyboardInterrupt), interruption.allowed():
            done.append("never")
    assert done == ["what must not be cut in two"]


def test_a_second_interruption_raises_no_more() -> None:
    interruption = Interruption(times=1)
    with interruption.watched(), pytest.raises(KeyboardInterrupt), interruption.allowed():
        pass
    with interruption.watched():
        try:
            with interruption.allowed():
                pass
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)  # while the first one is recorded
        assert interruption.times == 2


def test_the_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interruption().watched():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def be_interrupted_in_a_destructor() -> None:
    Breaks()  # what is raised there goes nowhere
    time.sleep(10)


class Breaks:
    """Is interrupted while it is destroyed."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interruption_that_python_drops_comes_again() -> None:
    interruption = Interruption()
    with interruption.watched(), pytest.raises(KeyboardInterrupt), interruption.allowed():
        be_interrupted_in_a_destructor()
    assert interruption.times == 1


def test_an_interruption_that_nobody_acted_on_is_known_to_the_next() -> None:
    outer, inner = Interruption(), Interruption()
    with outer.watched():
        with suppress(KeyboardInterrupt), outer.allowed():
            signal.raise_signal(signal.SIGINT)
        with inner.watched(), pytest.raises(KeyboardInterrupt):
            inner.check()


def test_what_takes_too_long_after_an_interruption_is_ended() -> None:
    interruption = Interruption()
    with interruption.watched(patience=0.1), interruption.held_back():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
    with interruption.watched():
        time.sleep(0.2)  # nothing comes afterwards


def test_the_third_ctrl_c_raises_anywhere() -> None:
    interruption = Interruption()
    with interruption.watched(), interruption.held_back():
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_in_a_thread_there_is_nothing_to_watch() -> None:
    done = []

    def work() -> None:
        with Interruption().watched():
            done.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["worked"]


def test_a_task_that_swallows_an_interruption_is_ended_at_its_next_report(makemore: Makemore, workdir: Path) -> None:
    slow = ("task=swallows", "task.seconds=0.01", "task.level=1.0,2.0")
    answer = makemore("sweep", *FAKE, *slow, "study.name=a", "study.n_trials=2", "study.workers=1")
    assert answer.code == 130, answer.err
    trials = optuna.load_study(study_name="a", storage=f"sqlite:///{workdir}/mlruns/study.db").trials
    assert [trial.state.name for trial in trials if trial.state.name != "WAITING"] == ["FAIL"]
