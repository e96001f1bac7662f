"""The lines of the shared state, against Redis."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any, Final

from shardctl.bench.measure import percentile
from shardctl.bench.worker import Worker
from tests.bench.lines import ROOT, RUN_MAX_S, Contender, Figures, Goal, Line

PAYERS: Final = 4
P99_MAX_MS: Final = 20.0

REDIS_DISK: Final = Contender("redis-py asyncio, Lua", "redis_disk")
REDIS_DISK_UV: Final = Contender("redis-py uvloop, Lua", "redis_disk", uvloop=True)
OURS: Final = Contender("shardctl asyncio", "ours_state")
OURS_UV: Final = Contender("shardctl uvloop", "ours_state", uvloop=True)
PAIRS: Final = ((OURS, REDIS_DISK), (OURS_UV, REDIS_DISK_UV))


def _worker(contender: Contender, role: str, address: str, **arguments: Any) -> Worker:
    return Worker(
        f"tests.bench.state_roles:{role}",
        ROOT,
        module=contender.path,
        address=address,
        uvloop=contender.uvloop,
        **arguments,
    )


def transfers(in_flight: int, contender: Contender, address: str, count: int) -> Figures:
    """``count`` durable transfers, ``in_flight`` at any time, from up to four processes."""
    payers = min(PAYERS, in_flight)
    run = secrets.token_hex(4)
    workers = [
        _worker(
            contender,
            "payer",
            address,
            name=f"p{run}-{place}",
            count=count // payers,
            in_flight=in_flight // payers,
        )
        for place in range(payers)
    ]
    try:
        for worker in workers:
            worker.hear()
        for worker in workers:
            worker.say()
        results = [worker.hear(RUN_MAX_S) for worker in workers]
    finally:
        for worker in workers:
            worker.end()
    took_ns = [took for result in results for took in result["took_ns"]]
    first_ns = min(result["first_ns"] for result in results)
    last_ns = max(result["last_ns"] for result in results)
    return {
        "transfers_s": len(took_ns) * 1e9 / (last_ns - first_ns),
        "p50_ms": percentile(took_ns, 0.5) / 1e6,
        "p99_ms": percentile(took_ns, 0.99) / 1e6,
    }


def _transfers(in_flight: int, count: int, goals: tuple[Goal, ...]) -> Line:
    title = f"durable transfers, {in_flight} in flight" + (", 4 processes" * (in_flight > 1))
    return Line(
        f"transfers-{in_flight}",
        title,
        partial(transfers, in_flight),
        dict.fromkeys((REDIS_DISK, REDIS_DISK_UV, OURS, OURS_UV), count),
        goals,
    )


STATE_LINES: Final = (
    _transfers(
        1,
        800,
        tuple(Goal("p50_ms", ours, redis, 2.0, at_most=True) for ours, redis in PAIRS),
    ),
    *(
        _transfers(
            in_flight,
            count,
            tuple(Goal("transfers_s", ours, redis, least) for ours, redis in PAIRS),
        )
        for in_flight, count, least in ((64, 8_000, 1.3), (256, 16_000, 2.0))
    ),
)
