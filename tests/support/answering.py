"""A ROUTER that answers as a broker would, from a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

import zmq

from shard_node.wire.codec import decode_header, encode_body, encode_header
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.targets import BROKER
from shardctl.paths import FleetPaths

Answer = Callable[[Header, bytes], list[list[bytes]]]


class Router:
    """Answers each request with what ``answer`` makes of it, from a thread."""

    def __init__(self, paths: FleetPaths, answer: Answer) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(paths.endpoint)
        self._answer = answer
        self._over = threading.Event()
        self.peers: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over.is_set():
            if not self._socket.poll(20):
                continue
            peer, head, body = self._socket.recv_multipart()
            self.peers.append(peer)
            for parts in self._answer(decode_header(head), body):
                self._socket.send_multipart([peer, *parts])

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)
        self._socket.close()
        self._context.term()


def reply(
    to: Header, body: object, kind: Kind = Kind.REPLY, correlation: int | None = None
) -> list[bytes]:
    head = header(
        kind, BROKER, to.topic, correlation=to.correlation if correlation is None else correlation
    )
    return [encode_header(head), encode_body(body)]
