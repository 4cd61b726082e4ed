"""SIGTERM and SIGINT as a flag, and nothing else than a flag."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from windlass.training.preemption import SIGNALS, Preemption


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_raises_the_flag_and_interrupts_nothing(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with Preemption() as asked:
        assert not asked.now
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert asked.now
    assert asked.now
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_the_old_handlers_are_back_after_an_exception() -> None:
    heard = []
    old = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(ZeroDivisionError), Preemption() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked.now and not heard
            raise ZeroDivisionError
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, old)


def test_a_handler_that_was_not_set_from_python_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to = []

    def fake(number: int, handler: object) -> None:
        set_to.append(handler)  # and returns None, like signal.signal for a handler of C

    monkeypatch.setattr(signal, "signal", fake)
    with Preemption():
        pass
    assert set_to[len(SIGNALS) :] == [signal.SIG_DFL] * len(SIGNALS)


def test_blocks_may_be_nested_and_follow_each_other() -> None:
    with Preemption() as outer:
        with Preemption() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner.now and not outer.now
        os.kill(os.getpid(), signal.SIGTERM)
        assert outer.now
    with Preemption() as next_one:
        assert not next_one.now


def test_outside_of_the_main_thread_the_flag_stays_down() -> None:
    found = []

    def work() -> None:
        with Preemption() as asked:
            found.append(asked.now)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
