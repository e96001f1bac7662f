"""The node's socket against libzmq's ROUTER, and against what is no broker at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from shard_node.dealer import PATH_MAX_BYTES, Dealer
from shard_node.wire.zmtp import GREETING, Parts, ready

WAIT_S = 5.0


class Rig:
    """A dealer on the running loop, and what it called back."""

    def __init__(self, path: Path) -> None:
        self.frames: list[Parts] = []
        self.rooms = self.losses = 0
        self.dealer = Dealer(
            f"ipc://{path}", b"a#1", on_frames=self.frames.extend, on_room=self._room,
            on_lost=self._lost,
        )  # fmt: skip
        self.dealer.open(asyncio.get_running_loop())

    def _room(self) -> None:
        self.rooms += 1

    def _lost(self) -> None:
        self.losses += 1

    async def until(self, look: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not look():
                await asyncio.sleep(0.002)


def router(path: Path) -> zmq.Socket[bytes]:
    made = zmq.Context.instance().socket(zmq.ROUTER)
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.ROUTER_MANDATORY, 1)
    made.bind(f"ipc://{path}")
    return made


def test_it_connects_when_somebody_listens_and_again(tmp_path: Path) -> None:
    async def body() -> None:
        rig = Rig(tmp_path / "b.sock")
        assert not rig.dealer.send(b"h", b"b")
        for turn in (1, 2):
            broker = router(tmp_path / "b.sock")
            await rig.until(lambda turn=turn: rig.rooms == turn)
            assert rig.dealer.send(b"head", b"b" * 70_000)
            await rig.until(lambda broker=broker: broker.poll(0))
            assert broker.recv_multipart() == [b"a#1", b"head", b"b" * 70_000]
            broker.send_multipart([b"a#1", b"x", b"y" * 300])
            await rig.until(lambda turn=turn: len(rig.frames) == turn)
            assert rig.frames[-1] == [b"x", b"y" * 300]
            broker.close(0)
            await rig.until(lambda turn=turn: rig.losses == turn)
            assert not rig.dealer.send(b"h", b"b")
        rig.dealer.close()

    asyncio.run(body())


def test_a_broker_that_reads_nothing_takes_no_more_until_it_does(tmp_path: Path) -> None:
    async def body() -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "b.sock"))
            listening.listen()
            rig = Rig(tmp_path / "b.sock")
            broker, _ = listening.accept()
            broker.sendall(GREETING + ready(b"ROUTER"))
            await rig.until(lambda: rig.rooms)
            sent = 0
            while rig.dealer.send(b"h", bytes([sent]) * 50_000):
                sent += 1
                assert sent < 250
            assert not rig.dealer.send(b"h", b"")
            broker.setblocking(False)
            read = bytearray()

            def drained() -> bool:
                try:
                    read.extend(broker.recv(1 << 20))
                except BlockingIOError:
                    return rig.rooms == 2
                return False

            await rig.until(drained)
            marks = [read.index(bytes([n]) * 50_000) for n in range(1, sent)]
            assert marks == sorted(marks)
            assert rig.dealer.send(b"h", b"again")
            broker.close()
            await rig.until(lambda: rig.losses)
            rig.dealer.close()

    asyncio.run(body())


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n", bytes(64), GREETING + ready(b"DEALER")])
def test_what_is_no_broker_is_left_and_tried_again(tmp_path: Path, data: bytes) -> None:
    async def body() -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "b.sock"))
            listening.listen()
            listening.setblocking(False)
            rig = Rig(tmp_path / "b.sock")
            loop = asyncio.get_running_loop()
            for _ in range(3):
                stranger, _ = await loop.sock_accept(listening)
                await loop.sock_sendall(stranger, data)
                while await loop.sock_recv(stranger, 4096):
                    pass
                stranger.close()
            assert (rig.rooms, rig.losses) == (0, 0)
            rig.dealer.close()

    asyncio.run(body())


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "b.sock", "ipc://" + "x" * 108])
def test_an_endpoint_is_a_path_of_a_socket(endpoint: str) -> None:
    with pytest.raises(ValueError, match=f"of {PATH_MAX_BYTES} bytes"):
        Dealer(endpoint, b"a#1", on_frames=print, on_room=print, on_lost=print)
