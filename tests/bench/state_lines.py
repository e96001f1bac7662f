"""The lines of the shared state, against Redis."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Final

from shardctl.bench.measure import percentile
from tests.bench import lines
from tests.bench.contenders.state_base import BALANCES, CONFIG
from tests.bench.lines import RUN_MAX_S, Bound, Contender, Figures, Goal, Line, worker_of
from tests.bench.own import Limit

PAYERS: Final = 4
TRANSFER_P99_MAX_MS: Final = 20.0

REDIS_DISK: Final = Contender("redis-py asyncio, Lua", "redis_disk")
REDIS_DISK_UV: Final = Contender("redis-py uvloop, Lua", "redis_disk", uvloop=True)
REDIS: Final = Contender("redis-py asyncio, Lua", "redis_memory")
REDIS_UV: Final = Contender("redis-py uvloop, Lua", "redis_memory", uvloop=True)
REDIS_READ: Final = Contender("redis-py GET", "redis_memory")
OURS: Final = Contender("shardctl asyncio", "ours_state")
OURS_UV: Final = Contender("shardctl uvloop", "ours_state", uvloop=True)
OURS_READ: Final = Contender("shardctl", "ours_state")
BARE: Final = Contender("bare request, asyncio", "ours_peer")
BARE_UV: Final = Contender("bare request, uvloop", "ours_peer", uvloop=True)


_worker = partial(worker_of, roles="state_roles")


def transfers(in_flight: int, contender: Contender, address: str, count: int) -> Figures:
    """``count`` durable transfers, ``in_flight`` at any time, from up to four processes."""
    payers, run = min(PAYERS, in_flight), secrets.token_hex(4)
    shares = {"count": count // payers, "in_flight": in_flight // payers}
    workers = [
        _worker(contender, "payer", address, name=f"p{run}-{place}", **shares)
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


def cooldowns(in_flight: int, contender: Contender, address: str, count: int) -> Figures:
    """Checks of short cooldowns by one process; beside them, a request between two clients."""
    if contender in (BARE, BARE_UV):
        return lines.request_one(contender, address, count)
    arguments = {"count": count, "in_flight": in_flight, "name": f"c{secrets.token_hex(4)}"}
    with _worker(contender, "checker", address, **arguments) as worker:
        return worker.hear(RUN_MAX_S)


def reads(what: str, contender: Contender, address: str, count: int) -> Figures:
    """Reads of one process, each decoded."""
    arguments = {"count": count, "what": what, "name": f"r{secrets.token_hex(4)}"}
    with _worker(contender, "reader", address, **arguments) as worker:
        return worker.hear(RUN_MAX_S)


def _transfers(in_flight: int, count: int, goals: tuple[Goal, ...], p99: bool) -> Line:
    limit = Limit("p99_ms", TRANSFER_P99_MAX_MS)
    return Line(
        f"transfers-{in_flight}",
        f"durable transfers, {in_flight} in flight" + (f", {PAYERS} processes" * (in_flight > 1)),
        partial(transfers, in_flight),
        dict.fromkeys((REDIS_DISK, REDIS_DISK_UV, OURS, OURS_UV), count),
        goals,
        tuple(Bound(ours, limit) for ours in (OURS, OURS_UV)) if p99 else (),
    )


def _reads(what: str) -> Line:
    return Line(
        f"read-{what}",
        f"local read with decoding: a {what}",
        partial(reads, what),
        {REDIS_READ: 20_000, OURS_READ: 400_000},
        (Goal("p50_us", REDIS_READ, OURS_READ, 25.0),),
    )


def _pairs(figure: str, redis: tuple[Contender, Contender], limit: float) -> tuple[Goal, ...]:
    """Ours on each event loop against Redis on the same."""
    pairs = zip((OURS, OURS_UV), redis, strict=True)
    return tuple(Goal(figure, ours, peer, limit) for ours, peer in pairs)


_DISK: Final = (REDIS_DISK, REDIS_DISK_UV)

STATE_LINES: Final = (
    _reads(CONFIG),
    _reads(BALANCES),
    _transfers(
        1,
        800,
        tuple(
            Goal("p50_ms", ours, redis, 2.0, at_most=True)
            for ours, redis in ((OURS, REDIS_DISK), (OURS_UV, REDIS_DISK_UV))
        ),
        p99=False,
    ),
    _transfers(64, 8_000, _pairs("transfers_s", _DISK, 1.3), p99=True),
    _transfers(256, 16_000, _pairs("transfers_s", _DISK, 2.0), p99=True),
    Line(
        "cooldown-1",
        "cooldown check, one at a time, beside a bare request and its reply",
        partial(cooldowns, 1),
        dict.fromkeys((BARE, BARE_UV, REDIS, REDIS_UV, OURS, OURS_UV), 4000),
        tuple(
            Goal("p50_us", ours, bare, 1.3, at_most=True)
            for ours, bare in ((OURS, BARE), (OURS_UV, BARE_UV))
        ),
    ),
    Line(
        "cooldown-64",
        "cooldown check, 64 in flight",
        partial(cooldowns, 64),
        {REDIS: 12_800, REDIS_UV: 12_800, OURS: 38_400, OURS_UV: 38_400},
        _pairs("checks_s", (REDIS, REDIS_UV), 2.0),
    ),
)
