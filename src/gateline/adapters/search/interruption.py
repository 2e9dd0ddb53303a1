"""A request to stop that is heard between two steps, so that what is under way can be kept."""

from __future__ import annotations

import multiprocessing
import signal
import time
from types import FrameType, TracebackType

from gateline.errors import Preempted

LISTENED_TO = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Listens to SIGTERM and SIGINT while the context lasts; the second one stops at once.

    In a process that another one started, the end of that one is a request, too.
    """

    def __init__(self) -> None:
        self.name = ""

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._hear) for number in LISTENED_TO}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Say whether this process shall stop."""
        parent = multiprocessing.parent_process()
        if not self.name and parent is not None and not parent.is_alive():
            self.name = "the end of the process that started this one"
        return bool(self.name)

    def check(self) -> None:
        """Stop if this process shall.

        Raises:
            Preempted: it shall.
        """
        if self():
            raise Preempted(self.name)

    def wait(self, seconds: float) -> None:
        """Wait, unless this process shall stop.

        Raises:
            Preempted: it shall.
        """
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self.check()

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self.name:
            raise Preempted(self.name)
        self.name = signal.Signals(number).name
