"""`kill -9` of the broker, again and again, while two nodes and two programs send to each other."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from shardctl.bench.measure import now_ns
from shardctl.bench.worker import Worker
from shardctl.supervisor.backoff import BACKOFF_FIRST_S
from tests.bench.kill_roles import SETTLE_MAX_S
from tests.bench.lines import ROOT
from tests.bench.own import Check, Limit
from tests.bench.tally import judge
from tests.support.broker_rig import Rig

KILLS: Final = 20
KILLS_QUICK: Final = 3
RATE_S: Final = 5000.0
EVERY_S: Final = 2.0
"""From serving again to the next kill."""
QUIET_S: Final = 1.0
SHARDS: Final = 4
GUILDS: Final = tuple((number << 22) * 7 + 1 for number in (1, 2))
UNREACHABLE: Final = "Undeliverable E_UNREACHABLE"
"""How a message ends for a program that registers with the new broker later than its sender."""
PROGRAMS: Final = ("p", "q")


def kills(quick: bool) -> dict[str, float]:
    """What was lost, handled twice, out of order, and how long nothing was served."""
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        return Ordeal(Path(folder)).run(KILLS_QUICK if quick else KILLS)


class Ordeal:
    """One fleet and its broker's deaths."""

    def __init__(self, folder: Path, rate_s: float = RATE_S) -> None:
        self._folder, self._rate_s = folder, rate_s
        self._killed: list[int] = []
        self._back: list[float] = []

    def run(self, kills: int) -> dict[str, float]:
        """``kills`` deaths; the figures."""
        with Rig(self._folder, shards=SHARDS, nodes=2) as rig, self._members(rig) as members:
            procs = self._procs
            started = time.monotonic()
            for member in members.values():
                member.say()
            time.sleep(QUIET_S)
            for _ in range(kills):
                self._kill(rig, procs)
                time.sleep(EVERY_S)
            span_s = time.monotonic() - started
            told = _each(members.values(), SETTLE_MAX_S + 10)
            heard = _each(members.values(), 10)
        return self._figures(told, heard, span_s)

    @contextlib.contextmanager
    def _members(self, rig: Rig) -> Iterator[dict[str, Worker]]:
        rig.launch()
        rig.hear("serving")
        lines = [rig.hear("spawn") for _ in range(rig.record["nodes"])]
        nodes = {line["name"].removeprefix("node:"): line for line in lines}
        names = [*nodes, *PROGRAMS]
        with contextlib.ExitStack() as stack:
            members = {}
            for name in names:
                targets = [f"node:{other}" for other in names if other != name]
                targets += [f"shard:{shard}" for shard in range(SHARDS)]
                targets += [f"guild:{guild}" for guild in GUILDS]
                members[name] = Worker(
                    "tests.bench.kill_roles:member",
                    ROOT,
                    endpoint=rig.endpoint,
                    name=name,
                    targets=targets,
                    rate_s=self._rate_s / len(names),
                    node=nodes.get(name),
                )
                stack.enter_context(members[name])
            self._procs = [_proc(line, members[name].pid) for name, line in nodes.items()]
            for proc in self._procs:
                rig.say({"ev": "spawned", **{key: proc[key] for key in ("name", "epoch", "pid")}})
            for member in members.values():
                member.hear()
            yield members

    def _kill(self, rig: Rig, procs: list[dict[str, Any]]) -> None:
        self._killed.append(now_ns())
        rig.kill()
        time.sleep(BACKOFF_FIRST_S)  # as the supervisor does for one that lived
        rig.launch(procs)
        rig.hear("serving")
        self._back.append((now_ns() - self._killed[-1]) / 1e9)

    def _figures(
        self, told: Sequence[dict[str, Any]], heard: Sequence[dict[str, Any]], span_s: float
    ) -> dict[str, float]:
        acked: dict[str, Any] = {}
        for member in told:
            acked |= {**member["acked"], **member["replied"]}
        verdict = judge(acked, heard)
        ended: Counter[str] = sum((Counter(member["ended"]) for member in told), Counter())
        served = [
            max(_first_after(killed, member["served"]) for member in told)
            for killed in self._killed
        ]
        return {
            "kills": len(self._killed),
            "acked": verdict.acked,
            "acked_s": verdict.acked / span_s,
            "lost": verdict.lost,
            "twice": verdict.twice,
            "late": verdict.late,
            "left": sum(member["left"] for member in told),
            "unreachable": ended.pop(UNREACHABLE, 0),
            "undelivered": sum(ended.values()),
            "serving_max_s": max(served),
            "serving_median_s": statistics.median(served),
            "broker_max_s": max(self._back),
        }


def _proc(line: dict[str, Any], pid: int) -> dict[str, Any]:
    keys = ("name", "epoch", "index", "shards", "num_shards")
    return {key: line[key] for key in keys} | {"pid": pid, "uptime_s": 1.0}


def _each(members: Any, within_s: float) -> list[dict[str, Any]]:
    for member in members:
        member.say()
    return [member.hear(within_s) for member in members]


def _first_after(moment_ns: int, served: Sequence[Sequence[int]]) -> float:
    """Seconds from a moment until something was acknowledged that was sent after it."""
    done = [acked_ns for sent_ns, acked_ns in served if sent_ns >= moment_ns]
    return (min(done) - moment_ns) / 1e9 if done else float("inf")


CHECK: Final = Check(
    "kills",
    "kill -9 of the broker 20 times under 5,000 messages/s",
    kills,
    (
        Limit("lost", 0),
        Limit("twice", 0),
        Limit("late", 0),
        Limit("left", 0),
        Limit("undelivered", 0),
        Limit("serving_max_s", 2.0),
        Limit("acked_s", 4500.0, at_most=False),
    ),
)
