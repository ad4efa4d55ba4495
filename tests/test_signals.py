"""Signals that wait while something has to be finished."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from attcli.signals import SIGNALS, STOPPING, held
from attcli.stages.interrupt import deferred


class CameError(Exception):
    """What the handler of the tests raises."""


@pytest.fixture(autouse=True)
def _handled() -> Iterator[None]:
    def raised(number: int, frame: object) -> None:
        raise CameError(number)

    before = {number: signal.signal(number, raised) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def after(work: Callable[[], object], numbers: Sequence[signal.Signals] = SIGNALS) -> list[bool]:
    """Holds signals during the work, and then says whether it was finished."""
    done = []

    def whole() -> None:
        with held(numbers):
            work()
            time.sleep(0.01)
            done.append(True)

    with pytest.raises(CameError):
        whole()
    return done


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits(number: signal.Signals) -> None:
    assert after(lambda: [signal.raise_signal(number) for _ in range(2)])
    with pytest.raises(CameError):
        signal.raise_signal(number)


def test_a_signal_waits_whichever_thread_it_meets() -> None:
    def meet() -> None:
        thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
        thread.start()
        thread.join()

    assert after(meet)


def test_a_stage_in_another_thread_leaves_signals_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def stage() -> None:
        with deferred() as stop:
            found.append((stop.asked, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=stage)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_others_do_not_wait() -> None:
    assert not after(lambda: signal.raise_signal(signal.SIGINT), STOPPING)
