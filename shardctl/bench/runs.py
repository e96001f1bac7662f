"""One measurement each: starts its processes, ends them, returns figures."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, Final

from shardctl.bench.measure import rate_between
from shardctl.bench.worker import Worker

Figures = dict[str, float]
Tick = Callable[[float], None]
"""Told how many seconds of a measurement are over."""

IN_FLIGHT: Final = 64
SETTLE_S: Final = 0.5
"""Until queues and windows have their size."""
SERVICE_US: Final = 5
PRIORITY_GAP_S: Final = 0.003
_TICK_S: Final = 0.1
_LOADS: Final = "shardctl.bench.loads"


def no_tick(_elapsed_s: float) -> None:
    """For those who do not look."""


class Group:
    """The processes of one measurement, with names and a topic that nobody else uses."""

    def __init__(self, stack: contextlib.ExitStack, endpoint: str, uvloop: bool = False) -> None:
        self._stack = stack
        self._endpoint = endpoint
        self._uvloop = uvloop
        self.topic = f"bench.{os.getpid()}"

    def name(self, role: str) -> str:
        """The node's name for a role."""
        return f"bench-{os.getpid()}-{role}"

    def start(self, role: str, name: str, **arguments: Any) -> Worker:
        """A process that has connected."""
        worker = Worker(
            f"{_LOADS}:{role}",
            endpoint=self._endpoint,
            name=self.name(name),
            uvloop=self._uvloop,
            **arguments,
        )
        self._stack.enter_context(worker)
        worker.hear()
        return worker

    def receiver(self, service_us: int = 0) -> Worker:
        """A node that handles the topic and answers."""
        return self.start("receive", "r", topic=self.topic, service_us=service_us)

    def flooder(self, lane: str, **arguments: Any) -> Worker:
        """A node that publishes as fast as it can once it is told."""
        return self.start("drive", "f", flood={"topic": self.topic, "lane": lane}, **arguments)


def publish(
    endpoint: str, seconds: float, tick: Tick = no_tick, *, lane: str = "normal", **options: Any
) -> Figures:
    """One sender to one receiver; messages per second."""
    with contextlib.ExitStack() as stack:
        group = Group(stack, endpoint, **options)
        receiver, sender = group.receiver(), group.flooder(lane)
        sender.say()
        sender.hear()
        start_ns, end_ns = _span(seconds, tick)
        sender.say()
        sent = sender.hear()["sent"]
        receiver.say()
        taken = receiver.hear()
    rate = rate_between(taken["samples"], start_ns, end_ns)
    return {"msgs_s": rate, "sent": sent, "received": taken["count"]}


def request(
    endpoint: str, count: int, *, in_flight: int = 1, tick: Tick = no_tick, **options: Any
) -> Figures:
    """One requester and one responder."""
    with contextlib.ExitStack() as stack:
        group = Group(stack, endpoint, **options)
        group.receiver()
        ask = {"target": group.name("r"), "count": count, "in_flight": in_flight}
        return _asked(group, ask=ask, tick=tick)


def gather(
    endpoint: str, nodes: int, count: int, *, tick: Tick = no_tick, **options: Any
) -> dict[str, Any]:
    """``nodes`` responders, and everybody else in the fleet, asked all at once."""
    with contextlib.ExitStack() as stack:
        group = Group(stack, endpoint, **options)
        names = [f"g{place}" for place in range(nodes)]
        for name in names:
            group.start("receive", name, topic=f"{group.topic}.{name}")
        wanted = {"count": count, "expected": [group.name(name) for name in names]}
        return _asked(group, gather=wanted, tick=tick)


def priority(
    endpoint: str, seconds: float, count: int, tick: Tick = no_tick, **options: Any
) -> Figures:
    """High-lane requests to a node that a low-lane flood saturates.

    The flood comes from another node (``other_``), then from the requester (``same_``);
    ``_keeps`` is the receiver's rate during the requests, divided by that of the flood alone.
    """
    with contextlib.ExitStack() as stack:
        group = Group(stack, endpoint, **options)
        receiver = group.receiver(SERVICE_US)
        ask = {"target": group.name("r"), "count": count, "gap_s": PRIORITY_GAP_S}
        quiet = _asked(group, ask=ask, tick=tick)
        with group.flooder("low") as flooder:
            flooder.say()
            flooder.hear()
            time.sleep(SETTLE_S)
            alone = _span(seconds, tick)
            other = _asked(group, ask=ask, tick=tick)
            _stop(flooder)
        with group.flooder("low", ask={**ask, "settle_s": SETTLE_S}) as both:
            both.say()
            same = both.hear()
            _stop(both)
        receiver.say()
        samples = receiver.hear()["samples"]
    figures = {f"quiet_{key}": quiet[key] for key in ("p50_us", "p99_us")}
    alone_s = figures["flood_msgs_s"] = rate_between(samples, *alone)
    for name, asked in (("other", other), ("same", same)):
        figures |= _compared(name, asked, quiet)
        rate = rate_between(samples, int(asked["start_ns"]), int(asked["end_ns"]))
        figures[f"{name}_keeps"] = rate / alone_s if alone_s else 0.0
    return figures


def _compared(name: str, asked: Figures, quiet: Figures) -> Figures:
    figures = {f"{name}_{key}": asked[key] for key in ("p50_us", "p99_us")}
    ratios = {f"{name}_{key}": asked[f"{key}_us"] / quiet[f"{key}_us"] for key in ("p50", "p99")}
    return figures | ratios


def _asked(group: Group, tick: Tick, **arguments: Any) -> Figures:
    """What the asking of one process of its own gave."""
    with group.start("drive", "a", **arguments) as asker:
        asker.say()
        tick(0.0)
        result = dict(asker.hear())
        _stop(asker)
    return result


def _stop(worker: Worker) -> None:
    worker.say()
    worker.hear()


def _span(seconds: float, tick: Tick) -> tuple[int, int]:
    """Lets a measurement run; its first and last moment."""
    start_ns = time.monotonic_ns()
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(_TICK_S, left_s))
        tick(seconds - left_s)
    return start_ns, time.monotonic_ns()
