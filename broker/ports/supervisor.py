"""The supervisor's end: JSON lines over an inherited socketpair, both ways, never blocking."""

from __future__ import annotations

import json
import socket
from typing import Any, Final, assert_never

import msgspec

from broker.core.events import (
    Event,
    Exited,
    Process,
    Spawned,
    SpawnFailed,
    StopAsked,
    SupervisorHello,
)

LINE_MAX_BYTES: Final = 1 << 20
UNSENT_MAX_BYTES: Final = 4 << 20
_READ_BYTES: Final = 1 << 16
_PREFIX: Final = "node:"


class LineError(Exception):
    """A line that the supervisor should not have sent."""


class _Proc(msgspec.Struct):
    name: str
    pid: int
    epoch: int
    shards: tuple[int, ...]
    num_shards: int
    index: int = 0
    uptime_s: float = 0.0


class _Hello(msgspec.Struct, tag="hello", tag_field="ev"):
    supervisor_pid: int = 0
    procs: tuple[_Proc, ...] = ()


class _Spawned(msgspec.Struct, tag="spawned", tag_field="ev"):
    name: str
    epoch: int
    pid: int


class _SpawnFailed(msgspec.Struct, tag="spawn_failed", tag_field="ev"):
    name: str
    epoch: int
    error: str = ""


class _Exited(msgspec.Struct, tag="exited", tag_field="ev"):
    name: str
    epoch: int
    pid: int = 0
    code: int | None = None
    signal: int | None = None
    uptime_s: float = 0.0
    tail: tuple[str, ...] = ()


class _Stop(msgspec.Struct, tag="stop", tag_field="ev"):
    reason: str = "signal"
    discard_sessions: bool = False


_Line = _Hello | _Spawned | _SpawnFailed | _Exited | _Stop
_decoder = msgspec.json.Decoder(_Line)


def read_line(line: bytes) -> Event:
    """The event in a line. Raises LineError for one that has no meaning."""
    try:
        value = _decoder.decode(line)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise LineError(str(error)) from None
    return _event(value)


def _event(value: _Line) -> Event:
    match value:
        case _Hello():
            processes = tuple(_process(proc) for proc in value.procs)
            return SupervisorHello(value.supervisor_pid, processes)
        case _Spawned():
            return Spawned(_name(value.name), value.epoch, value.pid)
        case _SpawnFailed():
            return SpawnFailed(_name(value.name), value.epoch, value.error)
        case _Exited():
            return Exited(
                _name(value.name),
                value.epoch,
                value.pid,
                value.code,
                value.signal,
                value.uptime_s,
                value.tail,
            )
        case _Stop():
            return StopAsked(value.reason, value.discard_sessions)
        case _:
            assert_never(value)


class SupervisorPort:
    """Reads whole lines; keeps what cannot be written yet."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._unread = bytearray()
        self._unsent = bytearray()
        self.gone = False

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits until the supervisor reads."""
        return bool(self._unsent) and not self.gone

    def lines(self) -> list[bytes]:
        """The whole lines that have come. Sets ``gone`` at the end of the file."""
        while not self.gone:
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.gone = not data
            self._unread += data
            if len(self._unread) > LINE_MAX_BYTES:
                break
        *lines, rest = bytes(self._unread).split(b"\n")
        self._unread = bytearray(rest if len(rest) <= LINE_MAX_BYTES else b"")
        return [line for line in lines if line]

    def send(self, line: dict[str, Any]) -> None:
        """Sends a line, or keeps it until it can be sent."""
        if len(self._unsent) < UNSENT_MAX_BYTES:
            self._unsent += json.dumps(line, separators=(",", ":")).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Sends what the socket takes."""
        while self._unsent and not self.gone:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:
                self.gone = True
                return
            del self._unsent[:sent]

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def _name(text: str) -> str:
    return text.removeprefix(_PREFIX)


def _process(proc: _Proc) -> Process:
    return Process(
        _name(proc.name),
        proc.epoch,
        proc.pid,
        proc.index,
        proc.shards,
        proc.num_shards,
        proc.uptime_s,
    )
