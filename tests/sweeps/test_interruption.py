"""Signals, sent for real to this process."""

import signal
import threading

import pytest

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


def test_in_a_thread_there_is_nothing_to_watch() -> None:
    done = []

    def work() -> None:
        with Interruption().watched():
            done.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["worked"]
