"""What wakes the loop from outside it: threads, and signals, which only set a flag."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import Final

_DRAIN_BYTES: Final = 4096


class Wake:
    """A pipe that is readable when somebody has something for the loop."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._read

    def wake(self) -> None:
        """Wakes the loop; a full pipe wakes it anyway. Any thread may call it."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def drain(self) -> None:
        """Empties the pipe."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._read, _DRAIN_BYTES)) == _DRAIN_BYTES:
                pass

    @property
    def write_end(self) -> int:
        """For signal.set_wakeup_fd."""
        return self._write


class Signals:
    """Signals that were received. A handler runs between two byte codes of whatever runs, so it
    only sets a flag (an interrupt in a multipart receive could lose a part).
    """

    def __init__(self, wake: Wake, numbers: tuple[signal.Signals, ...]) -> None:
        self.received: set[int] = set()
        signal.set_wakeup_fd(wake.write_end, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, self._handle)
            signal.siginterrupt(number, False)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.received.add(number)
