"""Signals: a process that is asked to stop ends like after Ctrl-C, at the end of what must not be interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from brainrdl._core.signals import Stopped, deferred, interrupting

STOPPING = [signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("signum", STOPPING)
def test_a_signal_interrupts_and_the_old_action_comes_back(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(KeyboardInterrupt, match=f"^stopped by {signum.name}$") as caught, interrupting():
        signal.raise_signal(signum)
    assert isinstance(caught.value, Stopped)
    assert caught.value.signum == signum
    assert signal.getsignal(signum) is before


@pytest.mark.parametrize("signum", [*STOPPING, signal.SIGINT])
def test_a_deferred_signal_waits_for_the_end(signum: signal.Signals) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupting(), deferred() as asked:  # noqa: PT012
        signal.raise_signal(signum)
        done += asked
    assert done == [signum]


def test_a_second_signal_does_not_wait() -> None:
    with pytest.raises(Stopped), deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second signal was deferred")


def test_an_error_is_not_replaced_by_a_deferred_signal() -> None:
    with pytest.raises(ZeroDivisionError), deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


@pytest.mark.parametrize("block", [interrupting, deferred])
def test_what_the_user_does_at_a_signal_stays(block: Callable) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, _: seen.append(signum))
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with block():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, ignored)
    assert seen == [signal.SIGTERM]


def test_another_thread_leaves_signals_alone() -> None:
    before, during = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with interrupting(), deferred():
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before]
