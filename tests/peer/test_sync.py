"""The fleet from code that does not await, with the real broker."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

import shard_node
from shard_node import sync
from shard_node.errors import BrokerUnavailable, RemoteError, RequestTimeout
from shard_node.wire.targets import Node
from tests.rules.source import ROOT
from tests.support.broker_rig import WAIT_S, Rig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig(tmp_path_factory.mktemp("s"), nodes=1) as rig:
        rig.launch()
        rig.hear("serving")
        rig.hear("spawn")
        yield rig


@pytest.fixture
def pair(rig: Rig) -> Iterator[tuple[sync.SyncClient, sync.SyncClient]]:
    with sync.connect(rig.endpoint, "web") as web, sync.connect(rig.endpoint, "job") as job:
        yield web, job


def test_all_that_a_client_can_say(pair: tuple[sync.SyncClient, sync.SyncClient]) -> None:
    web, job = pair
    got: Queue[Any] = Queue()

    @web.on("news")
    def heard(message: Any) -> None:
        got.put((message.sender, message.body, threading.current_thread().name))

    @web.serve("double")
    async def double(message: Any) -> int:
        return int(message.body) * 2

    assert web.broker_up and (web.name, job.name) == ("web", "job")
    assert job.request(Node("web"), "double", 4) == 8
    job.publish("news", "x")
    sender, body, thread = got.get(timeout=WAIT_S)
    assert (sender.startswith("cl-job-"), body, thread) == (True, "x", "shard-node-sync")
    assert job.send(Node("web"), "news", "y") == shard_node.Receipt("delivered")
    assert got.get(timeout=WAIT_S)[1] == "y"
    with pytest.raises(RemoteError, match="ValueError"):
        job.request(Node("web"), "double", "no number")
    web.unserve("double", double)
    with pytest.raises(shard_node.NoHandler):
        job.request(Node("web"), "double", 4)
    web.off("news", heard)
    with pytest.raises(shard_node.NoHandler):
        job.send(Node("web"), "news", "z")
    with pytest.raises(TypeError, match="object"):
        job.publish("news", object())


def test_the_planned_nodes_are_asked(pair: tuple[sync.SyncClient, sync.SyncClient]) -> None:
    """The rig's only node was spawned and never came: its place is an error."""
    web, _ = pair
    assert web.nodes() == ["a"]
    found = web.gather("who", timeout_s=0.3)
    assert found.replies == {} and list(found.errors) == ["a"]


def test_several_threads_talk_at_once(pair: tuple[sync.SyncClient, sync.SyncClient]) -> None:
    web, job = pair
    counts: dict[int, list[int]] = {}
    web.on("n", lambda message: counts.setdefault(message.body[0], []).append(message.body[1]))
    web.serve("echo", lambda message: message.body)
    assert web.nodes()

    def talk(number: int) -> None:
        for i in range(50):
            job.publish("n", [number, i])
            assert job.request(Node("web"), "echo", [number, i]) == [number, i]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(talk, range(8)))
    job.send(Node("web"), "n", [99, 0])  # behind all that was published in its lane
    assert {number: counts[number] for number in range(8)} == {n: list(range(50)) for n in range(8)}


def test_a_handler_cannot_wait_for_its_own_connection(
    pair: tuple[sync.SyncClient, sync.SyncClient],
) -> None:
    web, job = pair
    web.serve("again", lambda message: web.request(Node("job"), "x"))
    with pytest.raises(RemoteError, match="wait for itself"):
        job.request(Node("web"), "again")


def test_a_handler_that_blocks_costs_a_deadline_and_no_more(
    pair: tuple[sync.SyncClient, sync.SyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, job = pair
    monkeypatch.setattr(sync, "GRACE_S", 0.2)
    began, go_on = threading.Event(), threading.Event()

    def block(message: Any) -> None:
        began.set()
        go_on.wait(WAIT_S)

    web.on("block", block)
    assert web.nodes()  # the broker knows of the topic
    job.publish("block", 1)
    assert began.wait(WAIT_S)
    with pytest.raises(RequestTimeout, match="does a handler block"):
        web.nodes(timeout_s=0.1)
    with pytest.raises(RequestTimeout, match="no answer"):
        job.request(Node("web"), "x", timeout_s=0.1)
    go_on.set()


def test_who_waits_hears_that_it_was_closed(rig: Rig) -> None:
    with sync.connect(rig.endpoint, "slow") as slow:
        asked = threading.Event()

        @slow.serve("never")
        async def never(message: Any) -> None:
            asked.set()
            await asyncio.Event().wait()

        connection = sync.connect(rig.endpoint, "asker")
        client = connection.open()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.request, Node("slow"), "never", timeout_s=30)
            assert asked.wait(WAIT_S)
            before = time.monotonic()
            connection.close()
            error = answer.exception(WAIT_S)
        assert isinstance(error, BrokerUnavailable | shard_node.Undeliverable)
        assert time.monotonic() - before < WAIT_S
        assert not client.broker_up
        for call in (client.nodes, lambda: client.publish("x", 1)):
            with pytest.raises(BrokerUnavailable, match="closed"):
                call()
        connection.close()


def test_it_opens_again_and_not_twice(rig: Rig) -> None:
    connection = sync.connect(rig.endpoint, "again")
    for _ in range(2):
        client = connection.open()
        with pytest.raises(RuntimeError, match="open already"):
            connection.open()
        assert client.nodes() == ["a"]
        connection.close()
    assert not [t for t in threading.enumerate() if t.name == "shard-node-sync"]


def test_a_connection_that_fails_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shard_node.peer.connect.Client.open.__defaults__", (0.1,))
    with pytest.raises(BrokerUnavailable), sync.connect(f"ipc://{tmp_path}/none.sock"):
        pass
    assert not [t for t in threading.enumerate() if t.name == "shard-node-sync"]


def test_closing_does_not_wait_for_a_handler_that_blocks(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sync, "GRACE_S", 0.1)
    monkeypatch.setattr(sync, "FLUSH_TIMEOUT_S", 0.1)
    go_on, began = threading.Event(), threading.Event()

    def block(message: Any) -> None:
        began.set()
        go_on.wait(WAIT_S)

    connection = sync.connect(rig.endpoint, "stuck")
    stuck = connection.open()
    thread = stuck._thread._thread
    stuck.on("block2", block)
    assert stuck.nodes()
    with sync.connect(rig.endpoint, "poker") as poker, caplog.at_level(logging.WARNING):
        poker.publish("block2", 1)
        assert began.wait(WAIT_S)
        connection.close()
        assert "holds the connection's thread" in caplog.text
        go_on.set()
        thread.join(WAIT_S)
    assert not thread.is_alive()


NO_FORK_WARNING = "ignore:This process:DeprecationWarning"
FORKS = """
import os, sys, threading
import shard_node
from shard_node import sync
connection = sync.connect(sys.argv[1], "parent")
node = connection.open()
pid = os.fork()
if not pid:
    try:
        node.nodes()
    except shard_node.BrokerUnavailable as error:
        print(error, error.hint, flush=True)
    assert not node.broker_up
    connection.close()
    with sync.connect(sys.argv[1], "child") as own:
        print(own.name, own.nodes(), flush=True)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(node.name, node.nodes())
"""


def test_a_fork_and_an_exit_without_a_goodbye(rig: Rig) -> None:
    """The child connects anew, the parent's connection stays, and its end is not forgotten:
    what it said last has left."""
    with sync.connect(rig.endpoint, "ear") as ear:
        heard: Queue[Any] = Queue()
        ear.on("last", lambda message: heard.put(message.body))
        assert ear.nodes()
        code = FORKS + "node.publish('last', 'words')\n"
        done = subprocess.run(
            [sys.executable, "-W", NO_FORK_WARNING, "-c", code, rig.endpoint],
            cwd=ROOT, capture_output=True, text=True, timeout=30, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        assert done.stderr == ""
        assert done.returncode == 0
        assert done.stdout.splitlines() == [
            "the connection is another process's connect in this process",
            "child ['a']",
            "parent ['a']",
        ]
        assert heard.get(timeout=WAIT_S) == "words"
