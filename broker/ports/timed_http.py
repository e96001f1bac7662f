"""One HTTP answer within one deadline, however slowly its bytes come.

A socket's timeout holds for each wait: a server that sends a byte now and then keeps the
reader for good. So a timer shuts the connection down under the reader.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.request
from types import TracebackType
from typing import Any, Self


class Deadline:
    """``with Deadline(s) as deadline``: what is held when the time is over is shut down."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._is_passed = False
        self._held: list[socket.socket] = []
        self._timer = threading.Timer(timeout_s, self._pass)
        self._timer.daemon = True

    @property
    def is_passed(self) -> bool:
        """Whether the time was over before the block was left."""
        return self._is_passed

    def hold(self, connection: socket.socket) -> None:
        """Shut ``connection`` down at the deadline. Its descriptor may move on into TLS."""
        with self._lock:
            self._held.append(connection.dup())
            if self._is_passed:
                self._shut_down()

    def _pass(self) -> None:
        with self._lock:
            self._is_passed = True
            self._shut_down()

    def _shut_down(self) -> None:
        for connection in self._held:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._held:
                connection.close()
            self._held.clear()


class _Http(http.client.HTTPConnection):
    deadline: Deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.hold(self.sock)


class _Https(http.client.HTTPSConnection, _Http):
    """Its own connect calls that of _Http before TLS begins, so the handshake is timed too."""


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._http, request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._https, request)

    def _http(self, host: str, **options: Any) -> _Http:
        connection = _Http(host, **options)
        connection.deadline = self._deadline
        return connection

    def _https(self, host: str, **options: Any) -> _Https:
        connection = _Https(host, **options)
        connection.deadline = self._deadline
        return connection


def open_url(request: urllib.request.Request, deadline: Deadline) -> Any:
    """As urllib's ``urlopen``, on connections that end at the deadline."""
    opener = urllib.request.build_opener(_Handler(deadline))
    return opener.open(request, timeout=deadline.timeout_s)
