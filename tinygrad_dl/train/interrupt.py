"""Ctrl-C as a wish: what runs is asked to end at its next good point, and stopped at once if it is pressed again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_interrupt(ask: Callable[[], Any], asked: Callable[[], bool]) -> Iterator[None]:
    """In the block, Ctrl-C calls `ask`, and raises KeyboardInterrupt once `asked()` says that this was done.

    Python delivers signals to the main thread only; in others, and where Ctrl-C is ignored, nothing changes."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return

    def handle(*_: Any) -> None:
        if asked():
            raise KeyboardInterrupt
        ask()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
