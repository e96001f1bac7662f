"""What a node costs over plain disnake: anonymous memory, and CPU for each event.

    python tests/bench/node_cost.py [--pairs 10] [--seconds 4] [--events-per-s 600]

Runs the same bot plain and as a node (off the sandbox's witness, its journal on, as in
production) in interleaved pairs, the order turned round each time, each on a sandbox of its own. Memory is
RssAnon after the load, CPU is user and system time over the load. Exits 1 over the limits.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.node.fake_broker import FakeBroker  # noqa: E402
from tests.node.processes import BOTS, NodeProcess, environment, node  # noqa: E402
from tests.support.sandbox import call, sandbox_process  # noqa: E402
from tests.support.waiting import wait_for  # noqa: E402

MEMORY_LIMIT_BYTES = 15 << 20
CPU_LIMIT = 1.10
SETTLE_S = 3.0
"""After ready: the command sync and disnake's own start-up are over."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Of one run. ``cpu_us`` is for one event."""

    anon_bytes: int
    cpu_us: float
    events: int
    heard: int


def heard(process: NodeProcess) -> int:
    """Messages that the bot's handler has counted, in hundreds."""
    return process.output.count("a hundred messages")


def anon_bytes(pid: int) -> int:
    """proc(5), /proc/pid/status, RssAnon."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon; this measures on Linux")


def cpu_s(pid: int) -> float:
    """User and system time of all threads: the sum of schedstat, in nanoseconds there."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


@contextmanager
def plain(info: dict[str, Any], folder: Path) -> Iterator[NodeProcess]:
    env = environment("ipc:///none", BOTS, "bench.py")
    env = {k: v for k, v in env.items() if not k.startswith("SHARDCTL_")}
    log = folder / "plain.log"
    with log.open("wb") as stream:
        popen = subprocess.Popen(
            [sys.executable, "-P", str(BOTS / "bench.py")],
            cwd=BOTS,
            env={**env, "DISCORD_TOKEN": info["token"], "BENCH_API_BASE": info["rest_url"]},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        # A broker that nobody talks to: the same company on the machine as a node has.
        with FakeBroker(f"ipc://{folder}/b.sock"):
            yield NodeProcess(popen, log, -1)
    finally:
        popen.kill()
        popen.wait()


@contextmanager
def fleet(info: dict[str, Any], folder: Path) -> Iterator[NodeProcess]:
    with (
        FakeBroker(f"ipc://{folder}/b.sock") as broker,
        node(
            broker,
            BOTS,
            "bench.py",
            shards=(0,),
            num_shards=1,
            DISCORD_TOKEN=info["token"],
            SHARDCTL_API_BASE=info["rest_url"],
            SHARDCTL_JOURNAL_DIR=str(folder / "journal"),
        ) as process,
    ):
        yield process


def measure(kind: str, options: argparse.Namespace) -> Cost:
    """One run of one kind."""
    start = {"plain": plain, "node": fleet}[kind]
    argv = ("--guilds", "50", "--shards", "1", "--identify-window-s", "0.1")
    with (
        tempfile.TemporaryDirectory() as folder,
        sandbox_process(*argv) as info,
        start(info, Path(folder)) as process,
    ):
        process.says("ready [bench]")
        time.sleep(SETTLE_S)
        pid = process.popen.pid
        before_s, sent_before = cpu_s(pid), call(info, "/audit")["events_sent"]
        load(info, options)
        used_s = cpu_s(pid) - before_s
        events = call(info, "/audit")["events_sent"] - sent_before
        return Cost(anon_bytes(pid), used_s / events * 1e6, events, heard(process))


def load(info: dict[str, Any], options: argparse.Namespace) -> None:
    """Events at the rate, until the sandbox has sent them all."""
    body = {"events_per_s": options.events_per_s, "seconds": options.seconds}
    number = call(info, "/load", body)["id"]
    wait_for("the load's end", lambda: call(info, f"/load/{number}")["done"], options.seconds + 30)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--events-per-s", type=float, default=600.0)
    options = parser.parse_args()
    memory, ratios = [], []
    for pair in range(options.pairs):
        order = ("plain", "node") if pair % 2 == 0 else ("node", "plain")
        costs = {kind: measure(kind, options) for kind in order}
        a, b = costs["plain"], costs["node"]
        memory.append(b.anon_bytes - a.anon_bytes)
        ratios.append(b.cpu_us / a.cpu_us)
        print(
            f"pair {pair + 1:2}: anonymous {a.anon_bytes / 2**20:6.1f} -> "
            f"{b.anon_bytes / 2**20:6.1f} MiB, CPU/event {a.cpu_us:6.1f} -> {b.cpu_us:6.1f} us "
            f"({ratios[-1]:.3f}x), {a.events} and {b.events} events, "
            f"{a.heard}00 and {b.heard}00 messages heard",
            flush=True,
        )
    more, ratio = statistics.median(memory), statistics.median(ratios)
    print(f"median: {more / 2**20:+.1f} MiB anonymous, {ratio:.3f}x CPU/event")
    return 0 if more <= MEMORY_LIMIT_BYTES and ratio <= CPU_LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
