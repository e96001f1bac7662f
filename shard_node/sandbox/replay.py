"""A session's bounded memory of what it was sent. Pure.

Source: Discord's gateway documentation, "Resuming": missed events are replayed in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class ReplayBuffer:
    """The last dispatches of a session, bounded in number and bytes."""

    def __init__(self, events_max: int, bytes_max: int) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._events: deque[tuple[int, str, str]] = deque()
        self.floor = 0
        """The oldest sequence number from which a RESUME can be served."""

    def append(self, seq: int, event: str, text: str) -> None:
        """Keep a dispatch; ``text`` is the encoded ``d``, shared between sessions."""
        self._events.append((seq, event, text))
        self._bytes += len(text)
        while len(self._events) > self._events_max or self._bytes > self._bytes_max:
            self.floor, _, dropped = self._events.popleft()
            self._bytes -= len(dropped)

    def since(self, seq: int) -> Iterator[tuple[int, str, str]]:
        """What followed ``seq``, oldest first."""
        return (kept for kept in self._events if kept[0] > seq)
