"""What ``apply`` costs, in microseconds, on rows in memory: no LMDB, no sockets.

    python tests/bench/apply_cost.py [--count 20000] [--runs 5]

Prints the median of the runs for a transfer, one as the broker applies it, a value, a logged
cooldown, a short one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from broker.core.overlay import Overlay
from broker.core.stateport import MemoryPort
from shard_node.state.buckets import Buckets
from shard_node.state.cooldowns import AcquireCooldown
from shard_node.state.economy import Deposit, Transfer
from shard_node.state.machine import apply, encode_tx, read_tx
from shard_node.state.tx import Tx
from shard_node.state.values import SetValue
from tests.support.state import START_MS, World

ACCOUNTS = 100
GROUP = 100
"""Transactions in one commit of the broker's."""
NAMES = 1000


def transactions(make: Callable[[int], object], count: int) -> float:
    """Microseconds for each of ``count``."""
    world = World()
    for number in range(ACCOUNTS):
        world.do(Deposit(f"user:{number}", 1_000_000))
    txs: list[Tx] = [world.tx(make(number)) for number in range(count)]
    began = time.perf_counter()
    for tx in txs:
        applied = apply(world.view, world, tx, START_MS, world.place)
        assert applied.entry is not None
        world.view.write(applied.writes)
        world.entries[applied.lsn] = applied.entry
        world.place = world.place._replace(lsn=applied.lsn, digest=applied.entry.digest)
    return (time.perf_counter() - began) / count * 1e6


def through_the_broker(count: int) -> float:
    """Microseconds for each of ``count`` transfers, from their bytes to the overlay's layer: as
    ``broker.services.state`` does it, with commits that cost nothing."""
    world, port = World(), MemoryPort()
    for number in range(NAMES):
        applied = world.do(Deposit(f"user:{number}", 1_000_000))
        assert applied.entry is not None
        port.commit(applied.writes, [applied.entry])
    overlay = Overlay(port)
    sent = []
    for n in range(count):
        tx = world.tx(Transfer(f"user:{n * 7 % NAMES}", f"user:{(n * 7 + 1) % NAMES}", 1))
        sent.append(encode_tx(tx))
    spent = 0.0
    for begin in range(0, count, GROUP):
        began = time.perf_counter()
        for data in sent[begin : begin + GROUP]:
            tx = read_tx(data)
            applied = apply(overlay, overlay, tx, START_MS, overlay.place)
            overlay.add(applied)
        spent += time.perf_counter() - began
        layer = overlay.seal()
        port.commit(layer.writes, layer.entries)
        overlay.committed()
    return spent / count * 1e6


def short_cooldowns(count: int) -> float:
    """Microseconds for each of ``count``, of 5,000 users."""
    buckets = Buckets()
    began = time.perf_counter()
    for number in range(count):
        buckets.acquire(f"user:{number % 5000}", 1, 30_000, number)
    return (time.perf_counter() - began) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    kinds: dict[str, Callable[[], float]] = {
        "transfer": lambda: transactions(
            lambda n: Transfer(f"user:{n % ACCOUNTS}", f"user:{(n + 1) % ACCOUNTS}", 1), given.count
        ),
        "of the broker": lambda: through_the_broker(given.count),
        "value": lambda: transactions(lambda n: SetValue(f"v{n % ACCOUNTS}", n), given.count),
        "logged cooldown": lambda: transactions(
            lambda n: AcquireCooldown(f"daily:{n}", 1, 90_000), given.count
        ),
        "short cooldown": lambda: short_cooldowns(given.count),
    }
    for name, measure in kinds.items():
        print(f"{name:16} {statistics.median(measure() for _ in range(given.runs)):6.1f} us")


if __name__ == "__main__":
    main()
