"""What a publisher awaits: room in a line, or a turn of the loop."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from shard_node.peer.frames import Line
from shard_node.peer.plane import Plane

ROOM_TIMEOUT_S: Final = 1.0


class Room:
    """Awaited: until the line has room."""

    __slots__ = ("_line", "_plane")

    def __init__(self, plane: Plane, line: Line) -> None:
        self._plane, self._line = plane, line

    def __await__(self) -> Generator[None, None, None]:
        return self._plane.rooms.wait(self._line, ROOM_TIMEOUT_S).__await__()


class Turn:
    """Awaited: lets the loop turn once."""

    def __await__(self) -> Generator[None, None, None]:
        yield


A_TURN: Final = Turn()
