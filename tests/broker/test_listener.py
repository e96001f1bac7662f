"""The broker's socket against libzmq's DEALERs, and against what is no peer at all."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from broker.ports import listener as port
from broker.ports.listener import Listener, PeerGone
from shard_node.wire.limits import FRAME_MAX_BYTES
from shard_node.wire.zmtp import GREETING, ready

WAIT_S = 5.0
Frame = tuple[bytes, bytes | None, bytes]


class Rig:
    """A listener, and peers of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = Listener(path)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.got: list[Frame] = []
        self.open = contextlib.ExitStack()

    def dealer(self, identity: bytes) -> zmq.Socket[bytes]:
        made = self.open.enter_context(self.context.socket(zmq.DEALER))
        made.setsockopt(zmq.LINGER, 0)
        if identity:
            made.setsockopt(zmq.ROUTING_ID, identity)
        made.connect(f"ipc://{self.path}")
        return made

    def raw(self, data: bytes = b"") -> socket.socket:
        made = self.open.enter_context(socket.socket(socket.AF_UNIX))
        made.settimeout(WAIT_S)
        made.connect(str(self.path))
        made.sendall(data)
        return made

    def turn(self, timeout_s: float = 0.05) -> None:
        self.listener.wait(timeout_s)
        self.listener.receive(lambda *frame: self.got.append(frame))

    def until(self, look: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not look():
            assert time.monotonic() < deadline
            self.turn()

    def hears(self, dealer: zmq.Socket[bytes]) -> list[bytes]:
        self.until(lambda: dealer.poll(0))
        return dealer.recv_multipart()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "b.sock")
    yield made
    made.open.close()
    made.listener.close()
    made.context.destroy(linger=0)


def test_frames_go_both_ways(rig: Rig) -> None:
    a = rig.dealer(b"a#1")
    bodies = [bytes([n]) * (n * 5000) for n in range(100)]
    for body in bodies:
        a.send_multipart([b"head", body])
    rig.until(lambda: len(rig.got) == 100)
    assert rig.got == [(b"a#1", b"head", body) for body in bodies]
    assert rig.listener.send(b"a#1", b"back", b"x" * 300)
    assert rig.hears(a) == [b"back", b"x" * 300]


def test_messages_of_other_shapes_are_told_apart(rig: Rig) -> None:
    a = rig.dealer(b"a#1")
    for parts in ([b"1"], [b"1", b"2", b"3"], [b""] * 5000, [b"", b""]):
        a.send_multipart(parts)
    rig.until(lambda: len(rig.got) == 4)
    assert rig.got == [(b"a#1", None, b"")] * 3 + [(b"a#1", b"", b"")]


def test_nobody_is_there(rig: Rig) -> None:
    with pytest.raises(PeerGone):
        rig.listener.send(b"a#1", b"h", b"b")
    a = rig.dealer(b"a#1")
    a.send_multipart([b"h", b"b"])
    rig.until(lambda: rig.got)
    a.close(0)
    rig.until(lambda: not rig.listener._connections)
    with pytest.raises(PeerGone):
        rig.listener.send(b"a#1", b"h", b"b")


def test_a_newer_connection_takes_the_routing_id_over(rig: Rig) -> None:
    old = rig.dealer(b"a#1")
    old.send_multipart([b"old", b""])
    rig.until(lambda: len(rig.got) == 1)
    new = rig.dealer(b"a#1")
    new.send_multipart([b"new", b""])
    rig.until(lambda: len(rig.got) == 2)
    old.close(0)
    rig.turn()
    assert rig.listener.send(b"a#1", b"h", b"b")
    assert rig.hears(new) == [b"h", b"b"]


def test_without_a_routing_id_it_gets_one_that_no_peer_has(rig: Rig) -> None:
    for _ in range(2):
        rig.dealer(b"").send_multipart([b"h", b"b"])
    rig.until(lambda: len(rig.got) == 2)
    names = {frame[0] for frame in rig.got}
    assert len(names) == 2
    assert all(name.startswith(b"\0") for name in names)


def test_who_reads_nothing_takes_no_more_and_gets_all_in_order_later(rig: Rig) -> None:
    peer = rig.raw(GREETING + ready(b"DEALER", b"slow#1"))
    rig.until(lambda: b"slow#1" in rig.listener._peers)
    sent = 0
    while rig.listener.send(b"slow#1", b"h", sent.to_bytes(4) * 5000):
        sent += 1
        assert sent < 1000
    assert not rig.listener.send(b"slow#1", b"h", b"")
    a = rig.dealer(b"a#1")
    a.send_multipart([b"h", b"b"])
    rig.until(lambda: rig.got)
    peer.setblocking(False)
    read = bytearray()
    want = 10 + sent

    def all_there() -> bool:
        with contextlib.suppress(BlockingIOError):
            while data := peer.recv(1 << 20):
                read.extend(data)
        connection = rig.listener._peers[b"slow#1"]
        return not connection.waits and len(read) > sent * 20_000

    rig.until(all_there)
    stream = bytes(read)
    places = [stream.index(n.to_bytes(4) * 5000) for n in range(1, sent)]
    assert places == sorted(places)
    assert want > 10
    assert rig.listener.send(b"slow#1", b"h", b"again")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(64),
        GREETING + b"\x00\x01x",
        GREETING + ready(b"SUB", b"a#1"),
        GREETING + ready(b"DEALER", b"a#1") + b"\x02" + (FRAME_MAX_BYTES + 1).to_bytes(8),
        GREETING + ready(b"DEALER", b"a#1") + b"\xfd\x01x",
    ],
)
def test_who_is_no_peer_loses_the_connection_alone(rig: Rig, data: bytes) -> None:
    b = rig.dealer(b"b#1")
    stranger = rig.raw(data)
    rig.until(lambda: _ended(stranger))
    b.send_multipart([b"h", b"b"])
    rig.until(lambda: rig.got)
    assert len(rig.listener._connections) == 1


def test_who_never_ends_the_handshake_is_let_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = rig.raw(GREETING)
    rig.until(lambda: rig.listener._strangers)
    monkeypatch.setattr(port, "HANDSHAKE_MAX_S", 0.0)
    rig.raw().close()
    rig.until(lambda: _ended(silent))


def test_without_descriptors_it_is_deaf_for_a_while(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(port, "DEAF_S", 0.2)
    real, rig.listener._socket = rig.listener._socket, Full()  # type: ignore[assignment]
    a = rig.dealer(b"a#1")
    a.send_multipart([b"h", b"b"])
    turns = 0
    begun = time.monotonic()
    while time.monotonic() < begun + 0.1:
        rig.turn()
        turns += 1
    assert turns < 10, "it does not spin"
    rig.listener._socket = real
    rig.until(lambda: rig.got)


def test_others_are_waited_for_too(rig: Rig) -> None:
    here, there = socket.socketpair()
    rig.listener.watch(here.fileno(), 1)
    assert not rig.listener.wait(0)
    there.send(b"x")
    assert rig.listener.wait(WAIT_S)
    rig.listener.unwatch(here.fileno())
    assert not rig.listener.wait(0)
    rig.listener.unwatch(here.fileno())
    here.close()
    there.close()


def test_what_was_begun_goes_out_at_the_end(rig: Rig) -> None:
    peer = rig.raw(GREETING + ready(b"DEALER", b"slow#1"))
    rig.until(lambda: b"slow#1" in rig.listener._peers)
    assert rig.listener.send(b"slow#1", b"h", b"last words")
    rig.listener.close()
    read = b""
    while data := peer.recv(1 << 16):
        read += data
    assert read.endswith(b"last words")
    assert not rig.path.exists()


def _ended(stream: socket.socket) -> bool:
    stream.setblocking(False)
    try:
        while stream.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True
